"""Which server a command starts, and with what: vLLM, SGLang, or NVIDIA's containers of either."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import AdapterFacts, Said, ServerFacts
from scenarios.importers.images import with_image
from scenarios.importers.servers.command_adapters import adapters_of
from scenarios.importers.servers.command_flags import Flags, flags_of
from scenarios.importers.servers.config_files import Config, config_of
from scenarios.importers.servers.docker_run import Container
from scenarios.importers.servers.engine_values import (
    ARGUMENTS,
    SWITCHES,
    engine_values,
    notes_on_unknown,
    refused,
)
from scenarios.importers.servers.sglang_flags import translated
from scenarios.importers.servers.shell.shell_words import commands_of
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.importers.servers.vllm_flags import SILENT, SINGLE, WITHOUT_VALUE

RUNTIME_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Variable by which vLLM loads and unloads adapters while it runs."""

_SERVES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
_SGLANG = "sglang.launch_server"
_SCRIPTS = ("-c", "-lc", "-ec", "-xc", "-exc")
_SHELLS = re.compile(r"(?:.*/)?(?:ba|da|z|k)?sh")
_VLLM = re.compile(rf"(?:.*/)?(?:{UNKNOWN}|\$)?\{{?vllm\}}?", re.IGNORECASE)
_TAKING_NONE = SWITCHES | WITHOUT_VALUE
_ANYWHERE = ("0.0.0.0", "::", "*", "")


class CommandFacts(NamedTuple):
    """What a command says.

    Parameters
    ----------
    server
        The server that it starts.
    adapters
        The adapters that it names, or that lie in the folder that it names.
    base_names
        Names by which clients ask for the base model.
    has_unknown_port
        Whether its port is one that only a run could tell.
    """

    server: ServerFacts
    adapters: tuple[AdapterFacts, ...]
    base_names: tuple[str, ...]
    has_unknown_port: bool = False

    def of_unknown_number(self) -> CommandFacts:
        """The same of servers of which only a run could tell how many they are."""
        return self._replace(server=replace(self.server, replicas=0))

    def named(self, name: str) -> CommandFacts:
        """The same of a server of another name."""
        return self._replace(server=replace(self.server, name=name))

    def at(self, address: str) -> CommandFacts:
        """The same of a server that is reached elsewhere than where its process listens."""
        return self._replace(server=replace(self.server, address=address))

    def times(self, replicas: int) -> CommandFacts:
        """The same of several servers that are alike."""
        return self._replace(server=replace(self.server, replicas=self.server.replicas * replicas))

    def of_image(self, image: str, origin: str) -> CommandFacts:
        """The same of a server in a container of an image."""
        return self._replace(server=with_image(self.server, image, origin))

    def with_hidden_variables(self) -> CommandFacts:
        """The same of a server that may have variables which are not told."""
        said = self.server.takes_adapters
        return (
            self
            if said is None or said.value
            else self._replace(server=replace(self.server, takes_adapters=None))
        )

    def holding(self, adapters: tuple[AdapterFacts, ...], notes: Sequence[str]) -> CommandFacts:
        """The same with adapters that its folder holds."""
        names = dict.fromkeys((*self.server.adapters, *(adapter.served_name for adapter in adapters)))
        server = replace(self.server, adapters=tuple(names), notes=(*self.server.notes, *notes))
        return self._replace(server=server, adapters=(*self.adapters, *adapters))


class _Told(NamedTuple):
    """What a command's flags say.

    Parameters
    ----------
    flags
        All of them.
    engine
        Arguments that a scenario's engine has.
    notes
        What a user must know.
    origin
        Where the command is.
    elsewhere
        Where flags are that are not on the command itself.
    """

    flags: Flags
    engine: dict[str, Said[object]]
    notes: tuple[str, ...]
    origin: str
    elsewhere: Mapping[str, str] = MappingProxyType({})

    def origin_of(self, flag: str) -> str:
        """Where a flag is."""
        return self.elsewhere.get(flag, self.origin)


class _Start(NamedTuple):
    """A command that starts a server: of what kind, and its words."""

    engine: str
    words: Sequence[str]


