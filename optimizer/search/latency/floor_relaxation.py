"""The relaxation behind bounds on latencies: GPUs in parts, items cut, rows of floors beside the outer ones.

On a GPU whose latency is at most a limit a step takes no longer than some time, and then what it holds keeps
linear rows (`learn.StepFloor`). Where adapters share slots the batch has either one distinct adapter for each
that has a request, or as many as there are slots: two variants of the option, one of which holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from learn import LatencyFloor, StepFloor, scenario_features
from optimizer.packing.highs_model import HighsModel, HighsSolution
from optimizer.packing.model.bin_limits import limit_rows
from optimizer.packing.model.problem import FloatArray, IntArray, PackingOption, PackingProblem
from optimizer.search.instance import Instance
from optimizer.search.objectives import LatencyObjective
from scenarios import Deadline

CARE = 1e-6
"""Share by which GPUs count as larger, as solvers round."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A way to run a GPU, with the floor of its latency.

    Parameters
    ----------
    index
        Of the option in the problem.
    option
        The option, on the outer region.
    step
        The floor of its steps.
    floor
        That of the latency.
    crowded
        Whether its batches have as many distinct adapters as there are slots.
    """

    index: int
    option: PackingOption
    step: StepFloor
    floor: LatencyFloor
    crowded: bool

    @property
    def least_ms(self) -> float:
        """The least latency, of a GPU that does nothing."""
        constant, _ = self.step.rows(0.0, crowded=self.crowded)
        return self.floor.base_ms + self.floor.steps * 1e3 * max(float(constant.max()), 0.0)

    def rows(self, limit_ms: float, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Usage by class and capacity of a GPU with a latency of at most a limit, which may be infinite.

        Parameters
        ----------
        features
            Of an item of each class, shape (n_classes, K).
        """
        usage, capacity = self.option.usage, self.option.capacity
        if self.floor.steps == 0 or np.isinf(limit_ms):
            return usage, capacity
        step_s = (limit_ms - self.floor.base_ms) / self.floor.steps / 1e3
        constant, slopes = self.step.rows(step_s, crowded=self.crowded)
        return np.vstack([usage, slopes @ features.T]), np.concatenate([capacity, step_s - constant])


@dataclass(frozen=True, eq=False)
class Piece:
    """GPUs of a variant with a latency between two ends, in ms."""

    variant: Variant
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FloorRelaxation:
    """The relaxation of the plans on GPUs that are allowed.

    Parameters
    ----------
    problem
        The outer region's problem, with the limits on GPUs.
    variants
        Ways to run a GPU.
    features
        Of an item of each class, shape (n_classes, K).
    """

    problem: PackingProblem
    variants: tuple[Variant, ...]
    features: FloatArray

    @classmethod
    def of(cls, instance: Instance, objective: LatencyObjective, allowed: PackingProblem) -> FloorRelaxation:
        """The relaxation for an objective that is a latency with floors.

        Parameters
        ----------
        allowed
            The inner problem of the plans that are looked at; its limits and prices count.
        """
        pairs = zip(instance.outer.options, allowed.options, strict=True)
        options = tuple(replace(option, price=same.price) for option, same in pairs)
        problem = replace(instance.outer, options=options, max_bins=allowed.max_bins, budget=allowed.budget)
        features = scenario_features(instance.scenario, instance.classes)
        return cls(problem, tuple(_variants(instance, objective, options)), features)

    @property
    def least_ms(self) -> float:
        """The least latency of any GPU."""
        return min(variant.least_ms for variant in self.variants)

    def pieces(self, ends: Sequence[float]) -> list[Piece]:
        """Pieces of every variant between ends that ascend, as far as there are such GPUs."""
        return [
            Piece(variant, max(low, variant.least_ms), high)
            for variant in self.variants
            for low, high in pairwise(ends)
            if high > variant.least_ms * (1 + CARE)
        ]

    def solve(
        self, pieces: Sequence[Piece], weight: FloatArray, deadline: Deadline, nodes: int = 0
    ) -> tuple[HighsSolution, IntArray] | None:
        """The least sum over items of their weight times the low end of their piece; None if none fit.

        Parameters
        ----------
        weight
            Of an item of each class, shape (n_classes,).
        deadline
            When to stop.
        nodes
            Nodes of the search tree, if GPUs are whole; 0: they come in parts.

        Returns
        -------
        tuple
            What HiGHS says, and the columns with the GPUs of each piece, shape (n_pieces,).
        """
        columns = [_Columns.of(piece, self.problem, self.features) for piece in pieces]
        placed = np.flatnonzero(self.problem.counts)
        if not columns or not np.isin(placed, np.concatenate([of.classes for of in columns])).all():
            return None
        bins = np.cumsum([len(of.classes) + 1 for of in columns]) - 1
        limits = limit_rows(self.problem)
        held = sparse.block_diag([of.rows for of in columns])
        demand = sparse.hstack([of.demand(placed) for of in columns])
        used = np.array([piece.variant.index for piece in pieces])
        limited = sparse.lil_matrix((len(limits), held.shape[1]))
        for k, limit in enumerate(limits):
            limited[k, bins] = limit.weight[used]
        counts = self.problem.counts[placed].astype(np.float64)
        free = np.full(held.shape[0] + len(limits), -np.inf)
        most = [limit.most * (1 + CARE) for limit in limits]
        within: dict[str, Any] = {"mip_max_nodes": nodes} if nodes else {}
        upper = np.concatenate([counts, np.zeros(held.shape[0]), most])
        model = HighsModel(np.concatenate([counts, free]), upper, **within)
        cost = [
            np.append(piece.low * weight[of.classes], 0.0) for piece, of in zip(pieces, columns, strict=True)
        ]
        model.add_columns(np.concatenate(cost), sparse.vstack([demand, held, limited]))
        if nodes:
            model.make_integer(bins)
        return model.solve(deadline), bins


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of a piece: items of each class that may be on its GPUs, and last the GPUs.

    Parameters
    ----------
    classes
        The classes.
    rows
        What items take of all GPUs together, each of which has 1, shape (rows, columns).
    """

    classes: IntArray
    rows: FloatArray

    @classmethod
    def of(cls, piece: Piece, problem: PackingProblem, features: FloatArray) -> _Columns:
        usage, capacity = piece.variant.rows(piece.high, features)
        room = capacity > 0
        share = usage[room] / capacity[room, None] / (1 + CARE)
        fits = piece.variant.option.fits_class & (problem.counts > 0) & (share <= 1).all(axis=0)
        classes = np.flatnonzero(fits & (usage[~room] <= 0).all(axis=0))
        return cls(classes, np.column_stack([share[:, classes], np.full(len(share), -1.0)]))

    def demand(self, placed: IntArray) -> sparse.coo_matrix:
        """Which class an item is of, shape (n_placed, columns)."""
        row = np.searchsorted(placed, self.classes)
        at = row, np.arange(len(row))
        return sparse.coo_matrix((np.ones(len(row)), at), shape=(len(placed), len(row) + 1))


def _variants(
    instance: Instance, objective: LatencyObjective, options: Sequence[PackingOption]
) -> Iterator[Variant]:
    shortest = min(one.output.mean_tokens for one in instance.classes)
    for index, option in enumerate(options):
        floors = instance.regions[option.device].floors
        floor = next(f for f in floors if (f.latency, f.regime) == (objective.figure, option.regime))
        profile = instance.profiles[option.device]
        step = StepFloor.of(profile, option.option, option.regime, instance.scenario.engine, shortest)
        for crowded in (False, True)[: 1 + (option.regime == "shared")]:
            yield Variant(index, option, step, floor, crowded)
