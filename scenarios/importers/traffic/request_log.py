"""Requests of a log as numbers: instants, names, lengths; nothing else of a request is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.importers.source import Source
from scenarios.importers.traffic.windows import EPOCH_S
from scenarios.reading.row_cells import LONGEST_S, MOST_NAMES, PER_SECOND, unit_of_values
from scenarios.text.display import is_whole

LONGEST_NAME = 1000
"""Most characters of a name: what is longer is some other text, such as a prompt."""

NO_LENGTH = -1
"""Stands for a length that a log does not tell."""


@dataclass(frozen=True)
class RequestLog:
    """Requests that reached an engine.

    Parameters
    ----------
    source
        What the log is, in words.
    time_s
        When each was sent, ascending, in seconds since `start_s`, shape (n,).
    start_s
        Seconds since 1970 of the first one; None: the log counts from no known instant.
    names, name
        Served names, and the index of each request's, shape (n,).
    prompt, output
        Tokens, at least 1, or `NO_LENGTH`, shape (n,).
    remarks
        What was left out, and why.
    took_s
        How long each took, in seconds, NaN where that is not told, shape (n,); None: of none it is told.
    """

    source: str
    time_s: NDArray[np.float64]
    start_s: float | None
    names: tuple[str, ...]
    name: NDArray[np.int32]
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    remarks: tuple[str, ...] = ()
    took_s: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass
class Collected:
    """What was read of a log so far."""

    source: Source
    kind: str
    unit: str | None
    instants: list[NDArray[Any]] = field(default_factory=list)
    name: list[NDArray[np.int32]] = field(default_factory=list)
    prompt: list[NDArray[np.int32]] = field(default_factory=list)
    output: list[NDArray[np.int32]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    sessions: list[NDArray[np.uint64]] = field(default_factory=list)
    took: list[NDArray[np.float64]] = field(default_factory=list)

    def count(self, what: str, number: int) -> None:
        """Count requests of which a user is told."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def add(
        self,
        instants: NDArray[Any],
        names: NDArray[np.object_],
        prompt: NDArray[np.int32],
        output: NDArray[np.int32],
        took: NDArray[np.float64] | None = None,
    ) -> None:
        """Take requests.

        Parameters
        ----------
        instants
            When each was sent, in the log's unit, shape (n,).
        names, prompt, output
            Served name and lengths of each.
        took
            How long each took, in the log's unit, NaN where that is not told; None: no request tells it.

        Raises
        ------
        ImportSourceError
            If names are none.
        """
        code, distinct = pd.factorize(names)
        for one in distinct:
            if len(one) > LONGEST_NAME:
                raise self.source.error(
                    f"names an adapter by a text of {len(one):,} characters",
                    "say which column holds the name: --map adapter=COLUMN",
                )
            if not is_whole(one):
                raise self.source.error("names an adapter with half of a surrogate pair", "write both halves")
            self.numbers.setdefault(one, len(self.numbers))
        if len(self.numbers) > MOST_NAMES:
            raise self.source.error(
                f"has more than {MOST_NAMES:,} names of adapters",
                "say which column holds the name: --map adapter=COLUMN",
            )
        number = np.array([self.numbers[one] for one in distinct], dtype=np.int32)
        self.instants.append(instants)
        self.name.append(number[code] if len(distinct) else np.zeros(0, dtype=np.int32))
        self.prompt.append(prompt)
        self.output.append(output)
        if took is not None:
            self._add_took(took)

    def _add_took(self, took: NDArray[np.float64]) -> None:
        self.count("requests tell no end", int(np.isnan(took).sum()))
        self.count("requests end before they begin; their ends are not used", int((took < 0).sum()))
        self.took.append(np.where(took < 0, np.nan, took))

    def log(self) -> RequestLog:
        """All that was read, in the order of time.

        Raises
        ------
        ImportSourceError
            If there are too few requests, or their times cannot be.
        """
        instants = _joined(self.instants)
        if len(instants) < 2:
            told = "".join(f"; {text}" for text in self._remarks())
            raise self.source.error(
                f"holds {len(instants)} requests that reached an engine{told}",
                "give a log with more, or say by --map which columns hold what",
            )
        unit = self.unit or unit_of_values(instants)
        if unit is None:
            raise self.source.error(
                "counts time in whole numbers, which may be of any unit",
                "let the column's name end in it: time_s, time_ms, time_us or time_ns",
            )
        first, per_second = instants.min(), PER_SECOND[unit]
        # In place: of a large log every copy counts. First the difference: a float holds no ns since 1970.
        instants -= first
        time_s = instants.astype(np.float64, copy=False)
        del instants
        time_s /= per_second
        start_s = float(first) / per_second
        if not 0 < float(time_s.max()) <= LONGEST_S:
            raise self.source.error(
                "has all requests at one instant, or instants more than 10 years apart",
                "correct its times, or map another column to time",
            )
        name, prompt, output = _joined(self.name), _joined(self.prompt), _joined(self.output)
        took_s = (_joined(self.took) / per_second).astype(np.float32) if self.took else None
        if took_s is not None and (took_s > LONGEST_S).any():
            raise self.source.error(
                "has ends more than 10 years after the beginnings of their requests",
                "map a column to end that has the unit of its times",
            )
        if (time_s[1:] < time_s[:-1]).any():
            order = np.argsort(time_s, kind="stable")
            time_s = time_s[order]
            name, prompt, output = name[order], prompt[order], output[order]
            took_s = None if took_s is None else took_s[order]
        return RequestLog(
            self.kind,
            time_s,
            start_s if start_s >= EPOCH_S else None,
            tuple(self.numbers),
            name,
            prompt,
            output,
            self._remarks(),
            took_s,
        )

    def _remarks(self) -> tuple[str, ...]:
        told = [f"{number:,} {what}" for what, number in self.counts.items()]
        if self.sessions:
            hashes = _joined(self.sessions)
            distinct = len(np.unique(hashes))
            told.append(f"{distinct:,} sessions with {len(hashes) / distinct:.3g} requests each")
        return tuple(told)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """All parts as one, which are forgotten so that memory holds them once."""
    if not parts:
        return np.zeros(0)
    joined = parts[0].copy() if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return joined
