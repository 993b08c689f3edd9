"""Units of systemd that start a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from scenarios.errors import Problem
from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.servers.docker_run import container_of
from scenarios.importers.servers.server_sets import facts_of
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.importers.servers.source_places import located
from scenarios.importers.servers.vllm_command import CommandFacts, command_facts, container_facts
from scenarios.importers.source import HEAD_BYTES, Kind, Source

MOST_BYTES = 4 * 2**20
"""Longest unit that is read."""

_PIECE = re.compile(
    r"""(?P<space>[ \t]+)|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'
    |(?P<plain>(?:\\.|[^\s\\])+|.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIGNS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_SPECIFIER = re.compile(r"%(.)", re.DOTALL)
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HIDDEN = re.compile(r"^(?:EnvironmentFile|PassEnvironment)\s*=", re.MULTILINE)
_GROUP = re.compile(r"^[#;]\s*group:\s*([^\s,]{1,100})", re.MULTILINE)


def _fits(source: Source) -> bool:
    head = source.head
    return bool(
        not source.is_folder
        and re.search(rb"^\[Service\]\s*$", head, re.MULTILINE)
        and re.search(rb"^ExecStart\s*=", head, re.MULTILINE)
        and re.search(rb"vllm|sglang|NIM_", head, re.IGNORECASE)
    )


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    if len(source.head) >= HEAD_BYTES and source.path.stat().st_size > MOST_BYTES:
        raise source.error(f"is longer than {MOST_BYTES:,} bytes", "give a unit")
    with located(source):
        servers = list(_servers(source))
    if not servers:
        raise source.error("has no ExecStart of vLLM or SGLang", "give the unit that starts the server")
    return facts_of(SYSTEMD_UNIT.name, servers, _unread(source.text))


def _servers(source: Source) -> Iterator[CommandFacts]:
    """Yield what the command of a unit says; of several, for one shot after another, each."""
    name = source.path.name.removesuffix(".service")
    told = _GROUP.search(source.text)
    if not source.path.name.endswith(".service"):
        name = told[1] if told else source.path.stem
    instance = name.partition("@")[2]
    environment: dict[str, str] = {}
    for key, value, line in _settings(source.text):
        place = f"line {line}"
        if key == "Environment":
            words = _words(value, instance, place) if value else []
            environment |= {pair.partition("=")[0]: pair.partition("=")[2] for pair in words if "=" in pair}
            environment = environment if value else {}
        if key != "ExecStart" or not value:
            continue
        words = _expanded(_words(value.lstrip("@-:+!|"), instance, place), environment)
        origin = f"{source.path.name} line {line}"
        container = container_of(words)
        if container is not None:
            facts = container_facts(container, name, origin)
        else:
            facts = command_facts(words, environment, name, origin, str(source.path.absolute().parent))
            if facts is not None and _HIDDEN.search(source.text):
                facts = facts.with_hidden_variables()
        if facts is not None:
            yield facts


def _settings(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield key, value and line of each setting of the section Service.

    A line goes on after a backslash, and comments in between are passed over (systemd.syntax(7), 252).
    """
    section, held, begin = "", "", 0
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if bare.startswith(("#", ";")) or (not bare and not held):
            continue
        begin = begin if held else number
        if bare.endswith("\\"):
            held += bare[:-1] + " "
            continue
        whole, held = held + bare, ""
        if whole.startswith("["):
            section = whole
        elif section == "[Service]" and "=" in whole:
            key, _, value = whole.partition("=")
            yield key.strip(), value.strip(), begin


def _words(text: str, instance: str, place: str) -> list[str]:
    """Words of a value, in quotes or without, with C's escapes and ``%`` (systemd.service(5), 252)."""
    words: list[str] = []
    current: str | None = None
    for match in _PIECE.finditer(text):
        kind = str(match.lastgroup)
        if kind == "space":
            if current is not None:
                words.append(current)
            current = None
            continue
        if match[0] in ('"', "'") and current is None:
            raise ImportSourceError([Problem(place, "has a quote that is not closed", "close it")])
        current = (current or "") + _unescaped(match[kind])
    words += [] if current is None else [current]
    return [_SPECIFIER.sub(lambda match: _specified(match[1], instance), word) for word in words]


def _unescaped(text: str) -> str:
    def sign(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
            return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else UNKNOWN
        return chr(int(code, 8)) if len(code) == 3 else _SIGNS.get(code, code)

    return _ESCAPE.sub(sign, text) if "\\" in text else text


def _specified(letter: str, instance: str) -> str:
    if letter == "%":
        return "%"
    return instance if letter in "iI" and instance else f"{UNKNOWN}%{letter}"


def _expanded(words: list[str], environment: Mapping[str, str]) -> list[str]:
    """Words with variables put in: ``${X}`` anywhere, ``$X`` as a word of its own that is split."""
    expanded: list[str] = []
    for word in words:
        if re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*", word):
            value = environment.get(word[1:])
            expanded += [UNKNOWN + word[1:]] if value is None else value.split()
        else:
            expanded.append(
                _VARIABLE.sub(
                    lambda match: (
                        "$" if match[1] is None else environment.get(match[1], f"{UNKNOWN}{{{match[1]}}}")
                    ),
                    word,
                )
            )
    return expanded


def _unread(text: str) -> list[str]:
    if re.search(r"^EnvironmentFile\s*=", text, re.MULTILINE):
        return ["EnvironmentFile of a unit is not read: what it sets is not known."]
    return []


SYSTEMD_UNIT = Kind("systemd unit", _fits, _read)
