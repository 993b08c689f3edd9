"""Shell scripts, and files of command lines, that start servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.servers.docker_run import container_of
from scenarios.importers.servers.server_sets import facts_of
from scenarios.importers.servers.shell.shell_words import Command, commands_of
from scenarios.importers.servers.source_places import located
from scenarios.importers.servers.vllm_command import CommandFacts, command_facts, container_facts
from scenarios.importers.source import HEAD_BYTES, Kind, Source

MOST_BYTES = 4 * 2**20
"""Longest script that is read."""

_BEFORE = frozenset(
    {
        *(
            "exec",
            "nohup",
            "env",
            "sudo",
            "time",
            "nice",
            "numactl",
            "taskset",
            "setsid",
            "stdbuf",
            "command",
        ),
        *(
            "uv",
            "poetry",
            "pipenv",
            "conda",
            "micromamba",
            "srun",
            "torchrun",
            "timeout",
            "then",
            "do",
            "else",
        ),
        *("if", "{", "!", "while", "docker", "podman", "nerdctl", "ssh", "screen", "tmux", "systemd-run"),
        *("chronic", "ionice", "python", "python3", "bash", "sh", "&"),
    }
)
"""Words before a server's command; what begins otherwise only speaks of it, as ``echo`` does."""

_FOREIGN = re.compile(
    rb"^(?:apiVersion|kind|services|applications)\s*:|^```|^\[(?:Unit|Service)\]|^(?:import|from|def|class) ",
    re.MULTILINE,
)
_GROUP = re.compile(r"group:\s*([^\s,]{1,100})")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def _fits(source: Source) -> bool:
    head = source.head
    if source.is_folder or not re.search(rb"vllm|sglang", head, re.IGNORECASE):
        return False
    if b"\0" in head or _FOREIGN.search(head) or head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"["):
        return False
    try:
        text = head.decode("utf-8-sig", errors="replace" if len(head) >= HEAD_BYTES else "strict")
        return any(_is_start(command) for command in commands_of(text, {}))
    except (ImportSourceError, UnicodeDecodeError):
        return False


def _is_start(command: Command) -> bool:
    """Whether a command starts a server, as far as its words tell."""
    environment, words = _taken_apart(command.words)
    if not words or not _may_start(words[0]):
        return False
    container = container_of(words)
    if container is not None:
        return bool(container.words)
    try:
        return command_facts(words, environment, "", "") is not None
    except ImportSourceError:  # a damaged command is told of by whoever reads it
        return True


def _may_start(word: str) -> bool:
    name = word.rsplit("/", 1)[-1].lower()
    return name in _BEFORE or name.startswith("python") or "vllm" in name or "sglang" in name


def _taken_apart(words: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
    """Variables of a command alone, and its words."""
    environment: dict[str, str] = {}
    k = 0
    while k < len(words) and (match := _ASSIGNMENT.fullmatch(words[k])):
        environment[match[1]] = match[2]
        k += 1
    if k < len(words) and words[k] == "env":
        inner, rest = _taken_apart(words[k + 1 :])
        return environment | inner, rest
    return environment, words[k:]


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    if len(source.head) >= HEAD_BYTES and source.path.stat().st_size > MOST_BYTES:
        raise source.error(f"is longer than {MOST_BYTES:,} bytes", "give the commands alone")
    with located(source):
        servers = list(_servers(source))
    if not servers:
        raise source.error("starts no vLLM and no SGLang", "give the command that does")
    return facts_of(SHELL_SCRIPT.name, servers)


def _servers(source: Source) -> Iterator[CommandFacts]:
    """Yield what each command says that starts a server."""
    group, names = "", set[str]()
    folder = str(source.path.absolute().parent)
    for command in commands_of(source.text, {}, folder):
        for comment in command.comments:
            if match := _GROUP.match(comment):
                group = match[1]
        environment, words = _taken_apart(command.words)
        if not words or not _may_start(words[0]):
            continue
        origin = f"{source.path.name} line {command.line}"
        facts = _command(words, environment, group, origin, folder)
        if facts is None:
            continue
        group = ""
        facts = facts.named(_unlike(facts.server.name or source.path.stem, names))
        yield facts if _is_counted(command, facts) else facts.of_unknown_number()


def _command(
    words: Sequence[str], environment: Mapping[str, str], group: str, origin: str, folder: str
) -> CommandFacts | None:
    container = container_of(words)
    if container is None:
        return command_facts(words, environment, group, origin, folder)
    return container_facts(container, group or container.name, origin)


def _is_counted(command: Command, facts: CommandFacts) -> bool:
    """Whether it is known how many servers a command starts: of a port that a run tells it may be any."""
    return not command.is_repeated and not facts.has_unknown_port


def _unlike(name: str, names: set[str]) -> str:
    """A name that no other server of the file has."""
    number, own = 1, name
    while own in names:
        number += 1
        own = f"{name}-{number}"
    names.add(own)
    return own


SHELL_SCRIPT = Kind("shell script that starts servers", _fits, _read)
