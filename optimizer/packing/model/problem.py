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
from numpy.typing import ArrayLike, NDArray

from optimizer.packing.model.argument_checks import PackingError as PackingError
from optimizer.packing.model.argument_checks import floats, members, number, whole, wholes
from optimizer.packing.model.scaling import ScaledRows, integer_rows
from scenarios.engine import EngineOption, Regime

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

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
    option, regime
        What the option stands for; the placers carry it along. Two problems' options of one `key` are one
        way to run a GPU, whatever their rows.
    latency_usage, latency_offset
        A convex piecewise-linear estimate of the bin's latency, the largest over pieces p of
        ``latency_usage[p] @ counts + latency_offset[p]``; shapes (p, n_classes) and (p,), usage and the
        largest offset at least 0. Needed for the objectives ``worst`` and ``mean`` only.
    """

    name: str
    usage: FloatArray
    capacity: FloatArray
    allowed: BoolArray | None = None
    price: float = 1.0
    limit: int | None = None
    option: EngineOption = EngineOption("bin", 1, 0)  # noqa: RUF009 (frozen)
    regime: Regime = "resident"
    latency_usage: FloatArray | None = None
    latency_offset: FloatArray | None = None

    def __post_init__(self) -> None:
        where = f'option "{self.name}": '
        usage = np.atleast_2d(floats(f"{where}usage", self.usage, dimensions=2))
        _set(self, "usage", usage)
        _set(self, "capacity", np.atleast_1d(floats(f"{where}capacity", self.capacity, dimensions=1)))
        allowed = np.ones(usage.shape[1], bool) if self.allowed is None else np.asarray(self.allowed, bool)
        _set(self, "allowed", allowed)
        _check_option(self)
        if (self.latency_usage is None) != (self.latency_offset is None):
            raise PackingError(f"{where}give latency_usage and latency_offset, or neither")
        if self.latency_usage is not None and self.latency_offset is not None:
            pieces = floats(f"{where}latency_usage", self.latency_usage, dimensions=2)
            offset = floats(f"{where}latency_offset", self.latency_offset, dimensions=1)
            _set(self, "latency_usage", np.atleast_2d(pieces))
            _set(self, "latency_offset", np.atleast_1d(offset))
            _check_latency(self)

    @property
    def key(self) -> tuple[EngineOption, Regime]:
        """What joins options of different problems."""
        return self.option, self.regime

    @property
    def device(self) -> str:
        """Kind of bin."""
        return self.option.device

    @property
    def fits_class(self) -> BoolArray:
        """Which classes may go into the bin, shape (n_classes,)."""
        assert self.allowed is not None
        return self.allowed

    def latency(self, counts: IntArray) -> float:
        """Latency of a bin that holds these items.

        Raises
        ------
        PackingError
            If the option has no latency rows.
        """
        if self.latency_usage is None or self.latency_offset is None:
            raise PackingError(f'option "{self.name}" has no latency rows; give latency_usage and _offset')
        return float((self.latency_usage @ counts + self.latency_offset).max())


def _set(instance: object, name: str, value: object) -> None:
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)
    object.__setattr__(instance, name, value)


def _check_option(option: PackingOption) -> None:
    where, usage, capacity = f'option "{option.name}"', option.usage, option.capacity
    if not len(usage):
        raise PackingError(f"{where}: usage has no rows; give one of zeros where nothing limits a bin")
    if usage.shape[0] != len(capacity):
        raise PackingError(f"{where}: usage has {usage.shape[0]} rows, capacity {len(capacity)}")
    if option.fits_class.shape != (usage.shape[1],):
        raise PackingError(f"{where}: allowed has shape {option.fits_class.shape}, not ({usage.shape[1]},)")
    if not (np.isfinite(usage).all() and np.isfinite(capacity).all()):
        raise PackingError(f"{where}: usage and capacity must be finite")
    if (usage < 0).any():
        r, c = np.argwhere(usage < 0)[0]
        raise PackingError(
            f"{where}: usage[{r}, {c}] is {usage[r, c]:g}, below 0; replace it by 0, which is conservative"
        )
    if (capacity < 0).any():
        raise PackingError(f"{where}: capacity {capacity.min():g} is below 0; drop the option")
    if number(f"{where}: price", option.price) == 0:
        raise PackingError(f"{where}: price is 0, must be above 0; give what a bin costs, or 1")
    if option.limit is not None:
        _set(option, "limit", whole(f"{where}: limit", option.limit))


def _check_latency(option: PackingOption) -> None:
    where, pieces, offset = f'option "{option.name}"', option.latency_usage, option.latency_offset
    assert pieces is not None
    assert offset is not None
    if pieces.shape != (len(offset), option.usage.shape[1]) or not len(offset):
        raise PackingError(
            f"{where}: latency_usage has shape {pieces.shape}, must be "
            f"({max(1, len(offset))}, {option.usage.shape[1]})"
        )
    if not (np.isfinite(pieces).all() and np.isfinite(offset).all()):
        raise PackingError(f"{where}: latency_usage and latency_offset must be finite")
    if (pieces < 0).any():
        raise PackingError(f"{where}: latency_usage {pieces.min():g} is below 0; replace it by 0")
    if offset.max() < 0:
        raise PackingError(
            f"{where}: the largest latency_offset is {offset.max():g}, so a bin's latency may be below 0; "
            "add a piece of offset 0"
        )


@dataclass(frozen=True, eq=False)
class NoGoodCut:
    """A multiset of items that a bin must not hold, nor anything that dominates it.

    A bin dominates the multiset if its items can be matched one to one to the multiset's so that each
    is at least as heavy (``PackingProblem.heaviness``) as the one it is matched to.

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
            raise PackingError(f"options of a cut is {self.options!r}, must be a tuple of indices; give one")
        _set(self, "options", tuple(whole("an option of a cut", o) for o in self.options))
        _set(self, "counts", wholes("counts of a cut", self.counts))
        if (self.counts < 0).any() or not self.counts.any():
            raise PackingError("a cut needs counts of at least 0, and one above 0")


