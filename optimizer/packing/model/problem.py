"""The packing problem that every placer solves: classes of items, options of bins, rows, prices, cuts.

It knows nothing of adapters or GPUs, so vector bin packing with several bin types, and classic bin
packing, are special cases. An item class is a class of identical adapters, a bin is a GPU, and an
option is a way to run a GPU: (device, adapter slots, largest rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from optimizer.packing.model.argument_checks import PackingError as PackingError
from optimizer.packing.model.argument_checks import (
    check_members,
    to_floats,
    to_number,
    to_whole,
    to_wholes,
)
from optimizer.packing.model.arrays import BoolArray as BoolArray
from optimizer.packing.model.arrays import FloatArray as FloatArray
from optimizer.packing.model.arrays import IntArray as IntArray
from optimizer.packing.model.problem_checks import option_problems, problem_problems
from optimizer.packing.model.scaling import ScaledRows, integer_rows
from scenarios import EngineOption
from scenarios.arguments import refuse
from scenarios.engine import Regime

Objective = Literal["price", "worst", "mean"]
"""What to minimise: the sum of the bins' prices, or the worst or mean latency over ``max_bins`` bins."""

TOLERANCE = 1e-9
"""Relative slack of a row in floating point."""


@dataclass(frozen=True, eq=False)
class PackingOption:
    """One way to open a bin.

    Parameters
    ----------
    name
        For messages.
    usage
        What one item of a class takes of each row, at least 0, shape (m, n_classes).
    capacity
        What a bin has of each row, at least 0, shape (m,): ``usage @ counts <= capacity``.
    allowed
        Which classes may go into the bin (an adapter's rank may exceed ``max_lora_rank``), shape
        (n_classes,); None: all.
    price
        Price of one bin, above 0.
    limit
        Most bins of this option; None: no limit.
    option, regime, variant
        What the option stands for, and which of several sets of rows for it these are; the placers carry it
        along. Two problems' options of one `key` are one way to run a GPU, whatever their rows.
    latency_usage, latency_offset
        A convex piecewise-linear estimate of the bin's latency, the largest over pieces p of
        ``latency_usage[p] @ counts + latency_offset[p]``; shapes (p, n_classes) and (p,), usage and the
        largest offset at least 0. Needed for the objectives ``worst`` and ``mean`` only.
    strict_rows
        So many rows, the first ones, say what must not be together; the others what is too much, which is
        known better once a bin was looked at.
    """

    name: str
    usage: FloatArray
    capacity: FloatArray
    allowed: BoolArray | None = None
    price: float = 1.0
    limit: int | None = None
    option: EngineOption = EngineOption("bin", 1, 0)  # noqa: RUF009 (frozen)
    regime: Regime = "resident"
    variant: int = 0
    latency_usage: FloatArray | None = None
    latency_offset: FloatArray | None = None
    strict_rows: int = 0

    def __post_init__(self) -> None:
        for name, dimensions in (("usage", 2), ("capacity", 1), ("latency_usage", 2), ("latency_offset", 1)):
            if getattr(self, name) is not None:
                array = to_floats(f'option "{self.name}": {name}', getattr(self, name), dimensions=dimensions)
                _set(self, name, array.reshape((1,) * (dimensions - array.ndim) + array.shape))
        allowed = np.ones(self.usage.shape[1]) if self.allowed is None else self.allowed
        _set(self, "allowed", np.asarray(allowed, dtype=bool))
        to_number(f'option "{self.name}": price', self.price)
        if self.limit is not None:
            _set(self, "limit", to_whole(f'option "{self.name}": limit', self.limit))
        refuse(option_problems(self), PackingError)

    @property
    def key(self) -> tuple[EngineOption, Regime, int]:
        """What joins options of different problems."""
        return self.option, self.regime, self.variant

    @property
    def device(self) -> str:
        """Kind of bin."""
        return self.option.device

    @property
    def fits_class(self) -> BoolArray:
        """Which classes may go into the bin, shape (n_classes,)."""
        assert self.allowed is not None
        return self.allowed

    @property
    def counting_rows(self) -> BoolArray:
        """Which rows only count items, of all or of some classes, and so cannot be wrong, shape (m,)."""
        most = self.usage.max(axis=1, keepdims=True)
        return np.asarray(((self.usage == 0) | (self.usage == most)).all(axis=1), dtype=bool)

    def holds_strictly(self, counts: IntArray) -> bool:
        """Whether items may be together: none is barred, and the strict rows hold."""
        k = self.strict_rows
        barred = bool((counts > 0)[~self.fits_class].any())
        return not barred and bool((self.usage[:k] @ counts <= self.capacity[:k]).all())

    def latency(self, counts: IntArray) -> float:
        """Latency of a bin that holds these items.

        Raises
        ------
        PackingError
            If the option has no latency rows.
        """
        if self.latency_usage is None or self.latency_offset is None:
            remedy = "give latency_usage and _offset"
            raise PackingError.of(f'option "{self.name}"', "has no latency rows", remedy)
        return float((self.latency_usage @ counts + self.latency_offset).max())


