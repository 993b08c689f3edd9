"""First-fit and best-fit decreasing on rows, with arbitrary fill and choice of option.

Works on classes: filling one bin after the other with the heaviest items that still fit is first-fit
decreasing, and costs O(classes) per distinct bin instead of O(items · bins). The option of a bin is the
one whose fill is worth most per price. Best-fit puts each class into the fullest bins first (Johnson,
"Near-optimal bin packing algorithms", 1973; Panigrahy et al., "Heuristics for vector bin packing", 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from optimizer.packing.heuristics.kernels import best_fit, fill, polish
from optimizer.packing.model.cuts import CutTable, cut_tables
from optimizer.packing.model.options import BinLimits, useful_options
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingProblem
from optimizer.packing.model.search_state import SearchState
from optimizer.packing.model.step_costs import CALL, FILL, POLISH
from scenarios import Work

FIRST_BINS = 16
"""Bins that best fit has room for at first."""

CLASSES_AT_ONCE = 500
"""Classes that best fit packs between two looks at the time."""


@dataclass(frozen=True, eq=False)
class BinFiller:
    """Fills bins of a problem; keeps the arrays that compiled code needs.

    Parameters
    ----------
    problem
        The problem.
    work
        Counts what is done with its bins.
    """

    problem: PackingProblem
    work: Work = field(default_factory=Work)

    @classmethod
    def of(cls, run: SearchState) -> BinFiller:
        """A filler whose work counts towards a run's limits."""
        return cls(run.problem, run.deadline.work)

    @cached_property
    def tables(self) -> tuple[CutTable, ...]:
        """Cuts per option."""
        return cut_tables(self.problem)

    @cached_property
    def options(self) -> tuple[int, ...]:
        """Options worth opening."""
        return useful_options(self.problem)

    @cached_property
    def weights(self) -> FloatArray:
        """Share of a bin's price that an item takes at least, over options, shape (n_classes,)."""
        return item_weights(self.problem)

    @cached_property
    def orders(self) -> list[IntArray]:
        """Orders of the classes to try, heaviest first by different measures; no two alike."""
        problem, weights = self.problem, self.weights
        index = np.arange(problem.n_classes)
        lead = problem.rows[self.options[0]]
        shares = lead.usage / np.maximum(lead.capacity, 1)[:, None]
        found = [np.lexsort((index, -weights)), np.lexsort((index, -shares.sum(axis=0)))]
        if len(shares) > 1:
            total = shares @ problem.counts
            found.append(np.lexsort((index, -(shares * total[:, None]).sum(axis=0))))
            found += [np.lexsort((index, -weights, -share)) for share in shares]
        # Last, classes by the least rank of an option that takes them: what needs a large rank goes first, so
        # that the rest may go to options of a smaller one, which leave more memory.
        ranks = np.array([[o.option.max_lora_rank] for o in problem.options]) + np.where(
            np.array([o.fits_class for o in problem.options]), 0, 1 << 40
        )
        found.append(np.lexsort((index, -weights, -ranks.min(axis=0))))
        return list({order.tobytes(): order for order in found}.values())

    @cached_property
    def swap_measures(self) -> FloatArray:
        """An item of b may replace one of a whatever the cuts are if it is heavier by none of these.

        Shape (n_classes, n_measures); no measures where there are no cuts.
        """
        problem = self.problem
        return problem.measures if problem.cuts else np.zeros((problem.n_classes, 0))

    def fill(
        self, option: int, order: IntArray, remaining: IntArray, counts: IntArray | None = None
    ) -> IntArray:
        """Items to add to a bin: as many as fit of each class in the order given.

        Parameters
        ----------
        option
            Index of the bin's option.
        order
            Classes in the order of trying.
        remaining
            Items left per class.
        counts
            What the bin holds already.
        """
        rows, table = self.problem.rows[option], self.tables[option]
        self.work.add(CALL + FILL * rows.usage.size)
        start = np.zeros_like(remaining) if counts is None else counts.copy()
        added: IntArray = fill(
            order, remaining, rows.most, rows.usage, rows.capacity, start,
            *table.arrays,
        )  # fmt: skip
        return added

    def polish(self, option: int, profit: FloatArray, most: IntArray, counts: IntArray) -> IntArray:
        """A bin's items after swaps of single items for more profitable ones, as long as there are any.

        Parameters
        ----------
        option
            Index of the bin's option.
        profit, most
            Worth of an item and most items, per class.
        counts
            What the bin holds; not changed.
        """
        rows, table, better = self.problem.rows[option], self.tables[option], counts.copy()
        self.work.add(CALL + POLISH * np.count_nonzero(counts) * rows.usage.size)
        polish(
            profit, most, rows.usage, rows.capacity, better, *table.arrays,
        )  # fmt: skip
        return better


