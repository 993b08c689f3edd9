"""Files of Docker Compose with services that are servers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.servers.command_adapters import folder_adapters
from scenarios.importers.servers.compose.env_files import joined_variables, variables_in
from scenarios.importers.servers.compose.interpolation import Interpolation
from scenarios.importers.servers.docker_run import image_words, published_address
from scenarios.importers.servers.server_sets import facts_of
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.importers.servers.source_places import count_at, list_at, located, mapping_at, yaml_mapping
from scenarios.importers.servers.vllm_command import CommandFacts, command_facts
from scenarios.importers.source import Kind, Source
from scenarios.text.display import visible
from scenarios.text.formatting import listed, shortened, shown


def _fits(source: Source) -> bool:
    head = source.head
    return bool(
        not source.is_folder
        and re.search(rb'^(?:\{\s*)?"?services"?[ \t]*:', head, re.MULTILINE)
        and not re.search(rb"^apiVersion[ \t]*:", head, re.MULTILINE)
        and re.search(rb"vllm|sglang|NIM_|nvcr\.io/nim", head, re.IGNORECASE)
    )


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    services = mapping_at(source, yaml_mapping(source).get("services"), "services")
    variables = _beside(source)
    put = Interpolation(variables)
    servers: list[CommandFacts] = []
    notes: list[str] = []
    with located(source):
        for name, value in services.items():
            place = f"services.{shortened(name)}"
            service = _Service(source, name, place, mapping_at(source, value, place), put)
            servers += service.server(variables, notes)
    if not servers:
        raise source.error("has no service that runs vLLM, SGLang or NIM", "give another file", "services")
    if put.used:
        told = listed(sorted(put.used), 5)
        notes.append(f"{told}: as .env beside it says; what a shell sets would count before it.")
    return facts_of(COMPOSE_FILE.name, servers, notes)


def _beside(source: Source) -> dict[str, str]:
    """Variables of the file ``.env`` beside a file of Compose that uses any."""
    path = source.path.absolute().parent / ".env"
    return variables_in(path, {}) if "$" in source.text and path.is_file() else {}


class _Service:
    """A service, whose texts have their variables put in as they are read.

    Parameters
    ----------
    source
        The file.
    name, place
        Its name, and where it is.
    values
        What it says.
    put
        Puts in what is known of variables.
    """

    def __init__(
        self, source: Source, name: str, place: str, values: Mapping[str, object], put: Interpolation
    ) -> None:
        self._source, self._name, self._place, self._values = source, name, place, values
        self._put = put

    def server(self, variables: Mapping[str, str], notes: list[str]) -> Iterator[CommandFacts]:
        """Yield what it says of a server, if it is one.

        Parameters
        ----------
        variables
            Those that values of its ``env_file`` may use.
        notes
            Gets what a user must know of a server's files.
        """
        source, values = self._source, self._values
        image = values.get("image")
        image = self._put(image) if isinstance(image, str) else ""
        folder = source.path.absolute().parent
        environment, missing = joined_variables(self._env_files(), folder, variables)
        environment |= self._environment()
        entrypoint, command = (self._words(key) for key in ("entrypoint", "command"))
        if "nvcr.io/nim" in image:
            environment.setdefault("NIM_MODEL_NAME", "")
        is_nim = "NIM_PEFT_SOURCE" in environment or "NIM_MODEL_NAME" in environment
        words = [*entrypoint, *command] if is_nim else image_words(image, entrypoint, command)
        peft = self._peft_folder(environment) if is_nim else ""
        inside = {k: v for k, v in environment.items() if k != "NIM_PEFT_SOURCE"}
        inside |= {"NIM_PEFT_SOURCE": ""} if is_nim else {}
        facts = command_facts(words, inside, self._name, f"{source.path.name}, {self._place}")
        if facts is None:
            return
        facts = facts.of_image(image, f"{source.path.name}, {self._place}.image")
        if missing or self._has_hidden_variables():
            facts = facts.with_hidden_variables()
        if peft:
            facts = facts.holding(*folder_adapters(peft, "NIM_PEFT_SOURCE", str(folder)))
        told = [shortened(visible(one.replace(UNKNOWN, "$"))) for one in missing]
        notes += [f"{shortened(self._name)}: its env_file {one} is not here." for one in told]
        deploy = mapping_at(source, values.get("deploy"), f"{self._place}.deploy")
        count = count_at(
            source, deploy.get("replicas", values.get("scale")), f"{self._place}.deploy.replicas"
        )
        ports = list_at(source, values.get("ports"), f"{self._place}.ports")
        facts = facts.at(published_address([self._put(port) for port in ports if isinstance(port, str)]))
        yield facts.times(count)

    def _env_files(self) -> list[tuple[str, bool]]:
        """Paths of its files of variables, and whether they are raw."""
        value, place = self._values.get("env_file"), f"{self._place}.env_file"
        entries = (value,) if isinstance(value, str) else list_at(self._source, value, place)
        found = []
        for k, entry in enumerate(entries):
            told = entry if isinstance(entry, dict) else {"path": entry}
            path = told.get("path")
            if not isinstance(path, str) or not path:
                raise self._source.error(f"is {shown(path)}", "give a path", place=f"{place}[{k}]")
            found.append((self._put(path), told.get("format") == "raw"))
        return found

    def _peft_folder(self, environment: Mapping[str, str]) -> str:
        """Folder of the host that a container of NIM reads adapters from; empty: none is told."""
        target = environment.get("NIM_PEFT_SOURCE", "")
        if not target:
            return ""
        for volume in list_at(self._source, self._values.get("volumes"), f"{self._place}.volumes"):
            if isinstance(volume, dict):
                told: tuple[object, ...] = (volume.get("source"), volume.get("target"))
            else:
                told = (*str(volume).split(":"), "")
            here, there = (self._put(part) if isinstance(part, str) else "" for part in told[:2])
            if here and there and Path(target).is_relative_to(there):
                return str(Path(here, Path(target).relative_to(there)))
        return target

    def _words(self, key: str) -> list[str]:
        """Words of a command: a list, or a text with a shell's quotes."""
        value, place = self._values.get(key), f"{self._place}.{key}"
        if value is None:
            return []
        if isinstance(value, str):
            try:
                return shlex.split(self._put(value))
            except ValueError as error:
                raise self._source.error(
                    f"has a quote that is not closed: {shown(value)}", "close it", place
                ) from error
        words = list_at(self._source, value, place)
        for k, word in enumerate(words):
            if isinstance(word, dict | tuple) or word is None:
                raise self._source.error(f"is {shown(word)}", "give a word", place=f"{place}[{k}]")
        return [self._text(word) for word in words]

    def _text(self, value: object) -> str:
        """A word that YAML may have read as a number or a truth value."""
        return str(value).lower() if isinstance(value, bool) else self._put(str(value))

    def _has_hidden_variables(self) -> bool:
        """Whether it gets variables of whoever starts it: those without a value."""
        value = self._values.get("environment")
        if isinstance(value, tuple):
            return any("=" not in str(one) for one in value)
        return isinstance(value, dict) and None in value.values()

    def _environment(self) -> dict[str, str]:
        value = self._values.get("environment")
        if isinstance(value, tuple):
            pairs = [self._text(one).partition("=") for one in value if isinstance(one, str)]
            return {name: text for name, separator, text in pairs if separator}
        told = mapping_at(self._source, value, f"{self._place}.environment")
        return {name: self._text(one) for name, one in told.items() if isinstance(one, str | int | float)}


COMPOSE_FILE = Kind("file of Docker Compose", _fits, _read)
"""compose-spec/compose-spec, 05-services.md @2f44add1 and 12-interpolation.md @0a7f945e."""
