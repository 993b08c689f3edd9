"""Shell scripts as commands of words: quotes, comments, continued lines and variables, nothing is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from scenarios.errors import Problem
from scenarios.importers.facts import ImportSourceError
from scenarios.importers.servers.shell.arithmetic import worked_out
from scenarios.importers.servers.shell.loops import Turns, counted, turns_of
from scenarios.importers.servers.shell.unknown import UNKNOWN

LONGEST_WORD = 1_000_000
"""Most characters of a word with its variables put in."""

MOST_WORDS = 500_000

_TOKEN = re.compile(
    r"""(?P<continued>\\\r?\n)
    |(?P<end>\r?\n|;;?|&&?|\|\|?|[()])
    |(?P<space>[ \t\r]+)
    |(?P<redirection>[0-9]*(?:<<<|<<-?|>>|>&|<&|<>|>\||[<>]))
    |'(?P<single>[^']*)'
    |\$'(?P<ansi>(?:\\.|[^'\\])*)'
    |\$?(?P<double>"(?:\\.|[^"\\])*")
    |\\(?P<escaped>.)
    |(?P<substitution>\$\((?:[^()]|\([^()]*\))*\)|`[^`]*`)
    |(?P<variable>\$(?:\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]))
    |(?P<plain>[^\s\\'"`$;&|()<>]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_QUOTES = re.compile(
    r"""\\(?P<escaped>[$`"\\\n])|(?P<substitution>\$\((?:[^()]|\([^()]*\))*\)|`[^`]*`)
    |(?P<variable>\$(?:\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]))|(?P<plain>[^\\$`]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_DEFAULT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-((?:.|\n)*))?\}")
_ANSI = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|[0-7]{1,3}|.)", re.DOTALL)
_ANSI_SIGNS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_OWN_FOLDER = re.compile(r"\bdirname\b.*(?:BASH_SOURCE|\$0)", re.DOTALL)
"""A command whose output is the folder of the script itself, as scripts commonly find it."""


@dataclass
class Command:
    """A command of a script.

    Parameters
    ----------
    line
        Line on which it begins, counted from 1.
    words
        Its words, with variables put in.
    comments
        The comments since the command before, without ``#``.
    is_repeated
        Whether it is in a loop of which only a run could tell how often it is gone through.
    """

    line: int
    words: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    is_repeated: bool = False


@dataclass
class _Loop:
    """A loop that is gone through.

    Parameters
    ----------
    turns
        How often.
    position, line
        Where its commands begin.
    turn
        Number of the turn, counted from 0.
    """

    turns: Turns
    position: int
    line: int
    turn: int = 0


def commands_of(text: str, variables: Mapping[str, str], folder: str = "") -> Iterator[Command]:
    """Yield the commands of a script, with the variables that it sets itself put in.

    Parameters
    ----------
    text
        The script; of loops over words and numbers that it tells each turn is taken, of other loops one, and
        conditions are passed over as words.
    variables
        Variables that are set before.
    folder
        Folder of the script, for scripts that ask for it.

    Raises
    ------
    ImportSourceError
        If a word is longer than `LONGEST_WORD`, or there are more than `MOST_WORDS`.
    """
    script = _Script(dict(variables), folder)
    yield from script.commands(text)


class _Script:
    """Reads commands one after another, and remembers what variables were set.

    Parameters
    ----------
    variables
        Those that are set before.
    folder
        Folder of the script.
    """

    def __init__(self, variables: dict[str, str], folder: str) -> None:
        self._variables = variables
        self._folder = folder
        self._word: str | None = None
        self._skips = 0
        self._command = Command(0)
        self._delimiter = ""
        self._loops: list[_Loop] = []

    def commands(self, text: str) -> Iterator[Command]:
        """Yield the commands of a text."""
        text += "\n"  # a loop that ends with the text may go on at its beginning
        position, line, number = 0, 1, 0
        while position < len(text):
            if text[position] == "#" and self._word is None:
                end = text.find("\n", position)
                end = len(text) if end < 0 else end
                self._command.comments.append(text[position + 1 : end].strip())
                position = end
                continue
            match = _TOKEN.match(text, position)
            assert match is not None  # any character is one
            position = match.end()
            kind, token = str(match.lastgroup), match[0]
            if kind in ("space", "end", "redirection"):
                self._end_word()
                number += 1
                if number > MOST_WORDS:
                    raise _refused(line, f"is beyond {MOST_WORDS:,} words", "give the part that matters")
            if kind == "end":
                head = (
                    counted(text, position - 1)
                    if token == "(" and self._command.words[-1:] == ["for"]
                    else None
                )
                if head is not None:
                    line += text.count("\n", position, head.end)
                    position, self._command = head.end, Command(0)
                    self._begin(head.turns, position, line)
                    continue
                if command := self._ended():
                    yield command
                    back = self._gone_on(command, position, line + token.count("\n"))
                    if back is not None:
                        position, line = back
                        continue
                if token.endswith("\n") and self._delimiter:
                    position, line = _after(text, position, self._delimiter, line)
                    self._delimiter = ""
            elif kind == "redirection":
                self._skips = 2 if token.lstrip("0123456789").startswith("<<") and "<<<" not in token else 1
            elif kind not in ("space", "continued"):
                if self._word is None and self._command.line == 0:
                    self._command.line = line
                self._add(kind, match, line)
            line += token.count("\n")
        self._end_word()
        if command := self._ended():
            yield command

    def _begin(self, turns: Turns, position: int, line: int) -> None:
        """Begin a loop, whose variable has its first value."""
        if turns.values is None:
            self._variables.pop(turns.name, None)
        elif turns.values:
            self._variables[turns.name] = turns.values[0]
        self._loops.append(_Loop(turns, position, line))

    def _gone_on(self, command: Command, position: int, line: int) -> tuple[int, int] | None:
        """Position and line of the loop's beginning, where a command ends a turn; None: it goes on."""
        words = [word for word in command.words if not _is_assignment(word)]
        turns = turns_of(words)
        if turns is not None:
            self._begin(turns, position, line)
        if words[:1] != ["done"] or not self._loops:
            return None
        loop = self._loops[-1]
        loop.turn += 1
        if loop.turn < len(loop.turns.values or ()):
            self._variables[loop.turns.name] = (loop.turns.values or ())[loop.turn]
            return loop.position, loop.line
        self._loops.pop()
        return None

    def _add(self, kind: str, match: re.Match[str], line: int) -> None:
        """Add what a token stands for to the word."""
        if kind == "double":
            pieces = [self._value(m) for m in _IN_QUOTES.finditer(match[kind][1:-1])]
            self._extend("".join(pieces), line)
        elif kind == "variable" and self._skips == 0:
            self._split(self._variable(match[0]), line)
        elif kind == "ansi":
            self._extend(_ANSI.sub(_ansi, match[kind]), line)
        else:
            self._extend(match["single"] if kind == "single" else self._value(match), line)

    def _extend(self, text: str, line: int) -> None:
        self._word = (self._word or "") + text
        if len(self._word) > LONGEST_WORD:
            message = f"has a word of more than {LONGEST_WORD:,} characters"
            raise _refused(line, message, "give a script that names adapters one by one")

    def _split(self, text: str, line: int) -> None:
        """Add a variable without quotes, whose value is words of its own; that of an assignment is not."""
        if self._word is not None and "=" in self._word and _is_assignment(self._word):
            self._extend(text, line)
            return
        parts = re.split(r"\s+", text)
        for k, part in enumerate(parts):
            if k:
                self._end_word()
            if part:
                self._extend(part, line)

    def _value(self, match: re.Match[str]) -> str:
        kind = match.lastgroup
        if kind == "escaped":
            return "" if match["escaped"] == "\n" else match["escaped"]
        if kind == "variable":
            return self._variable(match[0])
        if kind == "substitution":
            if self._folder and _OWN_FOLDER.search(match[0]):
                return self._folder
            if match[0].startswith("$((") and match[0].endswith("))"):
                number = worked_out(match[0][3:-2], self._variables)
                if number is not None:
                    return str(number)
            return UNKNOWN + match[0].lstrip("$")
        return match[0]

    def _variable(self, text: str) -> str:
        name, default = text[1:].strip("{}"), None
        if found := _DEFAULT.fullmatch(text):
            name, default = found[1], found[2]
        value = self._variables.get(name)
        if value or (value is not None and default is None):
            return value
        return UNKNOWN + text[1:] if default is None else default.strip("\"'")

    def _end_word(self) -> None:
        if self._word is None:
            return
        word, self._word = self._word, None
        if self._skips:
            self._delimiter = word if self._skips == 2 else self._delimiter
            self._skips = 0
        else:
            self._command.words.append(word)

    def _ended(self) -> Command | None:
        """The command that ends here; assignments alone are remembered instead."""
        command, self._skips = self._command, 0
        if not command.words:
            command.line = 0
            return None
        words = command.words
        names = words[1:] if words[0] in ("export", "declare", "local", "readonly") else words
        if names and all(_is_assignment(word) for word in names):
            for word in names:
                name, _, value = word.partition("=")
                self._variables[name] = value
            self._command = Command(0, comments=command.comments)
            return None
        exported = {k: v for k, v in self._variables.items() if UNKNOWN not in v}
        command.words[:0] = [f"{name}={value}" for name, value in exported.items() if name in _PASSED]
        command.is_repeated = any(loop.turns.values is None for loop in self._loops)
        self._command = Command(0)
        return command


_PASSED = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "VLLM_PLUGINS",
        "VLLM_LORA_RESOLVER_CACHE_DIR",
        "VLLM_LORA_RESOLVER_HF_REPO_LIST",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "NIM_PEFT_SOURCE",
    }
)
"""Variables of a script that are put before each of its commands; no other is any engine's business here."""


def _is_assignment(word: str) -> bool:
    return re.match(r"[A-Za-z_][A-Za-z0-9_]*=", word) is not None


def _ansi(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xu":
        return chr(int(code[1:], 16)) if len(code) > 1 else code
    return chr(int(code, 8)) if code.isdigit() else _ANSI_SIGNS.get(code, code)


def _after(text: str, position: int, delimiter: str, line: int) -> tuple[int, int]:
    """Where the text goes on after a document that is given within it."""
    for match in _LINE.finditer(text, position):
        line += 1
        if match[0].strip() == delimiter:
            return match.end(), line
    return len(text), line


def _refused(line: int, message: str, remedy: str) -> ImportSourceError:
    return ImportSourceError([Problem(f"line {line}", message, remedy)])