def item_weights(problem: PackingProblem) -> FloatArray:
    """Least share of a bin's price that one item takes, over the options it may enter."""
    # The share of its fullest row, but no less than one over the number of such items that fit: what is tiny
    # in every row may be limited in number all the same.
    weights = np.full(problem.n_classes, np.inf)
    for option, rows in zip(problem.options, problem.rows, strict=True):
        share = (rows.usage / np.maximum(rows.capacity, 1)[:, None]).max(axis=0)
        share = np.maximum(share, 1.0 / np.maximum(rows.most, 1) * (rows.most < problem.counts))
        weights = np.where(rows.most > 0, np.minimum(weights, option.price * share), weights)
    return np.where(np.isfinite(weights), weights, 0.0)


def first_fit(
    filler: BinFiller,
    order: IntArray,
    remaining: IntArray,
    stock: BinLimits,
    options: Sequence[int] | None = None,
    late: Callable[[], bool] = lambda: False,
) -> list[Bin] | None:
    """Fill bins one after the other; None if items are left and no option may be opened.

    Parameters
    ----------
    filler
        The problem.
    order
        Classes in the order of trying.
    remaining
        Items to pack per class; not changed.
    stock
        How many bins of each option may still be opened; used up.
    options
        Options to choose from; None: all that are useful.
    late
        Asked before every bin: whether to come to an end, with the last bin's option as long as it goes.
    """
    # Bins of one content are opened together, as often as it goes: many items of few classes cost few fills.
    left = remaining.copy()
    bins: list[Bin] = []
    choice = filler.options if options is None else options
    while left.any():
        best = _worthiest(filler, order, left, stock, (bins[-1].option,)) if bins and late() else None
        best = best or _worthiest(filler, order, left, stock, choice)
        if best is None:
            return None
        used = best.counts > 0
        times = min(int((left[used] // best.counts[used]).min()), stock.available(best.option))
        stock.take(best.option, times)
        left -= times * best.counts
        bins += [best] * times
    return bins


def _worthiest(
    filler: BinFiller, order: IntArray, left: IntArray, stock: BinLimits, options: Sequence[int]
) -> Bin | None:
    """The filled bin that is worth most per price; None if none holds an item, or may be opened."""
    best, best_value = None, 0.0
    for o in options:
        if not stock.available(o):
            continue
        added = filler.fill(o, order, left)
        held = np.flatnonzero(added)  # few of many classes
        value = float(filler.weights[held] @ added[held]) / filler.problem.options[o].price
        if value > best_value * (1 + 1e-9) or (best is None and len(held)):
            best, best_value = Bin(o, added), value
    return best


def best_fit_decreasing(
    filler: BinFiller,
    order: IntArray,
    remaining: IntArray,
    option: int,
    late: Callable[[], bool] = lambda: False,
    most: float = math.inf,
) -> list[Bin] | None:
    """Best-fit decreasing with bins of one option; None if a class does not fit it, or it is late.

    Parameters
    ----------
    late
        Asked every so many classes.
    most
        Bins beyond which the plan is not wanted: None then, too. Where classes are thousands, bins are
        gigabytes.
    """
    rows, table = filler.problem.rows[option], filler.tables[option]
    if ((remaining > 0) & (rows.most == 0)).any():
        return None
    held = np.zeros((FIRST_BINS, len(order)), dtype=np.int64)
    residual, bins = np.zeros((FIRST_BINS, len(rows.capacity)), dtype=np.int64), 0
    for start in range(0, len(order), CLASSES_AT_ONCE):
        if start and late():
            return None
        classes = order[start : start + CLASSES_AT_ONCE]
        held, residual, bins = best_fit(
            classes,
            remaining,
            rows.most,
            rows.usage,
            rows.capacity,
            held,
            residual,
            bins,
            *table.arrays,
        )
        filler.work.add(CALL + FILL * len(classes) * max(bins, 1) * len(rows.capacity))
        if bins < 0 or bins > most:
            return None
    return [Bin(option, row) for row in held[:bins]]


def cheapest_options(filler: BinFiller, bins: list[Bin], stock: BinLimits) -> list[Bin]:
    """Give every bin the cheapest option that holds its items, within the stock."""
    problem, better = filler.problem, []
    if np.ptp(problem.prices[list(filler.options)]) == 0:
        return bins
    for b in bins:
        choice = b.option
        for o in filler.options:
            if problem.options[o].price < problem.options[choice].price and holds(filler, o, b.counts):
                if o != b.option and not stock.available(o):
                    continue
                choice = o
        if choice != b.option:
            stock.give(b.option, 1)
            stock.take(choice, 1)
        better.append(Bin(choice, b.counts))
    return better


def holds(filler: BinFiller, option: int, counts: IntArray) -> bool:
    """Whether a bin of the option may hold these items."""
    rows = filler.problem.rows[option]
    filler.work.add(CALL + FILL * rows.usage.size)
    return bool(
        (counts <= rows.most).all()
        and (rows.usage @ counts <= rows.capacity).all()
        and not filler.tables[option].violated(counts)
    )


def place_first_fit(run: SearchState) -> None:
    """`ffd`: first-fit decreasing over several orders; the best is offered."""
    _place(run, best=False)


def place_best_fit(run: SearchState, share: float = 1.0) -> None:
    """`bfd`: best-fit decreasing per option, and first-fit where options must be mixed.

    Parameters
    ----------
    run
        The search.
    share
        Share of the time left that it may take, where others are to follow.
    """
    _place(run, best=True, share=share)


def _place(run: SearchState, best: bool, share: float = 1.0) -> None:
    """Offer a plan for every order; the first is finished even when the time is over, in a hurry."""
    filler, end = BinFiller.of(run), run.deadline.part(share * run.left_s)

    def over() -> bool:
        return run.out_of_time or end.reached

    options: Sequence[int] = filler.options
    cheapest = float(run.problem.prices[list(options)].min())
    for k, order in enumerate(filler.orders):
        if k and (run.done or over()):
            return
        stock = BinLimits(run.problem)
        bins = first_fit(filler, order, run.problem.counts, stock, options, over)
        if bins is not None:
            offer(run, cheapest_options(filler, bins, stock))
            # Choosing costs most of the time, and other orders hardly choose otherwise.
            options = sorted({b.option for b in bins})
        for o in options if best else ():
            if over() and run.packing is not None:
                return
            # Some plan is wanted even when the time is over.
            late = over if run.packing is not None else (lambda: False)
            most = run.value / cheapest if cheapest > 0 else math.inf
            packed = best_fit_decreasing(filler, order, run.problem.counts, o, late, most)
            stock = BinLimits(run.problem)
            if packed is not None and stock.available(o) >= len(packed):
                stock.take(o, len(packed))
                offer(run, cheapest_options(filler, packed, stock))


def offer(run: SearchState, bins: list[Bin]) -> bool:
    """Offer bins to the run if they keep the budget."""
    packing = Packing(tuple(b for b in bins if b.counts.any()))
    budget = run.problem.budget
    if budget is not None and run.problem.price(packing) > budget * (1 + 1e-9):
        return False
    return run.offer(packing)
