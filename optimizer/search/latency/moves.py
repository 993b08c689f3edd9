"""What could be exchanged between two GPUs."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from optimizer.packing.model.problem import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Exchanges:
    """Items that one bin gives to another, and others that it gets for them.

    Parameters
    ----------
    given, taken
        Class of the items; -1: none. Shape (k,).
    give, take
        How many, shape (k,).
    """

    given: IntArray
    give: IntArray
    taken: IntArray
    take: IntArray

    def __len__(self) -> int:
        return len(self.given)

    def change(self, per_item: FloatArray) -> FloatArray:
        """By how much sums over the giving bin's items become less.

        Parameters
        ----------
        per_item
            What an item of each class adds, shape (n_classes, m) or (n_classes,).

        Returns
        -------
        numpy.ndarray
            Shape (k, m) or (k,).
        """
        give, take = (
            np.where(of >= 0, number, 0).reshape(-1, *(1,) * (per_item.ndim - 1))
            for of, number in ((self.given, self.give), (self.taken, self.take))
        )
        return np.asarray(give * per_item[self.given] - take * per_item[self.taken])

    def moved(self, k: int, n_classes: int) -> IntArray:
        """Items of each class that an exchange moves, negative where taken, shape (n_classes,)."""
        counts = np.zeros(n_classes, dtype=np.int64)
        if self.given[k] >= 0:
            counts[self.given[k]] += self.give[k]
        if self.taken[k] >= 0:
            counts[self.taken[k]] -= self.take[k]
        return counts

    def chosen(self, keep: IntArray) -> Exchanges:
        """Some of them."""
        return Exchanges(self.given[keep], self.give[keep], self.taken[keep], self.take[keep])


def exchanges(first: IntArray, second: IntArray, most: int, draw: np.random.Generator) -> Exchanges:
    """Exchanges between two bins that leave neither empty.

    Of items of one class 1, 2, 4 and so on are moved, or all; swaps are of one for one, and of all of a class
    for all of another.

    Parameters
    ----------
    first, second
        Items that each bin holds, shape (n_classes,).
    most
        How many to return; where there are more they are drawn at random.
    draw
        For that.
    """
    given, taken, none = _amounts(first), _amounts(second), (np.array([-1]), np.array([0]))
    pairs = (
        (given, none),
        (none, taken),
        (_ones(first), _ones(second)),
        (_whole(given, first), _whole(taken, second)),
    )
    parts = [_all_pairs(mine, other) for mine, other in pairs]
    found = Exchanges(*(np.concatenate(columns) for columns in zip(*map(astuple, parts), strict=True)))
    found = found.chosen(np.flatnonzero(found.given != found.taken))
    left = first.sum() - found.give + found.take, second.sum() + found.give - found.take
    kept = np.flatnonzero((left[0] > 0) & (left[1] > 0))
    if len(kept) > most:
        kept = draw.choice(kept, most, replace=False)
    return found.chosen(kept)


_Part = tuple[IntArray, IntArray]


def _amounts(held: IntArray) -> _Part:
    """Classes and numbers: 1, 2, 4 and so on up to what is held, and all of it."""
    classes, numbers = list[int](), list[int]()
    for c in np.flatnonzero(held).tolist():
        n = int(held[c])
        of = sorted({1 << k for k in range(n.bit_length())} | {n})
        classes += [c] * len(of)
        numbers += of
    return np.array(classes, dtype=np.int64), np.array(numbers, dtype=np.int64)


def _ones(held: IntArray) -> _Part:
    """One item of each class."""
    classes = np.flatnonzero(held)
    return classes, np.ones(len(classes), dtype=np.int64)


def _whole(part: _Part, held: IntArray) -> _Part:
    """The amounts that are several and all of a class."""
    of = (part[1] == held[part[0]]) & (part[1] > 1)
    return part[0][of], part[1][of]


def _all_pairs(first: _Part, second: _Part) -> Exchanges:
    n, m = len(first[0]), len(second[0])
    return Exchanges(
        np.repeat(first[0], m), np.repeat(first[1], m), np.tile(second[0], n), np.tile(second[1], n)
    )
