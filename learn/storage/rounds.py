"""Finished rounds of a sampling, kept in a folder, from which an interrupted one goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learn.storage.cache import keep, kept_text
from learn.storage.dataset import Dataset, DatasetError, dataset_of, metadata_of
from scenarios.errors import cause_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounds:
    """Where the rounds of a sampling are kept.

    Parameters
    ----------
    folder
        Where their files lie; None: nowhere.
    metadata
        What determines the runs of the sampling.
    root
        The cache that the folder belongs to, in which any file that is not what it should be is replaced.
        None: the folder is the user's; runs of another sampling in it are not.

    Raises
    ------
    DatasetError
        If the folder is the user's, and cannot be made.
    """

    folder: Path | None
    metadata: dict[str, Any]
    root: Path | None = None

    def __post_init__(self) -> None:
        if self.folder is None or self.root is not None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"{self.folder}: no runs can be kept there ({cause_of(error)}); name a folder"
            ) from error

    def read(self, number: int, first: int, last: int) -> Dataset | None:
        """The runs of a round, compositions ``first`` to ``last`` − 1; None if they are to be made.

        Raises
        ------
        DatasetError
            If the folder is the user's, and holds runs of another sampling.
        """
        if self.folder is None:
            return None
        path = self._path(number)
        try:
            text = kept_text(path, self.root or self.folder)
            if text is None:
                return None
            if not self._foreign(text):
                return self._checked(text, first, last)
        except (ValueError, RecursionError) as error:
            _log.warning("%s: %s; the runs are made again", path, error)
            return None
        raise DatasetError(f"{path}: holds runs of another sampling; name another directory or delete it")

    def keep(self, done: Dataset, number: int, first: int, last: int) -> None:
        """Write the runs of a round, if that can be done."""
        if self.folder is None:
            return
        own = replace(done, metadata=self._metadata(first, last))
        keep(self._path(number), own.text(), self.root or self.folder)

    def _foreign(self, text: str) -> bool:
        """Whether a file of the user's is that of another sampling, be it whole or damaged."""
        if self.root is not None:
            return False
        return {name: v for name, v in metadata_of(text).items() if name != "round"} != self.metadata

    def _checked(self, text: str, first: int, last: int) -> Dataset:
        """The runs of a text, if they are those of a round."""
        dataset, expected = dataset_of(text), self._metadata(first, last)
        if dataset.metadata != expected:
            other = [name for name, value in expected.items() if dataset.metadata.get(name) != value]
            raise ValueError(f"it holds runs of another {' and '.join(other) or 'sampling'}")
        return Dataset(dataset.table, self.metadata)

    def _metadata(self, first: int, last: int) -> dict[str, Any]:
        """What the file of a round says of itself."""
        return {**self.metadata, "round": {"first": first, "last": last - 1}}

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"round-{number:04d}.csv"
