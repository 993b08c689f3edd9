"""A kind of file that is read, a small valid one, and what its damage leads to."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzzing.judgement import Reading, fault
from tests.fuzzing.mutations import Form, mutation


@dataclass(frozen=True)
class Fuzzed:
    """A kind of file.

    Parameters
    ----------
    name
        What it is called.
    file
        Its name, in a folder of its own.
    content
        A valid one.
    form
        How its content is laid out.
    read
        Reads it as the program does.
    whole
        Whether the folder is what is read, and not the file.
    beside
        What lies beside it, by name.
    seal
        Puts the digest into damaged content that it holds of itself, so that what lies behind is reached;
        every second damage is sealed.
    packed
        Whether it is packed by gzip; every fourth damage is one of the packed bytes.
    codes
        Exit codes that reading it may end with.
    slow
        How many times fewer damages are tried in the same time.
    """

    name: str
    file: str
    content: bytes
    form: Form
    read: Reading
    whole: bool = False
    beside: Mapping[str, bytes] = field(default_factory=dict)
    seal: Callable[[bytes], bytes] | None = None
    packed: bool = False
    codes: tuple[int, ...] = (0, 2)
    slow: int = 1

    def damaged(self, number: int) -> bytes:
        """The content of its file with the damage of a number."""
        if self.packed and number % 4 == 3:
            return mutation(gzip.compress(self.content, mtime=0), "bytes", self.name, number)
        content = mutation(self.content, self.form, self.name, number)
        if self.seal is not None and number % 2:
            content = self.seal(content)
        return gzip.compress(content, 1, mtime=0) if self.packed else content

    def prepare(self, folder: Path) -> Path:
        """Write the valid file, and what lies beside it; the path that is read."""
        folder.mkdir(parents=True, exist_ok=True)
        whole = gzip.compress(self.content, mtime=0) if self.packed else self.content
        for name, content in {**self.beside, self.file: whole}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder if self.whole else folder / self.file

    def faults(self, folder: Path, numbers: Iterable[int]) -> Iterator[tuple[int, str]]:
        """The numbers of damages that lead to what must not be, each with what it was."""
        given = self.prepare(folder)
        for number in numbers:
            (folder / self.file).write_bytes(self.damaged(number))
            wrong = fault(self.read, given, self.codes)
            if wrong:
                yield number, wrong