@dataclass(frozen=True, eq=False)
class Bin:
    """One open bin: the index of its option and how many items of each class it holds."""

    option: int
    counts: IntArray

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
    heaviness
        How heavy an item is by several measures, shape (n_classes, n_measures): one of class a can stand
        for one of class b in a cut if it is no lighter by any, ``(heaviness[a] >= heaviness[b]).all()``.
        None: only a class for itself.
    objective
        ``price``: least sum of prices. ``worst``, ``mean``: least worst or mean latency over the
        ``max_bins`` bins; ``mean`` counts a bin without items by its lowest offset.
    class_names
        For messages; absent: numbers.
    rates
        Load that one item brings, by which the paper's greedy orders items; None: the least share of a
        bin that an item takes.
    """

    counts: IntArray
    options: tuple[PackingOption, ...]
    device_limits: Mapping[str, int] = field(default_factory=dict)
    max_bins: int | None = None
    budget: float | None = None
    cuts: tuple[NoGoodCut, ...] = ()
    heaviness: FloatArray | None = None
    objective: Objective = "price"
    class_names: tuple[str, ...] = ()
    rates: FloatArray | None = None

    def __post_init__(self) -> None:
        _set(self, "counts", wholes("counts", self.counts))
        members("options", self.options, PackingOption)
        members("cuts", self.cuts, NoGoodCut)
        _set(self, "options", tuple(self.options))
        _set(self, "cuts", tuple(self.cuts))
        if self.heaviness is not None:
            _set(self, "heaviness", floats("heaviness", self.heaviness, dimensions=2))
        if self.rates is not None:
            _set(self, "rates", floats("rates", self.rates, dimensions=1))
        _check_problem(self)

    @classmethod
    def bin_packing(cls, sizes: ArrayLike, capacity: float) -> PackingProblem:
        """Classic one-dimensional bin packing; items of equal size form a class, largest first.

        Raises
        ------
        PackingError
            If a size is not above 0, or above the capacity.
        """
        values = floats("sizes", sizes, dimensions=1)
        capacity = number("capacity", capacity)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or values.min() <= 0:
            raise PackingError("sizes must be a list of finite numbers above 0")
        if values.max() > capacity:
            raise PackingError(f"size {values.max():g} is above the capacity {capacity:g}")
        distinct, counts = np.unique(-values, return_counts=True)
        option = PackingOption("bin", usage=-distinct[None, :], capacity=np.array([capacity]))
        return cls(counts, (option,), class_names=tuple(f"{-size:g}" for size in distinct))

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
        """`heaviness`, or where there is none, measures by which every class compares with itself alone."""
        if self.heaviness is not None:
            return self.heaviness
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


def _check_problem(problem: PackingProblem) -> None:
    n = problem.n_classes
    if problem.counts.ndim != 1 or not problem.n_items or (problem.counts < 0).any():
        raise PackingError("counts must be a list of numbers of at least 0, with at least one item")
    if not problem.options:
        raise PackingError("there is no option; at least one way to open a bin is needed")
    for option in problem.options:
        if option.usage.shape[1] != n:
            raise PackingError(
                f'option "{option.name}": usage has {option.usage.shape[1]} classes, counts has {n}'
            )
    if problem.class_names and len(problem.class_names) != n:
        raise PackingError(f"class_names has {len(problem.class_names)} names for {n} classes")
    if problem.rates is not None and problem.rates.shape != (n,):
        raise PackingError(f"rates has shape {problem.rates.shape}, not ({n},)")
    _check_heaviness(problem)
    for cut in problem.cuts:
        if cut.counts.shape != (n,) or not all(0 <= o < len(problem.options) for o in cut.options):
            raise PackingError("a cut names an option that does not exist, or has other classes")
    _check_limits(problem)
    if problem.objective not in ("price", "worst", "mean"):
        raise PackingError(f'objective is "{problem.objective}", must be price, worst or mean')
    if problem.objective != "price":
        if problem.max_bins is None:
            raise PackingError(f"objective {problem.objective} needs max_bins, the number of bins given")
        for option in problem.options:
            if option.latency_usage is None:
                raise PackingError(
                    f'option "{option.name}" has no latency rows, which objective {problem.objective} needs'
                )


def _check_heaviness(problem: PackingProblem) -> None:
    heaviness, n = problem.heaviness, problem.n_classes
    if heaviness is None:
        return
    if heaviness.ndim != 2 or len(heaviness) != n:
        raise PackingError(
            f"heaviness has shape {heaviness.shape}, must be ({n}, measures); give a row per class"
        )
    if np.isnan(heaviness).any():
        c, k = np.argwhere(np.isnan(heaviness))[0]
        raise PackingError(f"heaviness[{c}, {k}] is nan, must be a number; give one")


def _check_limits(problem: PackingProblem) -> None:
    if not isinstance(problem.device_limits, Mapping):
        raise PackingError(
            f"device_limits is {problem.device_limits!r:.80}, must be a mapping; give a number by device"
        )
    devices = {option.device for option in problem.options}
    for device in problem.device_limits:
        if device not in devices:
            raise PackingError(
                f"device_limits names {device!r}, which no option has; drop it, or name one of "
                f"{', '.join(sorted(devices))}"
            )
    limits = {d: whole(f"device_limits[{d!r}]", limit) for d, limit in problem.device_limits.items()}
    _set(problem, "device_limits", limits)
    if problem.max_bins is not None:
        _set(problem, "max_bins", whole("max_bins", problem.max_bins, least=1))
    if problem.budget is not None:
        number("budget", problem.budget)
