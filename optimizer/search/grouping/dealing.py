"""From a packing of groups to one of items: which member of a group goes where, by what it takes itself.

A packing of groups is right on average. Members are dealt so that heavy and light ones even out in every GPU;
what is too much for a GPU all the same goes to others, by every item's own rows, and GPUs that can be emptied
are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from optimizer.packing.heuristics.item_kernels import FULL, deal, fill_items, place_items
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingProblem
from optimizer.search.grouping.groups import Groups
from optimizer.search.instance import Instance, Served
from scenarios import AdapterKind, Deadline

BARRED = 1e3
"""Share of a GPU that an item takes which may not enter it."""


@dataclass(frozen=True, eq=False)
class ItemRows:
    """What items take, and the average of each group, as shares of rows.

    Parameters
    ----------
    options
        Indices of the problem's options that are looked at.
    usage, mean
        Shapes (n_options, n_items, m) and (n_options, n_groups, m); `BARRED` where an item may not enter.
    """

    options: tuple[int, ...]
    usage: FloatArray
    mean: FloatArray

    @cached_property
    def learned(self) -> NDArray[np.bool_]:
        """Which rows items take different shares of, shape (n_options, m); the others are rules."""
        return np.asarray(np.ptp(self.mean, axis=1) > 0.0)

    @cached_property
    def weight(self) -> FloatArray:
        """Least share of a GPU that each item takes."""
        return np.asarray(self.usage.max(axis=2).min(axis=0))

    def index(self, option: int) -> int:
        """Where an option of the problem is in the arrays."""
        return self.options.index(option)


@dataclass(frozen=True, eq=False)
class Dealer:
    """Deals the items of a grouped instance.

    Parameters
    ----------
    instance
        The problems of groups; ``groups`` and ``served`` are there.
    """

    instance: Instance
    _known: dict[int, FloatArray] = field(default_factory=dict, repr=False)

    @property
    def groups(self) -> Groups:
        """The groups."""
        assert self.instance.groups is not None
        return self.instance.groups

    @property
    def served(self) -> Served:
        """The figures of what is in them."""
        assert self.instance.served is not None
        return self.instance.served

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Adapter of each item."""
        return tuple(name for one in self.served.classes for name in one.names)

    def kind(self, item: int) -> AdapterKind:
        """Kind of an item."""
        return self.served.classes[int(self.groups.class_of[item])].kind

    def shares(self, b: Bin) -> dict[str, float]:
        """The adapters of a bin, and the fraction of each one's requests that it serves."""
        shares: dict[str, float] = {}
        for item in b.items:
            name = self.names[item]
            shares[name] = (
                shares.get(name, 0.0) + 1.0 / self.served.splits[self.groups.class_of[item]].replicas
            )
        return shares

    def rows(self, problem: PackingProblem, options: Sequence[int]) -> ItemRows:
        """What items take in a problem: of the inner region, changed as the problem changes their group."""
        usage = [self._shares(problem, o) for o in options]
        mean = [_share_of(problem, o).T for o in options]
        m = max(one.shape[1] for one in usage)
        return ItemRows(
            tuple(options),
            np.stack([np.pad(one, ((0, 0), (0, m - one.shape[1]))) for one in usage]),
            np.stack([np.pad(one, ((0, 0), (0, m - one.shape[1]))) for one in mean]),
        )

    def _shares(self, problem: PackingProblem, option: int) -> FloatArray:
        """What items take of an option's rows, shape (n_items, m)."""
        if option not in self._known:
            device, rows = list(self.served.rows("inner"))[option]
            own = self.served.option(device, rows)
            shares = np.where(own.fits_class, own.usage / own.capacity[:, None], BARRED)
            self._known[option] = np.ascontiguousarray(shares.T[self.groups.class_of])
        shares, base, now = (
            self._known[option],
            _share_of(self.instance.inner, option),
            _share_of(problem, option),
        )
        if now.shape == base.shape and (now == base).all():
            return shares
        m, of_item = min(len(base), len(now)), self.groups.of_item
        ratio = np.divide(now[:m], base[:m], out=np.ones_like(base[:m]), where=base[:m] > 0)
        return np.hstack([shares[:, :m] * ratio.T[of_item], now[m:].T[of_item]])

    def deal(self, problem: PackingProblem, packing: Packing) -> Packing:
        """The packing with the items that each bin holds, as it is."""
        if all(b.items for b in packing.bins):
            return packing
        return self._open(problem, packing).packing

    def pack(
        self, problem: PackingProblem, packing: Packing, deadline: Deadline, tries: int
    ) -> Packing | None:
        """The packing with items, each bin within its rows by what they take themselves, in few bins.

        None where the problem's limits do not allow the bins that are needed.

        Parameters
        ----------
        problem
            Whose rows and limits are kept.
        packing
            Of groups.
        deadline
            When to close no more bins.
        tries
            Bins in a row that cannot be emptied before no more are tried.
        """
        opened = self._open(problem, packing)
        if not opened.place(opened.overfull()):
            return None
        opened.close(deadline, tries)
        return opened.packing

    def relieve(
        self,
        problem: PackingProblem,
        packing: Packing,
        shed: FloatArray,
        room: FloatArray,
        upto: float,
    ) -> Packing | None:
        """A share of the items of some bins in others, or in new ones; what is not touched stays as it is.

        None where the problem's limits do not allow so many.

        Parameters
        ----------
        problem, packing
            What items take, and where they are.
        shed
            Share of its items that each bin gives away, shape (n_bins,).
        room
            By how much what a bin takes of learned rows may grow, whatever these say, shape (n_bins,).
        upto
            How full by the rows bins may be made all the same.
        """
        opened = self.opened(problem, packing, wider=True)
        ceiling = opened.ceiling(room, upto)
        ceiling[shed > 0.0] = -1.0
        out = opened.sample(shed)
        return opened.packing if opened.place(out, ceiling, upto) else None

    def _open(self, problem: PackingProblem, packing: Packing) -> OpenItems:
        """The bins of a packing of groups with items dealt to them."""
        rows = self.rows(problem, sorted({b.option for b in packing.bins}))
        option = np.array([rows.index(b.option) for b in packing.bins])
        of_item = self.groups.of_item
        order = np.lexsort((-rows.weight, of_item))
        place = deal(order, of_item, packing.counts(), rows.usage, rows.mean, option)
        return OpenItems(problem, rows, of_item, option, place)

    def opened(self, problem: PackingProblem, packing: Packing, *, wider: bool = False) -> OpenItems:
        """The bins of a packing that says which items each of them holds.

        Parameters
        ----------
        problem, packing
            What items take, and where they are.
        wider
            Whether bins with a slot for each item may be given more items than their option has slots. The
            engine has as many as there are items anyway, so the next larger option is the same one.
        """
        options = [self._wider(problem).get(b.option, b.option) if wider else b.option for b in packing.bins]
        rows = self.rows(problem, sorted(set(options)))
        option = np.array([rows.index(o) for o in options])
        place = np.full(len(self.groups.of_item), -1)
        for g, b in enumerate(packing.bins):
            place[list(b.items)] = g
        return OpenItems(problem, rows, self.groups.of_item, option, place)

    @staticmethod
    def _wider(problem: PackingProblem) -> dict[int, int]:
        """The option with the next number of slots, by option with a slot for each item."""
        order = sorted(
            (k for k, option in enumerate(problem.options) if option.regime == "resident"),
            key=lambda k: _slots(problem, k),
        )
        same = [(a, b) for a, b in pairwise(order) if _slots(problem, a)[:2] == _slots(problem, b)[:2]]
        return dict(same)


