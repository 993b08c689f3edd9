"""Which server a command starts, and with what: vLLM, SGLang, or NVIDIA's containers of either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from scenarios.importers.adapters import MARKS, adapters_in, plain_address
from scenarios.importers.facts import AdapterFacts, ImportSourceError, Said, ServerFacts
from scenarios.importers.servers.command_flags import Flags, flags_of, modules_of
from scenarios.importers.servers.engine_values import ARGUMENTS, SWITCHES, engine_values, notes_on_unknown
from scenarios.importers.servers.sglang_flags import translated
from scenarios.importers.servers.shell_words import UNKNOWN, commands_of
from scenarios.importers.servers.vllm_flags import SILENT, SINGLE, WITHOUT_VALUE

_SERVES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
_SGLANG = "sglang.launch_server"
_SCRIPTS = ("-c", "-lc", "-ec", "-xc", "-exc")
_SHELLS = re.compile(r"(?:.*/)?(?:ba|da|z|k)?sh")
_VLLM = re.compile(rf"(?:.*/)?(?:{UNKNOWN}|\$)?\{{?vllm\}}?", re.IGNORECASE)
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
    """

    server: ServerFacts
    adapters: tuple[AdapterFacts, ...]
    base_names: tuple[str, ...]

    def named(self, name: str) -> CommandFacts:
        """The same of a server of another name."""
        return self._replace(server=replace(self.server, name=name))

    def at(self, address: str) -> CommandFacts:
        """The same of a server that is reached elsewhere than where its process listens."""
        return self._replace(server=replace(self.server, address=address))

    def times(self, replicas: int) -> CommandFacts:
        """The same of several servers that are alike."""
        return self._replace(server=replace(self.server, replicas=self.server.replicas * replicas))

    def holding(self, adapters: tuple[AdapterFacts, ...], notes: Sequence[str]) -> CommandFacts:
        """The same with adapters that its folder holds."""
        names = dict.fromkeys((*self.server.adapters, *(adapter.served_name for adapter in adapters)))
        server = replace(self.server, adapters=tuple(names), notes=(*self.server.notes, *notes))
        return self._replace(server=server, adapters=(*self.adapters, *adapters))


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
    if engine == "SGLang":
        flags, more = translated(rest, origin)
    else:
        flags, more = flags_of(rest, origin, SINGLE, SWITCHES | WITHOUT_VALUE), ()
    unknown = [flag for flag in flags.values if flag not in ARGUMENTS and flag not in SILENT]
    given = {flag: value for flag, value in flags.values.items() if flag in ARGUMENTS}
    values = engine_values(given, origin, flags=True)
    unknown_notes = notes_on_unknown(f"--{flag.replace('_', '-')}" for flag in unknown)
    model, of_model = _model(flags, engine, environment)
    adapters, of_adapters = _adapters(flags, engine, environment, origin, folder)
    names = _names(flags)
    place = _host_and_port(flags, "30000" if engine == "SGLang" else "8000")
    server = ServerFacts(
        name or place,
        origin,
        tuple(dict.fromkeys(adapter.served_name for adapter in adapters)),
        values.engine,
        _replicas(values.engine),
        Said(model, origin) if model else None,
        Said(names[0], f"{origin}, --served-model-name") if names else None,
        program=engine,
        address=f"http://{place}" if place and not place.startswith("localhost:") else "",
        notes=(*more, *values.notes, *unknown_notes, *_of_config(flags), *of_model, *of_adapters),
    )
    return CommandFacts(server, adapters, names)


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
    text = given if isinstance(given, str) else next(iter(flags.loose), "") if engine != "NIM" else ""
    text = text or (environment.get("NIM_MODEL_NAME", "") if engine == "NIM" else "")
    if not text:
        return "", [] if engine == "NIM" else ["Its command names no model."]
    if UNKNOWN in text or text.startswith("$"):
        return "", [f"Its model is {text.replace(UNKNOWN, '$')}, which only a run could tell."]
    return plain_address(text), []


def _adapters(
    flags: Flags, engine: str, environment: Mapping[str, str], origin: str, folder: str
) -> tuple[tuple[AdapterFacts, ...], list[str]]:
    """The adapters of a command, by served name, and what is to be told of them."""
    found: dict[str, AdapterFacts] = {}
    keys = ("lora_name", "lora_path") if engine == "SGLang" else ("name", "path")
    given = flags.values.get("lora_modules")
    notes = []
    if any(UNKNOWN in str(word) for word in (given if isinstance(given, list) else [given])):
        notes.append("Some of its adapters are named by variables, which only a run could tell.")
    for module in modules_of(given, origin, keys) if given is not None else ():
        base = module.get("base_model_name")
        name, path = str(module[keys[0]]), plain_address(str(module[keys[1]]))
        here = _adapter_here(path) if folder else None
        known = AdapterFacts(name, origin) if here is None else replace(here, served_name=name, origin=origin)
        told_base = Said(plain_address(base), origin) if isinstance(base, str) and base else None
        source = Said(path, origin) if path else None
        found[name] = replace(known, source=source, base_model=told_base or known.base_model)
    for variable in ("VLLM_LORA_RESOLVER_CACHE_DIR", "NIM_PEFT_SOURCE"):
        text = environment.get(variable, "")
        if text:
            resolved, told = folder_adapters(text, variable, folder)
            notes += told
            found = {**{adapter.served_name: adapter for adapter in resolved}, **found}
    notes += _runtime(environment)
    return tuple(found.values()), notes


def _adapter_here(path: str) -> AdapterFacts | None:
    """What the folder of an adapter says, if it is on this machine."""
    try:
        is_here = Path(path).is_absolute() and any(Path(path, mark).is_file() for mark in MARKS)
    except (OSError, ValueError):
        return None
    return next(iter(adapters_in(Path(path))[0]), None) if is_here else None


def folder_adapters(text: str, what: str, folder: str) -> tuple[tuple[AdapterFacts, ...], list[str]]:
    """The adapters in a folder that a server reads, if it is there, and what is to be told of them.

    Parameters
    ----------
    text
        Its path.
    what
        What names it.
    folder
        Where a relative path begins; empty: such are not read.
    """
    path = Path(text) if Path(text).is_absolute() or not folder else Path(folder, text)
    try:
        if UNKNOWN not in text and "\0" not in text and path.is_absolute() and path.is_dir():
            adapters, notes = adapters_in(path)
            if adapters:
                return adapters, list(notes)
    except (OSError, ValueError) as error:
        if isinstance(error, ImportSourceError):
            raise
    shown = plain_address(text.replace(UNKNOWN, "$"))
    return (), [f"Adapters are read from {shown} ({what}), which is not here: give that folder too."]


def _runtime(environment: Mapping[str, str]) -> Iterator[str]:
    if environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"):
        yield "It takes adapters while it runs: its answer to /v1/models tells which are loaded."


def _of_config(flags: Flags) -> Iterator[str]:
    if "config" in flags.values:
        yield "Its --config names a file of further arguments, which is not read."


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


def _replicas(engine: Mapping[str, Said[object]]) -> int:
    """Engines behind the server: vLLM's ``--data-parallel-size``."""
    said = engine.get("data_parallel_size")
    return said.value if said is not None and isinstance(said.value, int) and said.value <= 4096 else 1