def server_of(
    words: Sequence[str], environment: Mapping[str, str], name: str, origin: str
) -> ServerFacts | None:
    """The server that a command starts; None: it starts no vLLM, SGLang or NIM.

    Parameters
    ----------
    words
        The command's, as a process gets them; a script after ``sh -c`` is read.
    environment
        Variables that it gets.
    name
        What the server is called; empty: host and port, if they are said, or else nothing.
    origin
        Where the command is.

    Raises
    ------
    ImportSourceError
        If a flag has a value that no server takes.
    """
    facts = command_facts(words, environment, name, origin)
    return None if facts is None else facts.server


def command_facts(
    words: Sequence[str], environment: Mapping[str, str], name: str, origin: str, folder: str = ""
) -> CommandFacts | None:
    """What a command says of its server and of adapters, with parameters as of `server_of`.

    Parameters
    ----------
    folder
        Where relative paths of its resolver's folder lie; empty: its paths are those of another machine,
        or of a container, and no adapter is looked for there but in a resolver's folder.

    Raises
    ------
    ImportSourceError
        If a flag has a value that no server takes.
    """
    start = _start(words, environment)
    if start is None:
        return None
    engine, rest = start
    told = _told(engine, rest, origin, folder)
    flags, more = told.flags, told.notes
    model, of_model = _model(flags, engine, environment)
    keys = ("lora_name", "lora_path") if engine == "SGLang" else ("name", "path")
    at = told.origin_of("lora_modules")
    adapters, of_adapters = adapters_of(flags.values.get("lora_modules"), keys, environment, at, folder)
    names = _names(flags)
    place = _host_and_port(flags, "30000" if engine == "SGLang" else "8000")
    server = ServerFacts(
        name or place,
        origin,
        tuple(dict.fromkeys(adapter.served_name for adapter in adapters)),
        told.engine,
        _replicas(told.engine),
        Said(model, told.origin_of("model")) if model else None,
        Said(names[0], f"{told.origin_of('served_model_name')}, --served-model-name") if names else None,
        program=engine,
        address=f"http://{place}" if place and not place.startswith("localhost:") else "",
        notes=(*more, *of_model, *of_adapters),
        takes_adapters=_takes_adapters(environment, origin) if engine == "vLLM" else None,
    )
    port = flags.values.get("port")
    return CommandFacts(server, adapters, names, isinstance(port, str) and UNKNOWN in port)


def container_facts(container: Container, name: str, origin: str) -> CommandFacts | None:
    """What ``docker run`` says of a server, with parameters as of `server_of`.

    Raises
    ------
    ImportSourceError
        If a flag has a value that no server takes.
    """
    facts = command_facts(container.words, container.environment, name, origin)
    if facts is None:
        return None
    facts = facts.at(container.address).of_image(container.image, origin)
    return facts.with_hidden_variables() if container.has_hidden_variables else facts


def _told(engine: str, words: Sequence[str], origin: str, folder: str) -> _Told:
    """What a command says itself, and what its file of arguments says that it does not.

    Raises
    ------
    ImportSourceError
        If a flag has a value that no server takes.
    """
    if engine == "SGLang":
        return _taken(*translated(words, origin), origin)
    config = config_of(words, origin, folder) if engine == "vLLM" else Config((), "")
    own = _taken(flags_of(words, origin, SINGLE, _TAKING_NONE), config.notes, origin)
    if not config.words:
        return own
    file = _taken(flags_of(config.words, config.origin, SINGLE, _TAKING_NONE), (), config.origin)
    if file.flags.loose:  # they are not shown: one may be a key
        raise refused(config.origin, "gives an argument more values than it takes", "give it one")
    elsewhere = dict.fromkeys(file.flags.values.keys() - own.flags.values.keys(), config.origin)
    if own.flags.loose:
        elsewhere.pop("model", None)
    return _Told(
        Flags({**file.flags.values, **own.flags.values}, own.flags.loose),
        {**file.engine, **own.engine},
        (*own.notes, *file.notes),
        origin,
        elsewhere,
    )


