"""A source: a file or a folder, how it begins, and its content as far as a kind needs it."""

from __future__ import annotations

import gzip
import stat
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from scenarios.errors import Problem, cause_of
from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.reading.yaml_reader import FILE

HEAD_BYTES = 65_536
"""Bytes by which a kind is recognised."""

MOST_TEXT_BYTES = 64 * 1024 * 1024
"""Largest file that is held in memory whole; request logs are read in parts."""


@dataclass(frozen=True)
class Source:
    """A file or folder that is to be read.

    Parameters
    ----------
    path
        Where it is.
    """

    path: Path
    _cache: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def head(self) -> bytes:
        """How the content begins, unpacked if it is packed by gzip; of a folder nothing.

        Raises
        ------
        ImportSourceError
            If it cannot be read.
        """
        if self.is_folder:
            return b""
        try:
            mode = self.path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise self.error("is no regular file", "save what it holds into one")
            with self.path.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            with gzip.open(self.path) if packed else self.path.open("rb") as content:
                return content.read(HEAD_BYTES)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            if isinstance(error, ImportSourceError):
                raise
            raise self.error(
                f"cannot be read ({cause_of(error)})", "check its name and permissions"
            ) from error

    @cached_property
    def text(self) -> str:
        """The whole content of a file of text.

        Raises
        ------
        ImportSourceError
            If it is too long, or no text.
        """
        if len(self.head) < HEAD_BYTES:
            data = self.head
        else:
            try:
                with gzip.open(self.path) if self._packed else self.path.open("rb") as content:
                    data = content.read(MOST_TEXT_BYTES + 1)
            except (OSError, EOFError, ValueError, zlib.error) as error:
                raise self.error(f"is damaged ({cause_of(error)})", "fetch it again") from error
            if len(data) > MOST_TEXT_BYTES:
                raise self.error(f"is longer than {MOST_TEXT_BYTES:,} bytes", "give the part that matters")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error(f"is no text of UTF-8 (byte {error.start})", "give a text file") from error

    @property
    def _packed(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"

    def error(self, message: str, remedy: str, place: str = FILE) -> ImportSourceError:
        """An error about this source.

        Parameters
        ----------
        message, remedy
            What is wrong, with the value; and what the user can do.
        place
            Where in it: ``document 2, spec.baseModel``.
        """
        problem = Problem(place, message, remedy)
        return ImportSourceError([problem], f"{self.path}: {problem}")


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Parameters
    ----------
    name
        In words, for messages: ``AIBrix ModelAdapter``.
    fits
        Tells by the content whether a source is of this kind; it raises nothing but what `Source.head` does.
    read
        What a source of this kind says.
    """

    name: str
    fits: Callable[[Source], bool]
    read: Callable[[Source, ImportOptions], SourceFacts]
