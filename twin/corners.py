"""Corners of a GPU's uncertain rates: every adapter at its high or at its low rate.

A plan must hold at all high rates, at all low ones, and at some corners between, drawn at random: a few hot
adapters keep the slots that the others wait for, which all of them together need not do.

The share of adapters that are high goes evenly from none to all over the drawn corners, so that few high ones
occur as well as many. What an adapter is in a corner hangs on the seed, on its own kind, and on how many of
its kind come before it on the GPU, and on nothing else that the GPU serves. So the corners of a GPU with more
adapters hold those of one with fewer, and what is rejected stays rejected as adapters are added.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from scenarios import AdapterKind
from scenarios.base import PlainDir
from scenarios.text.formatting import listed

DRAWN = 20
"""Corners that are drawn, beside those of all high and of all low rates."""

NAMED = 3
"""Adapters that a sentence names."""

DIGITS = 9
"""Digits of a rate by which adapters are known: a third of it, and a third of its requests, are the same."""


class Corner(PlainDir, BaseModel):
    """Which of a GPU's uncertain rates are high, the others being low."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    kind: Literal["high", "low", "drawn"]
    """All rates high, all low, or each one drawn."""
    number: int | None = None
    """Number of a drawn corner, from 1."""
    high: tuple[str, ...] = ()
    """The adapters of uncertain rates that are high in a drawn corner; the others are low."""

    def renamed(self, names: Mapping[str, str]) -> Corner:
        """The same of adapters of other names."""
        return self.model_copy(update={"high": tuple(dict.fromkeys(names[name] for name in self.high))})

    def __str__(self) -> str:
        return self.kind if self.number is None else f"{self.kind} {self.number}"

    @property
    def words(self) -> str:
        """The corner in the words of a sentence."""
        if self.kind != "drawn":
            return f"at the {self.kind} rates"
        high = listed([f'"{name}"' for name in self.high], NAMED)
        return f"in drawn corner {self.number} (of the uncertain rates those of {high} high, the others low)"


HIGH, LOW = Corner(kind="high"), Corner(kind="low")


def low_and_drawn(kinds: Sequence[AdapterKind], seed: int) -> Iterator[tuple[Corner, list[AdapterKind]]]:
    """The corners beside that of all high rates, with the kinds of the adapters, called 0, 1, 2 and so on.

    Where all uncertain rates are high in one, or all low, it is no other corner and left out.

    Parameters
    ----------
    kinds
        Kinds of the adapters of a GPU.
    seed
        Seed of the drawing.
    """
    yield LOW, [kind.at(high=False) for kind in kinds]
    uncertain = sum(kind.uncertain for kind in kinds)
    for number, high in enumerate(_drawn(kinds, seed).T, start=1):
        chosen = np.flatnonzero(high)
        if 0 < len(chosen) < uncertain:
            corner = Corner(kind="drawn", number=number, high=tuple(map(str, chosen)))
            yield corner, [kind.at(high=bool(up)) for kind, up in zip(kinds, high, strict=True)]


def _drawn(kinds: Sequence[AdapterKind], seed: int) -> NDArray[np.bool_]:
    """Which adapters are high in each drawn corner, shape (n, DRAWN)."""
    places: dict[AdapterKind, list[int]] = defaultdict(list)
    for k, kind in enumerate(kinds):
        if kind.uncertain:
            places[kind].append(k)
    shares = (np.arange(DRAWN) + 0.5) / DRAWN
    high = np.zeros((len(kinds), DRAWN), dtype=np.bool_)
    for kind, members in places.items():
        high[members] = _generator(kind, seed).random((len(members), DRAWN)) < shares
    return high


def _generator(kind: AdapterKind, seed: int) -> np.random.Generator:
    """Source of the draws for the adapters of a kind, one after the other."""
    levels = None if kind.levels is None else kind.levels.model_dump_json()
    rates = f"{kind.rate:.{DIGITS}g} {kind.low_share:.{DIGITS}g}"
    lengths = f"{kind.prompt.model_dump_json()} {kind.output.model_dump_json()}"
    own = "".join(f" {one!r}" for one in (kind.arrivals, kind.reuse) if one is not None)
    text = f"{seed} {kind.rank} {rates} {lengths} {levels}{own}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()))