def _taken(flags: Flags, notes: Sequence[str], origin: str) -> _Told:
    """What flags say that are all of one place."""
    unknown = [flag for flag in flags.values if flag not in ARGUMENTS and flag not in SILENT]
    given = {flag: value for flag, value in flags.values.items() if flag in ARGUMENTS}
    values = engine_values(given, origin, flags=True)
    of_unknown = notes_on_unknown(f"--{flag.replace('_', '-')}" for flag in unknown)
    return _Told(flags, values.engine, (*notes, *values.notes, *of_unknown), origin)


def _start(words: Sequence[str], environment: Mapping[str, str], depth: int = 0) -> _Start | None:
    """Find the command that starts a server."""
    for k, word in enumerate(words):
        after = words[k + 1] if k + 1 < len(words) else ""
        if after == "serve" and _VLLM.fullmatch(word):
            return _Start("vLLM", words[k + 2 :])
        if word == "-m" and after in _SERVES:
            return _Start("vLLM", words[k + 2 :])
        if (word == "-m" and after == _SGLANG) or (after == "serve" and Path(word).name == "sglang"):
            return _Start("SGLang", words[k + 2 :])
        if word in _SCRIPTS and k and depth < 3 and _SHELLS.fullmatch(words[k - 1]):
            for command in commands_of(after, environment):
                found = _start(command.words, environment, depth + 1)
                if found is not None:
                    return found
    if "NIM_PEFT_SOURCE" in environment or "NIM_MODEL_NAME" in environment:
        return _Start("NIM", words)
    return None


def _model(flags: Flags, engine: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """The base model that is served, and what is to be told of it."""
    given = flags.values.get("model")
    text = given if isinstance(given, str) else ""
    if engine != "NIM" and flags.loose and (engine == "vLLM" or not text):
        # Of vLLM's command that word counts before --model (vllm/entrypoints/cli/serve.py, 0.32.0).
        text = flags.loose[0]
    text = text or (environment.get("NIM_MODEL_NAME", "") if engine == "NIM" else "")
    if not text:
        return "", [] if engine == "NIM" else ["Its command names no model."]
    if UNKNOWN in text or text.startswith("$"):
        return "", [f"Its model is {text.replace(UNKNOWN, '$')}, which only a run could tell."]
    return plain_address(text), []


def _names(flags: Flags) -> tuple[str, ...]:
    given = flags.values.get("served_model_name")
    words = given if isinstance(given, list) else [given] if isinstance(given, str) else []
    return tuple(plain_address(word) for word in words if word and UNKNOWN not in word)


def _host_and_port(flags: Flags, port: str) -> str:
    """Where it listens, as far as that is said plainly: at ``localhost`` if at any address.

    Parameters
    ----------
    flags
        Those of its command.
    port
        Where it listens if it is not told otherwise.
    """
    told_host, told_port = flags.values.get("host", ""), flags.values.get("port", port)
    if "host" not in flags.values and "port" not in flags.values:
        return ""
    if not isinstance(told_port, str) or not re.fullmatch(r"\d{1,5}", told_port, re.ASCII):
        return ""
    if not isinstance(told_host, str) or not re.fullmatch(r"[\w.:*-]{0,253}", told_host):
        return ""
    if told_host in _ANYWHERE:
        return f"localhost:{told_port}"
    return f"[{told_host}]:{told_port}" if ":" in told_host else f"{told_host}:{told_port}"


def _takes_adapters(environment: Mapping[str, str], origin: str) -> Said[bool] | None:
    """Whether vLLM loads adapters while it runs (vllm/envs.py, 0.8.5 and 0.32.0); None: a run would tell."""
    text = environment.get(RUNTIME_UPDATING, "0")
    if UNKNOWN in text or text.startswith("$"):
        return None
    return Said(text.strip().lower() in ("1", "true"), f"{origin}, {RUNTIME_UPDATING}")


def _replicas(engine: Mapping[str, Said[object]]) -> int:
    """Engines behind the server: vLLM's ``--data-parallel-size``."""
    said = engine.get("data_parallel_size")
    return said.value if said is not None and isinstance(said.value, int) and said.value <= 4096 else 1
