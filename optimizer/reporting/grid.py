"""The fewest GPUs of a problem at many loads: each cell bounds its neighbours, and few need a search.

What fits at a load fits at every lower one, and what is proven at a load holds at every higher one. That is
not taken for granted: a cell is bounded by another only if every item takes at least as much of every row
there, in the integers that the placers work on, and a plan is taken over only if the checker accepts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from optimizer.packing.bounds.price_bounds import continuous_bound
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import PackingParams
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.solver import pack
from optimizer.reporting.contents import WhatIfCell
from scenarios import Deadline, interrupted

Place = tuple[int, int]
"""Which line and which load of the grid."""

LEAST_S = 0.05
"""Fewest seconds of one search."""

QUICK, EXACT = "bfd", "exact"
"""Placers: the one whose plans an exact search starts from, and that search."""


@dataclass
class Cell:
    """What is known of the fewest GPUs of one problem.

    Parameters
    ----------
    problem
        The problem, in which every GPU costs 1; None: there is no plan.
    packing
        The best plan so far; None: none was looked for yet.
    bound
        No plan has fewer GPUs.
    spent_s
        Seconds of search.
    """

    problem: PackingProblem | None
    packing: Packing | None = None
    bound: int = 0
    spent_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether there is more to be found out."""
        return self.problem is not None and (self.packing is None or len(self.packing) > self.bound)

    @property
    def gap(self) -> float:
        """By which share the bound is below the plan; 1 without a plan."""
        return 1.0 if self.packing is None else 1.0 - self.bound / len(self.packing)

    def answer(self) -> WhatIfCell:
        """What is told of it."""
        if self.problem is None:
            return WhatIfCell(state="no_plan")
        if self.packing is None:
            return WhatIfCell(state="not_computed", bound=self.bound or None)
        gpus = len(self.packing)
        return WhatIfCell(state="open" if self.open else "solved", gpus=gpus, bound=self.bound)


@dataclass
class Grid:
    """Problems by line, each from the lightest load to the heaviest.

    Parameters
    ----------
    cells
        By place.
    deadline
        When to stop.
    cell_seconds
        Most seconds for one cell.
    seed, workers, params
        Of the placers.
    greedy_method
        The greedy whose answers are told beside the exact ones.
    """

    cells: Mapping[Place, Cell]
    deadline: Deadline
    cell_seconds: float
    seed: int
    workers: int
    params: PackingParams
    greedy_method: str
    _bounds: dict[Place, tuple[Place, ...]] = field(default_factory=dict)

    def greedy(self) -> Iterator[tuple[Place, WhatIfCell]]:
        """The greedy's own answer for each cell, as far as there is time."""
        for place, cell in self.cells.items():
            if cell.problem is None:
                yield place, WhatIfCell(state="no_plan")
                continue
            if self.deadline.reached:
                yield place, WhatIfCell(state="not_computed")
                continue
            found = self._packed(cell.problem, self.greedy_method, self.deadline.clock_s)
            gpus = None if found is None else len(found)
            yield place, WhatIfCell(state="no_plan" if found is None else "solved", gpus=gpus)

    def start(self) -> Iterator[int]:
        """A quick plan and a quick bound for each cell; yields how many are known after each.

        Without these nothing is told of a cell.
        """
        for place, cell in self.cells.items():
            if self.deadline.reached:
                break
            if cell.problem is not None:
                self._start(cell, cell.problem)
            self._bounds[place] = tuple(self._heavier(place))
            yield self.known
        self._spread()

    def _start(self, cell: Cell, problem: PackingProblem) -> None:
        bound = continuous_bound(problem)
        if not math.isfinite(bound):
            cell.problem = None
            return
        cell.bound = max(1, math.ceil(bound - 1e-6))
        cell.packing = self._packed(problem, QUICK, self.deadline.clock_s)

    def settle(self) -> Iterator[int]:
        """Search cell by cell until all is known or the time is over; yields how many are known."""
        yield self.known
        while (place := self._next()) is not None and not self.deadline.reached:
            self._search(self.cells[place])
            self._spread()
            yield self.known

    @property
    def known(self) -> int:
        """How many cells are settled."""
        return sum(not cell.open for cell in self.cells.values())

    def _next(self) -> Place | None:
        """The cell to be searched next: of those with the least time spent the one in the widest gap."""
        waiting = [
            (cell.spent_s, -cell.gap, place)
            for place, cell in self.cells.items()
            if cell.open and cell.spent_s < self.cell_seconds
        ]
        return min(waiting)[2] if waiting else None

    def _search(self, cell: Cell) -> None:
        """Search one cell, for its share of the time that is left."""
        assert cell.problem is not None
        waiting = sum(one.open for one in self.cells.values())
        seconds = min(self.cell_seconds - cell.spent_s, max(self.deadline.clock_s / waiting, LEAST_S))
        found = pack(
            cell.problem,
            EXACT,
            time_limit_s=max(seconds, LEAST_S),
            seed=self.seed,
            workers=self.workers,
            hint=cell.packing,
            known_bound=float(cell.bound),
            params=self.params,
        )
        # What came to its own end is not searched again; what was cut short may be.
        cut_short = found.stop_reason.value == "time_limit" or interrupted()
        cell.spent_s = cell.spent_s + seconds if cut_short else math.inf
        if found.packing is not None and (cell.packing is None or len(found.packing) < len(cell.packing)):
            cell.packing = found.packing
        if math.isfinite(found.bound):
            cell.bound = max(cell.bound, math.ceil(found.bound - 1e-6))

    def _packed(self, problem: PackingProblem, method: str, seconds: float) -> Packing | None:
        limit = max(seconds, LEAST_S)
        return pack(problem, method, time_limit_s=limit, seed=self.seed, params=self.params).packing

    def _heavier(self, place: Place) -> Iterator[Place]:
        """Neighbours of which every plan is one of this cell too."""
        line, load = place
        for other in ((line, load + 1), (line + 1, load), (line - 1, load)):
            if other in self.cells and is_heavier(self.cells[other].problem, self.cells[place].problem):
                yield other

    def _spread(self) -> None:
        """Take over bounds from lighter cells, and plans from heavier ones, until nothing is new."""
        changed = True
        while changed:
            changed = False
            for place, heavier in self._bounds.items():
                for other in heavier:
                    changed |= _pass_on(self.cells[place], self.cells[other])


def _pass_on(light: Cell, heavy: Cell) -> bool:
    """Tell a cell and a heavier one what is known of the other; whether that was news."""
    news = False
    if light.bound > heavy.bound:
        heavy.bound, news = light.bound, True
    plan = heavy.packing
    if plan is not None and (light.packing is None or len(plan) < len(light.packing)):
        assert light.problem is not None
        if not check(light.problem, plan):
            light.packing, news = plan, True
    return news


def is_heavier(heavy: PackingProblem | None, light: PackingProblem | None) -> bool:
    """Whether every packing of a problem is one of another, whose items take no more of any row."""
    if heavy is None or light is None or not np.array_equal(heavy.counts, light.counts):
        return False
    if [o.key for o in heavy.options] != [o.key for o in light.options]:
        return False
    for much, less in zip(heavy.rows, light.rows, strict=True):
        enters = much.most > 0
        if much.usage.shape != less.usage.shape or (much.most > less.most).any():
            return False
        # Shares of the capacities, which are scaled by factors of their own, compared in integers.
        scaled = much.usage * less.capacity[:, None], less.usage * much.capacity[:, None]
        if (scaled[0][:, enters] < scaled[1][:, enters]).any():
            return False
    return True
