"""Standard output and standard error, which no text, no encoding and no reader can make fail."""

from __future__ import annotations

import atexit
import codecs
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from optimizer.cli.exits import EXIT_FAILURE, EXIT_USAGE
from scenarios import OutputFileError, visible_lines
from scenarios.text.display import escaped
from scenarios.text.tables import WIDTH, Part, item, render

_PLAIN = {
    "–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "│": "|", "×": "x", "·": "*", "…": "...", "→": "->",
    "≤": "<=", "≥": ">=", "µ": "u", "λ": "lambda", "Σ": "sum", "²": "^2",
}  # fmt: skip
"""What our own texts say where a stream cannot encode it; any other character is escaped."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run a command whose output never fails for its encoding, nor at exit.

    A reader that left early is no failure. Anything else that keeps the answer from being written is told
    on stderr, with exit code 2.
    """
    codecs.register_error("lorapack", _encodable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lorapack")
    code: int | None = None
    try:
        yield
    except BrokenPipeError:  # while the command line's own parser printed
        code = EXIT_FAILURE
    finally:
        try:
            _put("", sys.stderr)
            _put("", sys.stdout)
        except OutputFileError as error:
            note(f"lorapack: {error}")
            code = EXIT_USAGE
        _leave_colours()
        if code is not None:
            sys.exit(code)


def _leave_colours() -> None:
    """Keep colorama from a last escape sequence on the terminal.

    numba starts it where it is installed, whether colours are wanted or not (numba 0.68,
    `numba.core.errors:ColorShell`).
    """
    colorama = sys.modules.get("colorama.initialise")
    if colorama is not None:
        atexit.unregister(colorama.reset_all)


def say(text: str) -> None:
    """Print a part of the answer on standard output; nothing in it is obeyed by a terminal.

    Raises
    ------
    OutputFileError
        If standard output cannot be written; a reader that left early is no failure.
    """
    _put(visible_lines(text) + "\n", sys.stdout)


def show(*parts: Part) -> None:
    """Print parts of the answer on standard output, as wide as the terminal and in colour where allowed.

    Raises
    ------
    OutputFileError
        As `say`.
    """
    _put(render(*parts, colour=_colour_allowed()) + "\n", sys.stdout)


def _colour_allowed() -> bool:
    """Whether standard output is a terminal whose user wants colours (https://no-color.org)."""
    terminal = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return terminal and not os.environ.get("NO_COLOR")


def say_items(title: str, sentences: Sequence[str]) -> None:
    """Print sentences under a title, each behind a dash and as wide as the terminal.

    Raises
    ------
    OutputFileError
        As `say`.
    """
    if sentences:
        say(title)
    for sentence in sentences:
        say(wrapped(sentence, first="- "))


def wrapped(text: str, first: str = "") -> str:
    """Text broken at blanks to the width of the terminal, or of COLUMNS, each line with its own indent.

    Parameters
    ----------
    first
        What stands before it; further lines are indented as far.
    """
    width = shutil.get_terminal_size((WIDTH, 0)).columns
    return "\n".join(_broken(line, width, first) for line in visible_lines(text).split("\n"))


def _broken(line: str, width: int, first: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        max(width, 2 * len(first + indent) + 1),
        initial_indent=first + indent,
        subsequent_indent=" " * len(first) + indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def say_exactly(text: str) -> None:
    """Print text that a program reads on standard output, as it is, on lines of its own.

    Raises
    ------
    OutputFileError
        As `say`.
    """
    _put(text if text.endswith("\n") else text + "\n", sys.stdout)


def note(text: str) -> None:
    """Say something that is not the result, on stderr; if that cannot be written, there is no one to tell.

    At a terminal lines are as wide as that; in a log each stays one.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    with suppress(OutputFileError):
        _put((wrapped(text) if terminal else visible_lines(text)) + "\n", sys.stderr)


def note_list(head: str, items: Sequence[str]) -> None:
    """Say several things under a line, each as wide as the terminal, its further lines under its first."""
    if items:
        note(render(*([head] if head else []), *(item(text) for text in items)))


def _put(text: str, stream: TextIO | None) -> None:
    """Write all of it now, so that a failure shows here and not when the process ends."""
    if stream is None:  # closed by whoever started the command
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _silence(stream)
        if not isinstance(error, BrokenPipeError):
            raise OutputFileError(f"standard output cannot be written ({error.strerror})") from error


def _silence(stream: TextIO) -> None:
    """Let what a stream holds, and what comes, go nowhere."""
    with suppress(io.UnsupportedOperation), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def _encodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    chars = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char) or escaped(char) for char in chars), error.end