class OpenItems:
    """Bins while items move between them."""

    def __init__(
        self, problem: PackingProblem, rows: ItemRows, group: IntArray, option: IntArray, place: IntArray
    ) -> None:
        self.problem, self.rows, self.group, self.option, self.where = problem, rows, group, option, place
        self.load = np.zeros((len(option), rows.usage.shape[2]))
        held = place >= 0
        np.add.at(self.load, place[held], rows.usage[option[place[held]], held])

    @property
    def packing(self) -> Packing:
        """The bins that hold items."""
        return Packing(tuple(self._bin(g, items) for g, items in enumerate(self.contents) if len(items)))

    @property
    def contents(self) -> list[IntArray]:
        """Items of each bin, ascending."""
        order = np.argsort(self.where, kind="stable")
        edges = np.searchsorted(self.where[order], np.arange(len(self.option) + 1))
        return [order[a:b] for a, b in pairwise(edges)]

    def overfull(self) -> IntArray:
        """Take out what is too much for each bin: the least item that suffices, or else the largest."""
        contents, out = self.contents, list[int]()
        for g in np.flatnonzero((self.load > FULL).any(axis=1)):
            items, usage = contents[g].tolist(), self.rows.usage[self.option[g]]
            while (self.load[g] > FULL).any():
                row = int(self.load[g].argmax())
                taken, excess = usage[items, row], self.load[g, row] - 1.0
                k = int(
                    np.where(taken >= excess, taken, np.inf).argmin()
                    if taken.max() >= excess
                    else taken.argmax()
                )
                out.append(items.pop(k))
                self.load[g] -= usage[out[-1]]
        self.where[out] = -1
        return np.array(out, dtype=np.int64)

    def ceiling(self, room: FloatArray, upto: float) -> FloatArray:
        """How full each row of each bin may become, shape (n_bins, m).

        Parameters
        ----------
        room
            By how much what a bin takes of learned rows may grow, as a share, shape (n_bins,). Rules, of
            which every item takes as much, are kept.
        upto
            How full of learned rows it may be all the same.
        """
        learned = self.rows.learned[self.option]
        fullest = np.where(learned, self.load, 0.0).max(axis=1)
        most = np.maximum(fullest * (1.0 + room), upto)
        return np.where(learned, most[:, None], FULL)

    def sample(self, shares: FloatArray) -> IntArray:
        """Take a share of its items, heavy and light ones, out of each bin; at least one, unless it is 0."""
        contents, out = self.contents, [np.zeros(0, dtype=np.int64)]
        for g in np.flatnonzero(shares > 0.0):
            items = contents[g][np.argsort(-self.rows.weight[contents[g]], kind="stable")]
            number = max(1, round(shares[g] * len(items)))
            chosen = items[((np.arange(number) + 0.5) * len(items) / number).astype(int)]
            self.load[g] -= self.rows.usage[self.option[g], chosen].sum(axis=0)
            out.append(chosen)
        found = np.concatenate(out)
        self.where[found] = -1
        return found

    def place(self, items: IntArray, ceiling: FloatArray | None = None, upto: float = FULL) -> bool:
        """Put items into bins that take them, the others into new bins; whether the limits allow these.

        Below ceilings of their own bins are filled evenly, as these are only estimates; else one by one.
        """
        if not len(items):
            return True
        even = ceiling is not None
        items = items[np.argsort(-self.rows.weight[items], kind="stable")]
        ceiling = np.full_like(self.load, FULL) if ceiling is None else ceiling
        places = place_items(items, self.rows.usage, self.option, self.load, ceiling, even)
        self.where[items] = places
        return self._place_in_new(items[places < 0], upto)

    def _place_in_new(self, items: IntArray, upto: float) -> bool:
        """Put items into new bins, each of the option that holds most of them per price."""
        stock = BinLimits(self.problem)
        for o, number in zip(*np.unique(self.option, return_counts=True), strict=True):
            stock.take(self.rows.options[o], int(number))
        while len(items):
            best, most, chosen = None, 0.0, np.zeros(len(items), dtype=bool)
            for k, o in enumerate(self.rows.options):
                if stock.available(o):
                    taken = fill_items(items, self.rows.usage[k], upto)
                    value = float(self.rows.weight[items[taken]].sum()) / self.problem.options[o].price
                    if value > most:
                        best, most, chosen = k, value, taken
            if best is None:
                return False
            stock.take(self.rows.options[best])
            self.where[items[chosen]] = len(self.option)
            self.option = np.append(self.option, best)
            self.load = np.vstack([self.load, self.rows.usage[best, items[chosen]].sum(axis=0)])
            items = items[~chosen]
        return True

    def move_out(self, bins: IntArray, ceiling: FloatArray) -> tuple[IntArray, IntArray]:
        """Move items of some bins, one bin after the other, to others as far as these take them.

        Returns
        -------
        tuple of numpy.ndarray
            Which items moved, and the bin that each of them left.
        """
        held = [np.flatnonzero(self.where == g) for g in bins]
        items = np.concatenate([one[np.argsort(-self.rows.weight[one], kind="stable")] for one in held])
        places = place_items(items, self.rows.usage, self.option, self.load, ceiling, False)
        moved, home = items[places >= 0], self.where[items[places >= 0]]
        np.subtract.at(self.load, home, self.rows.usage[self.option[home], moved])
        self.where[moved] = places[places >= 0]
        return moved, home

    def move(self, items: IntArray, bins: IntArray) -> None:
        """Put each of some items into a bin, whatever that takes."""
        before = self.where[items]
        np.subtract.at(self.load, before, self.rows.usage[self.option[before], items])
        np.add.at(self.load, bins, self.rows.usage[self.option[bins], items])
        self.where[items] = bins

    def bin(self, g: int) -> Bin:
        """One bin with its items."""
        return self._bin(g, np.flatnonzero(self.where == g))

    def _bin(self, g: int, items: IntArray) -> Bin:
        counts = np.bincount(self.group[items], minlength=self.problem.n_classes)
        return Bin(self.rows.options[self.option[g]], counts, tuple(items.tolist()))

    def close(self, deadline: Deadline, tries: int) -> None:
        """Empty the lightest bins into the others."""
        contents, failed = self.contents, 0
        weights = np.array([self.rows.weight[items].sum() for items in contents])
        prices = np.array([self.problem.options[self.rows.options[o]].price for o in self.option])
        ceiling = np.full_like(self.load, FULL)
        for g in np.argsort(weights / prices, kind="stable"):
            if failed >= tries or deadline.reached:
                return
            items = np.flatnonzero(self.where == g)
            items = items[np.argsort(-self.rows.weight[items], kind="stable")]
            before, ceiling[g] = self.load.copy(), -1.0
            places = place_items(items, self.rows.usage, self.option, self.load, ceiling, False)
            if (places < 0).any():
                self.load, ceiling[g], failed = before, FULL, failed + 1
            else:
                self.where[items], failed = places, 0


def _share_of(problem: PackingProblem, option: int) -> FloatArray:
    """What a group's average takes of an option's rows, shape (m, n_groups)."""
    return np.asarray(problem.options[option].usage / problem.options[option].capacity[:, None])


def _slots(problem: PackingProblem, option: int) -> tuple[str, int, int]:
    """Device, rank and slots of an option."""
    engine = problem.options[option].option
    return engine.device, engine.max_lora_rank, engine.max_loras