def _set(instance: object, name: str, value: object) -> None:
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)
    object.__setattr__(instance, name, value)


@dataclass(frozen=True, eq=False)
class NoGoodCut:
    """A multiset of items that a bin must not hold, nor anything that dominates it.

    A bin dominates the multiset if its items can be matched one to one to the multiset's so that each
    is at least as heavy (``PackingProblem.dominance``) as the one it is matched to.

    Parameters
    ----------
    options
        Indices of the options that the cut holds for.
    counts
        Items per class, shape (n_classes,), at least one.
    """

    options: tuple[int, ...]
    counts: IntArray

    def __post_init__(self) -> None:
        if not isinstance(self.options, (tuple, list)):
            message = f"is {self.options!r}, must be a tuple of indices"
            raise PackingError.of("options of a cut", message, "give one")
        _set(self, "options", tuple(to_whole("an option of a cut", o) for o in self.options))
        _set(self, "counts", to_wholes("counts of a cut", self.counts))
        if (self.counts < 0).any() or not self.counts.any():
            raise PackingError.of("a cut", "needs counts of at least 0, and one above 0")


@dataclass(frozen=True, eq=False)
class Bin:
    """One open bin: the index of its option and how many items of each class it holds.

    Where items of a class are only alike, ``items`` are the numbers of those that it holds; empty: any.
    """

    option: int
    counts: IntArray
    items: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _set(self, "counts", np.asarray(self.counts, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Packing:
    """Open bins; together they hold every item once."""

    bins: tuple[Bin, ...]

    def __len__(self) -> int:
        return len(self.bins)

    def counts(self) -> IntArray:
        """Items per bin and class, shape (n_bins, n_classes)."""
        return np.array([b.counts for b in self.bins], dtype=np.int64)

    def patterns(self) -> list[tuple[Bin, int]]:
        """Distinct bins and how often each occurs, in order of first appearance."""
        seen: dict[tuple[int, bytes], list[Any]] = {}
        for b in self.bins:
            seen.setdefault((b.option, b.counts.tobytes()), [b, 0])[1] += 1
        return [(b, count) for b, count in seen.values()]


@dataclass(frozen=True, eq=False)
class PackingProblem:
    """Pack every item into bins of the options at least price, or at least latency.

    Parameters
    ----------
    counts
        Items per class, shape (n_classes,).
    options
        The ways to open a bin.
    device_limits
        Most bins per ``PackingOption.device``; devices that are absent have no limit.
    max_bins
        Most bins; with the objectives ``worst`` and ``mean`` the number of bins given.
    budget
        Most total price; None: no limit.
    cuts
        Multisets that bins must not dominate.
    dominance
        How heavy an item is by several measures, shape (n_classes, n_measures): one of class a can stand
        for one of class b in a cut if it is no lighter by any, ``(dominance[a] >= dominance[b]).all()``.
        None: only a class for itself.
    objective
        ``price``: least sum of prices. ``worst``, ``mean``: least worst or mean latency over the
        ``max_bins`` bins; ``mean`` counts a bin without items by its lowest offset.
    class_names
        For messages; absent: numbers.
    rates
        Load that one item brings, by which the paper's greedy orders items; None: the least share of a
        bin that an item takes.
    slotless
        Which classes' items take no slot of an engine, shape (n_classes,); None: all take one. No placer
        looks at it, the rows say what items take; whoever runs a bin does.
    fewest_slots
        Fewest slots of an engine; what it has beyond them and its adapters is given back to the KV cache. No
        placer looks at it either.
    """

    counts: IntArray
    options: tuple[PackingOption, ...]
    device_limits: Mapping[str, int] = field(default_factory=dict)
    max_bins: int | None = None
    budget: float | None = None
    cuts: tuple[NoGoodCut, ...] = ()
    dominance: FloatArray | None = None
    objective: Objective = "price"
    class_names: tuple[str, ...] = ()
    rates: FloatArray | None = None
    slotless: BoolArray | None = None
    fewest_slots: int = 1

    def __post_init__(self) -> None:
        _set(self, "counts", to_wholes("counts", self.counts))
        _set(self, "fewest_slots", to_whole("fewest_slots", self.fewest_slots, least=1))
        check_members("options", self.options, PackingOption)
        check_members("cuts", self.cuts, NoGoodCut)
        _set(self, "options", tuple(self.options))
        _set(self, "cuts", tuple(self.cuts))
        if self.dominance is not None:
            _set(self, "dominance", to_floats("dominance", self.dominance, dimensions=2))
        if self.rates is not None:
            _set(self, "rates", to_floats("rates", self.rates, dimensions=1))
        if self.max_bins is not None:
            _set(self, "max_bins", to_whole("max_bins", self.max_bins, least=1))
        if self.budget is not None:
            to_number("budget", self.budget)
        refuse(problem_problems(self), PackingError)
        limits = self.device_limits.items()
        _set(self, "device_limits", {d: to_whole(f"device_limits[{d!r}]", n) for d, n in limits})

    @classmethod
    def bin_packing(cls, sizes: ArrayLike, capacity: float) -> PackingProblem:
        """Classic one-dimensional bin packing; items of equal size form a class, largest first.

        Raises
        ------
        PackingError
            If a size is not above 0, or above the capacity.
        """
        values = to_floats("sizes", sizes, dimensions=1)
        capacity = to_number("capacity", capacity)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or values.min() <= 0:
            raise PackingError.of("sizes", "must be a list of finite numbers above 0")
        if values.max() > capacity:
            raise PackingError.of("size", f"{values.max():g} is above the capacity {capacity:g}")
        distinct, counts = np.unique(-values, return_counts=True)
        option = PackingOption("bin", usage=-distinct[None, :], capacity=np.array([capacity]))
        return cls(counts, (option,), class_names=tuple(f"{-size:g}" for size in distinct))

    def without_slot(self, counts: IntArray) -> int:
        """How many of some items take no slot of an engine."""
        return 0 if self.slotless is None else int(counts[self.slotless].sum())

    @property
    def n_classes(self) -> int:
        """Number of item classes."""
        return len(self.counts)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.counts.sum())

    @cached_property
    def rows(self) -> tuple[ScaledRows, ...]:
        """Every option's rows as integers, rounded towards safety; all placers use these."""
        return tuple(integer_rows(o.usage, o.capacity, o.fits_class, self.counts) for o in self.options)

    @cached_property
    def prices(self) -> FloatArray:
        """Price of each option, shape (n_options,)."""
        return np.array([o.price for o in self.options])

    @cached_property
    def measures(self) -> FloatArray:
        """`dominance`, or where there is none, measures by which every class compares with itself alone."""
        if self.dominance is not None:
            return self.dominance
        index = np.arange(self.n_classes, dtype=np.float64)
        return np.column_stack([index, -index])

    def class_name(self, index: int) -> str:
        """Name of a class for messages."""
        return self.class_names[index] if self.class_names else str(index)

    def unpackable(self) -> IntArray:
        """Classes of which not even one item fits any bin, whatever the cuts say."""
        fits = np.array([rows.most for rows in self.rows]).max(axis=0) >= 1
        return np.flatnonzero((self.counts > 0) & ~fits)

    def price(self, packing: Packing) -> float:
        """Sum of the bins' prices."""
        return float(sum(self.options[b.option].price for b in packing.bins))

    def value(self, packing: Packing) -> float:
        """The objective of a packing."""
        if self.objective == "price":
            return self.price(packing)
        filled = [self.options[b.option].latency(b.counts) for b in packing.bins if b.counts.any()]
        if self.objective == "worst":
            return max(filled, default=0.0)
        assert self.max_bins is not None
        return (sum(filled) + (self.max_bins - len(filled)) * self.idle_latency) / self.max_bins

    @cached_property
    def idle_latency(self) -> float:
        """Lowest latency of a bin without items."""
        nothing = np.zeros(self.n_classes, dtype=np.int64)
        return min(option.latency(nothing) for option in self.options)

    def balanced(self, bins: int, objective: Literal["worst", "mean"] = "worst") -> PackingProblem:
        """The problem of spreading the items evenly: each bin's latency is its fullest row's share."""
        options = tuple(
            replace(o, latency_usage=_share(o), latency_offset=np.zeros(len(o.capacity)))
            for o in self.options
        )
        return replace(self, options=options, objective=objective, max_bins=bins)


def _share(option: PackingOption) -> FloatArray:
    full = np.where(option.capacity > 0, option.capacity, 1.0)
    return np.asarray(option.usage / full[:, None], dtype=np.float64)
