"""Packings near to what is running: the assignment model with bins that have items already.

The first bins are the running GPUs, told apart by what they hold; the others are fresh and alike. An item
that stays where it was costs nothing, an item that was running elsewhere is a move. With k[g,c] <= n[g,c]
and k[g,c] <= items of class c that run on g, the sum of k is what can stay (`formulation` has
the rest of the model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimizer.packing.assignment.cpsat import to_cpsat
from optimizer.packing.assignment.cpsat_solver import solve_model
from optimizer.packing.assignment.formulation import AssignmentModel, assignment_model
from optimizer.packing.model.params import DEFAULTS, AssignmentParams
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status, StopReason
from scenarios import Deadline, interrupted

Homes = Sequence[int | None]
"""The running bin of each bin of a packing, None for a fresh one."""

PRICE_RESOLUTION = 1_000_000
"""Integer steps of the largest price where moves have one too."""


LEAST_S = 0.1
"""Seconds that a solution gets even where hardly any are left."""


@dataclass(frozen=True, eq=False)
class Running:
    """Items that run in bins already.

    Parameters
    ----------
    counts
        Items per bin and class, shape (n_bins, n_classes).
    devices
        Device of each bin.
    known
        Items of each class that run somewhere, shape (n_classes,); the others are new, and placing
        them is no move.
    """

    counts: IntArray
    devices: tuple[str, ...]
    known: IntArray

    def __len__(self) -> int:
        return len(self.devices)

    def stay(self, counts: IntArray, homes: Homes) -> int:
        """How many items of bins with these contents, in these places, need not move."""
        kept = np.zeros_like(self.known)
        for held, home in zip(counts, homes, strict=True):
            if home is not None:
                kept = kept + np.minimum(held, self.counts[home])
        return int(np.minimum(kept, self.known).sum())

    def moves(self, counts: IntArray, homes: Homes) -> int:
        """How many items move."""
        return int(self.known.sum()) - self.stay(counts, homes)

    def nearest_homes(self, problem: PackingProblem, packing: Packing) -> list[int | None]:
        """The running bin that each bin of a packing takes the place of, so that the fewest items move."""
        from scipy.optimize import linear_sum_assignment

        counts = packing.counts()
        gain = np.minimum(counts[:, None, :], self.counts[None, :, :]).sum(axis=2).astype(np.float64)
        device = np.array([problem.options[b.option].device for b in packing.bins])
        gain[device[:, None] != np.array(self.devices)[None, :]] = -1.0
        homes: list[int | None] = [None] * len(packing)
        for g, h in zip(*linear_sum_assignment(-gain), strict=True):
            if gain[g, h] >= 0:
                homes[int(g)] = int(h)
        return homes


@dataclass(frozen=True, eq=False)
class MovesResult(PackingResult):
    """A packing near to what is running; its objective and bound are moves, or price with moves.

    Parameters
    ----------
    homes
        The running bin of each bin of the packing, or None where it is fresh.
    """

    homes: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class MovesSolver:
    """A solver for `CutLoop.confirm`: the packing of fewest moves, or of least price with moves.

    Parameters
    ----------
    running
        What runs.
    fresh
        Bins that may be opened beside those that run.
    move_price
        Price of a move; None: only moves count, and the problem's budget keeps the price.
    seed, workers
        As for `optimizer.pack`.
    share
        Share of the counted seconds left that one solve may take.
    below
        Only packings of less value than this are wanted.
    hint
        A packing and its places to start from.
    params
        How the model is solved.
    """

    running: Running
    fresh: int
    move_price: float | None = None
    seed: int = 0
    workers: int = 1
    share: float = 1.0
    below: float = float("inf")
    hint: tuple[Packing, Homes] | None = None
    params: AssignmentParams = DEFAULTS.assignment

    def value(self, problem: PackingProblem, packing: Packing, homes: Homes) -> float:
        """Moves, or price with moves."""
        moves = self.running.moves(packing.counts(), homes)
        return moves if self.move_price is None else problem.price(packing) + self.move_price * moves

    def __call__(self, problem: PackingProblem, deadline: Deadline, known_bound: float) -> MovesResult:
        """The best packing in the time, proven or not."""
        from ortools.sat.python import cp_model

        model = _Model(problem, self.running, self.fresh, self.move_price)
        cpsat, variables = model.translated(self.below)
        if self.hint is not None:
            for v, n in model.hints(*self.hint).items():
                cpsat.add_hint(variables[v], n)
        solver, status = solve_model(
            cpsat,
            seed=self.seed,
            workers=self.workers,
            deadline=deadline.part(self.share * deadline.left_s).no_sooner(LEAST_S),
            params=self.params,
        )
        if interrupted():
            return _nothing(Status.LIMIT, StopReason.INTERRUPTED, known_bound)
        if status == cp_model.INFEASIBLE:
            return _nothing(Status.INFEASIBLE, StopReason.PROVEN, self.below)
        bound = max(known_bound, model.in_units(solver.best_objective_bound))
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return _nothing(Status.LIMIT, StopReason.TIME_LIMIT, bound)
        packing, homes = model.packing(np.array(solver.response_proto.solution, dtype=np.float64))
        known, reason = Status.FEASIBLE, StopReason.TIME_LIMIT
        if status == cp_model.OPTIMAL:
            known, reason = Status.OPTIMAL, StopReason.PROVEN
        value = self.value(problem, packing, homes)
        return MovesResult(packing, known, reason, value, bound, "moves", homes=homes)


def _nothing(status: Status, reason: StopReason, bound: float) -> MovesResult:
    return MovesResult(None, status, reason, None, bound, "moves")


class _Model:
    """The assignment model, its symmetry broken among fresh bins only, with what can stay."""

    def __init__(
        self, problem: PackingProblem, running: Running, fresh: int, move_price: float | None
    ) -> None:
        bins = len(running) + fresh
        self.problem, self.running = problem, running
        # Running bins are told apart by what they hold, so no order may be imposed on them.
        self.built: AssignmentModel = assignment_model(
            replace(problem, max_bins=bins), bins, alike_from=len(running)
        )
        self.kept: list[tuple[int, int, int]] = []
        self._devices()
        if problem.max_bins is not None and problem.max_bins < bins:
            opened = [(int(z), 1) for z in self.built.opened.ravel()]
            self.built.formulation.row("most_bins", opened, None, problem.max_bins)
        self._stay()
        self._objective(move_price)

    def _devices(self) -> None:
        """A running bin keeps its device."""
        options = self.problem.options
        for g, device in enumerate(self.running.devices):
            other = [
                (int(self.built.opened[g, k]), 1)
                for k, o in enumerate(self.built.options)
                if options[o].device != device
            ]
            self.built.formulation.row(f"device_of_{g}", other, None, 0)

    def _stay(self) -> None:
        model, by_class = self.built.formulation, dict[int, list[tuple[int, int]]]()
        for g, c in np.argwhere(self.running.counts > 0):
            if self.built.items[g, c] >= 0:
                k = model.variable(f"k_{g}_{c}", 0, int(self.running.counts[g, c]))
                model.row(f"stay_{g}_{c}", [(k, 1), (int(self.built.items[g, c]), -1)], None, 0)
                by_class.setdefault(int(c), []).append((k, 1))
                self.kept.append((int(g), int(c), k))
        for c, terms in by_class.items():
            model.row(f"known_{c}", terms, None, int(self.running.known[c]))

    def _objective(self, move_price: float | None) -> None:
        model, known = self.built.formulation, int(self.running.known.sum())
        if move_price is None:
            model.objective = [(k, -1) for _, _, k in self.kept]
            self.scale, self.offset = 1.0, float(known)
            return
        self.scale = PRICE_RESOLUTION / max(float(self.problem.prices.max()), move_price)
        price = np.rint(self.problem.prices * self.scale).astype(np.int64)
        model.objective = [
            (int(self.built.opened[g, k]), int(price[o]))
            for g in range(len(self.built.items))
            for k, o in enumerate(self.built.options)
        ]
        model.objective += [(k, -round(move_price * self.scale)) for _, _, k in self.kept]
        self.offset = move_price * known

    def translated(self, below: float) -> tuple[Any, list[Any]]:
        """The CP-SAT model that wants a value below another, and its variables."""
        model = self.built.formulation
        if np.isfinite(below):
            most = int(np.ceil((below - self.offset) * self.scale - 1e-6)) - 1
            model.row("below", list(model.objective), None, most)
        return to_cpsat(model)

    def in_units(self, integer: float) -> float:
        """A value of the integer objective in moves, or in price."""
        return integer / self.scale + self.offset

    def packing(self, values: FloatArray) -> tuple[Packing, tuple[int | None, ...]]:
        """The packing that the variables' values stand for, and the place of each bin."""
        rounded = np.rint(values).astype(np.int64)
        bins: list[Bin] = []
        homes: list[int | None] = []
        for g in range(len(self.built.items)):
            items = self.built.items[g]
            counts = np.where(items >= 0, rounded[items], 0)
            if counts.any():
                bins.append(Bin(self.built.options[int(rounded[self.built.opened[g]].argmax())], counts))
                homes.append(g if g < len(self.running) else None)
        return Packing(tuple(bins)), tuple(homes)

    def hints(self, packing: Packing, homes: Homes) -> dict[int, int]:
        """Values of the items of a packing, as far as its bins have a place in the model."""
        fresh = iter(range(len(self.running), len(self.built.items)))
        hints: dict[int, int] = {}
        for b, home in zip(packing.bins, homes, strict=True):
            g = next(fresh, None) if home is None else home
            if g is not None:
                hints |= {
                    int(v): int(n) for v, n in zip(self.built.items[g], b.counts, strict=True) if v >= 0
                }
        return hints
