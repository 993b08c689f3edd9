"""The text of files that people name, and what is wrong where there is none."""

from __future__ import annotations

from pathlib import Path

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.yaml_reader import FILE

MAX_BYTES = 64 * 2**20
"""Largest file that is read: as many adapters as there may be, each with lengths of its own, take 50 MiB."""


def text_of(file: Path, source: str) -> str:
    """Return a file's text.

    Parameters
    ----------
    file
        The file, in UTF-8.
    source
        What messages call it.

    Raises
    ------
    ScenarioError
        If it cannot be read, is too large, or is no text.
    """
    try:
        if not file.exists():
            raise _refusal(source, "does not exist", "check its name and folder")
        if not file.is_file():
            raise _refusal(source, "is a folder or a device", "name a file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            above = f"{size / 2**20:,.1f} MiB, above the limit of {MAX_BYTES / 2**20:g} MiB"
            raise _refusal(source, f"has {above}", "write equal adapters as one entry with a count")
        data = file.read_bytes()
    except OSError as error:
        raise _refusal(source, f"cannot be read: {error.strerror}", "check its permissions") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _refusal(source, "is text in UTF-16", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is no UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise _refusal(source, message, "name a file of text, saved as UTF-8", line) from error


def _refusal(source: str, message: str, remedy: str, line: int | None = None) -> ScenarioError:
    return ScenarioError([Problem(FILE, message, remedy, line)], source)


def is_there(file: Path, *, folder: bool) -> bool:
    """Whether there is such a file or folder; what can be no path, or one too long, is not there."""
    try:
        return file.is_dir() if folder else file.is_file()
    except (OSError, ValueError):
        return False
