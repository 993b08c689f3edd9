"""Files of Docker Compose with services that are servers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.servers.docker_run import image_words, published_address
from scenarios.importers.servers.server_sets import facts_of
from scenarios.importers.servers.shell_words import UNKNOWN
from scenarios.importers.servers.source_places import count_at, list_at, located, mapping_at, yaml_mapping
from scenarios.importers.servers.vllm_command import CommandFacts, command_facts, folder_adapters
from scenarios.importers.source import Kind, Source
from scenarios.text.formatting import shortened, shown

_INTERPOLATED = re.compile(r"\$\$|\$\{(?P<braced>[^{}]*)\}|\$(?P<bare>[A-Za-z_][A-Za-z0-9_]*)")
_DEFAULT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:?-(.*)", re.DOTALL)


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
    with located(source):
        servers = [facts for name, one in services.items() for facts in _service(source, name, one)]
    if not servers:
        raise source.error("has no service that runs vLLM, SGLang or NIM", "give another file", "services")
    files = [name for name, one in services.items() if isinstance(one, dict) and one.get("env_file")]
    notes = [f"{shortened(name)}: its env_file is not read." for name in files]
    return facts_of(COMPOSE_FILE.name, servers, notes)


def _service(source: Source, name: str, value: object) -> Iterator[CommandFacts]:
    """Yield what a service says of a server, if it is one."""
    place = f"services.{shortened(name)}"
    service = mapping_at(source, value, place)
    image = service.get("image")
    image = _literal(image) if isinstance(image, str) else ""
    environment = _environment(source, service.get("environment"), f"{place}.environment")
    entrypoint = _words(source, service.get("entrypoint"), f"{place}.entrypoint")
    command = _words(source, service.get("command"), f"{place}.command")
    if "nvcr.io/nim" in image:
        environment.setdefault("NIM_MODEL_NAME", "")
    is_nim = "NIM_PEFT_SOURCE" in environment or "NIM_MODEL_NAME" in environment
    words = [*entrypoint, *command] if is_nim else image_words(image, entrypoint, command)
    folder = _peft_folder(source, service, environment, place) if is_nim else ""
    inside = {k: v for k, v in environment.items() if k != "NIM_PEFT_SOURCE"}
    inside |= {"NIM_PEFT_SOURCE": ""} if is_nim else {}
    facts = command_facts(words, inside, name, f"{source.path.name}, {place}")
    if facts is None:
        return
    if folder:
        adapters, notes = folder_adapters(folder, "NIM_PEFT_SOURCE", str(source.path.absolute().parent))
        facts = facts.holding(adapters, notes)
    deploy = mapping_at(source, service.get("deploy"), f"{place}.deploy")
    count = count_at(source, deploy.get("replicas", service.get("scale")), f"{place}.deploy.replicas")
    ports = list_at(source, service.get("ports"), f"{place}.ports")
    facts = facts.at(published_address([_literal(port) for port in ports if isinstance(port, str)]))
    yield facts.times(count)


def _peft_folder(
    source: Source, service: Mapping[str, object], environment: Mapping[str, str], place: str
) -> str:
    """Folder of the host that a container of NIM reads adapters from; empty: none is told."""
    target = environment.get("NIM_PEFT_SOURCE", "")
    if not target:
        return ""
    for volume in list_at(source, service.get("volumes"), f"{place}.volumes"):
        if isinstance(volume, dict):
            told: tuple[object, ...] = (volume.get("source"), volume.get("target"))
        else:
            told = (*str(volume).split(":"), "")
        here, there = (_literal(part) if isinstance(part, str) else "" for part in told[:2])
        if here and there and Path(target).is_relative_to(there):
            return str(Path(here, Path(target).relative_to(there)))
    return target


def _literal(text: str) -> str:
    """Text with variables put in as far as it gives their defaults; ``$$`` is ``$``."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        default = _DEFAULT.fullmatch(match["braced"] or "")
        return default[1] if default else UNKNOWN + match[0][1:]

    return _INTERPOLATED.sub(value, text) if "$" in text else text


def _words(source: Source, value: object, place: str) -> list[str]:
    """Words of a command: a list, or a text with a shell's quotes."""
    if value is None:
        return []
    if isinstance(value, str):
        try:
            return shlex.split(_literal(value))
        except ValueError as error:
            raise source.error(
                f"has a quote that is not closed: {shown(value)}", "close it", place
            ) from error
    words = list_at(source, value, place)
    for k, word in enumerate(words):
        if isinstance(word, dict | tuple) or word is None:
            raise source.error(f"is {shown(word)}", "give a word", place=f"{place}[{k}]")
    return [_text(word) for word in words]


def _text(value: object) -> str:
    """A word that YAML may have read as a number or a truth value."""
    return str(value).lower() if isinstance(value, bool) else _literal(str(value))


def _environment(source: Source, value: object, place: str) -> dict[str, str]:
    if isinstance(value, tuple):
        pairs = [_text(one).partition("=") for one in value if isinstance(one, str)]
        return {name: text for name, separator, text in pairs if separator}
    told = mapping_at(source, value, place)
    return {name: _text(one) for name, one in told.items() if isinstance(one, str | int | float)}


COMPOSE_FILE = Kind("file of Docker Compose", _fits, _read)
"""compose-spec/compose-spec, 05-services.md @2f44add1 and 12-interpolation.md @0a7f945e."""
