"""A space-filling design over what one GPU can be given, and how much of it is sampled.

Composition number i of a seed is always the same, whoever draws it and whatever else is drawn: its
coarse choices are point i of a scrambled Sobol sequence, its fine ones come from a generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from learn.features import FloatArray, figure_columns, shares_slots
from learn.params import DEFAULTS, DesignParams
from learn.space import DesignSpace, Option, OwnLevels, no_option
from learn.traffic.kinds import TrafficKind
from scenarios import AdapterSLO, Problem, ScenarioError
from twin import GPULoad

_T = TypeVar("_T")

TEST_SEED = 1001
"""Seed of the design that regions and surrogates are tested on: any but that of the plan that made them."""

_DIMENSIONS = 6

_SHARING = (1, 0, 1, 1)
"""Which of four compositions have more adapters than slots."""


@dataclass(frozen=True)
class SamplingPlan:
    """How much to sample.

    Parameters
    ----------
    compositions
        Random mixes of adapters.
    round_size
        Mixes per round; searches of the first round begin where short runs put the boundary, those of later
        rounds where the rounds before do.
    max_runs
        Most runs to bracket the boundary of one mix.
    width
        Ratio of the bracket's ends at which the search stops.
    spread
        Runs of each mix at random loads away from its boundary, as many below as above over all mixes that
        share slots, and over all others.
    confirmed
        Mixes, the first of the design, whose boundary is found again by the whole rule of the criterion.
    seed
        Seed of the design and of the twin.

    Raises
    ------
    ScenarioError
        If it would sample nothing or have no end; names every field that is wrong.
    """

    compositions: int = 660
    round_size: int = 60
    max_runs: int = 5
    width: float = 1.08
    spread: int = 1
    confirmed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        minimum = {"compositions": 1, "round_size": 1, "max_runs": 1, "spread": 0, "confirmed": 0, "seed": 0}
        problems = [
            Problem(name, f"is {value!r}", f"give a whole number of at least {lowest}")
            for name, lowest in minimum.items()
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int) or value < lowest
        ]
        if not 1 < self.width < math.inf:
            problems.append(Problem("width", f"is {self.width!r}", "give a ratio above 1, such as 1.08"))
        if problems:
            raise ScenarioError(problems, "plan")


def plan_values(plan: SamplingPlan) -> dict[str, Any]:
    """A plan as plain values; without boundaries that are found again if there are none, as before."""
    values = asdict(plan)
    return values if plan.confirmed else {name: v for name, v in values.items() if name != "confirmed"}


@dataclass(frozen=True)
class Composition:
    """A mix of adapters, and of traffic of the base model, on an engine, whatever its total load.

    Parameters
    ----------
    index
        Number in the design.
    option
        The engine.
    weight
        Share of the total rate of each adapter, shape (n,), sum 1.
    rank
        Rank of each adapter, shape (n,); 0: of the base model.
    kind
        Number of each adapter's kind of traffic, shape (n,).
    strict
        Which adapters have the levels of their own that the space knows, shape (n,); None: none has.
    """

    index: int
    option: Option
    weight: FloatArray
    rank: NDArray[np.int32]
    kind: NDArray[np.int32]
    strict: NDArray[np.bool_] | None = None

    @property
    def shared(self) -> bool:
        """Whether there are more adapters than slots."""
        return bool(shares_slots(np.count_nonzero(self.rank), self.option.max_loras))

    def sums(self, space: DesignSpace, total_rate: float) -> FloatArray:
        """Additive feature sums at a total rate in requests/s, shape (K,)."""
        figures = space.figures.of_each(self.kind)
        columns = figure_columns(total_rate * self.weight, self.rank > 0, figures)
        return np.asarray(columns.sum(axis=0))

    def load(self, space: DesignSpace, total_rate: float) -> GPULoad:
        """The adapters at a total rate in requests/s."""
        kinds = [space.traffic[k] for k in self.kind]
        return GPULoad(
            names=tuple(f"a{k}" for k in range(len(self.weight))),
            rank=self.rank,
            rate=total_rate * self.weight,
            prompt=tuple(kind.prompt for kind in kinds),
            output=tuple(kind.output for kind in kinds),
            levels=_if_any(self._levels(space, kinds)),
            arrivals=_if_any([kind.arrivals for kind in kinds]),
            reuse=_if_any([kind.reuse for kind in kinds]),
        )

    def _levels(self, space: DesignSpace, kinds: Sequence[TrafficKind]) -> list[AdapterSLO | None]:
        levels = [kind.levels for kind in kinds]
        if self.strict is None or space.own_levels is None:
            return levels
        own = space.own_levels.levels
        return [own if strict else other for strict, other in zip(self.strict, levels, strict=True)]


def _if_any(values: Sequence[_T | None]) -> tuple[_T | None, ...]:
    """The values of adapters, or nothing where none has one."""
    return () if all(value is None for value in values) else tuple(values)


def confirmation_plan(plan: SamplingPlan) -> SamplingPlan:
    """The plan of the runs that find boundaries of ``plan`` again by the whole rule."""
    return replace(plan, compositions=plan.confirmed, confirmed=0, spread=0, max_runs=7)


def assessment_plan(plan: SamplingPlan, compositions: int) -> SamplingPlan:
    """The plan of twin runs that test what those of ``plan`` made: other mixes, searched more closely.

    Parameters
    ----------
    compositions
        Mixes to test on.

    Raises
    ------
    ScenarioError
        If it would sample nothing.
    """
    return replace(
        plan, seed=TEST_SEED, compositions=compositions, width=1.03, max_runs=7, spread=6, confirmed=0
    )


def compositions(
    space: DesignSpace, first: int, last: int, seed: int, params: DesignParams = DEFAULTS.design
) -> list[Composition]:
    """Compositions number ``first`` to ``last`` − 1 of the design of a seed.

    Of every four, one has a slot for every adapter and three more adapters than slots: there luck and
    the mix decide more, and a boundary takes more points to learn.

    Raises
    ------
    ScenarioError
        If no engine option of the space starts.
    """
    if not space.options:
        raise ScenarioError([no_option(space)], "space")
    from scipy.stats import qmc  # costs a second to import, and shipped regions do without

    draws = max(map(_SHARING.count, (0, 1))) * (last // len(_SHARING) + 1)
    generators = (np.random.default_rng((seed, 0, shared)) for shared in (0, 1))
    bits = max(draws - 1, 1).bit_length()
    points = [qmc.Sobol(_DIMENSIONS, scramble=True, rng=rng).random_base2(bits) for rng in generators]
    drawn = []
    for index in range(first, last):
        shared, draw = kind_of(index)
        option = _option(space, draw, (seed, 1, shared))
        drawn.append(_composition(space, index, option, points[shared][draw], seed, params))
    return drawn


def kind_of(index: int) -> tuple[int, int]:
    """Whether a composition shares slots (1) or not (0), and its number among those alike."""
    cycle, place = divmod(index, len(_SHARING))
    shared = _SHARING[place]
    return shared, _SHARING.count(shared) * cycle + _SHARING[:place].count(shared)


def _option(space: DesignSpace, draw: int, seed: tuple[int, ...]) -> Option:
    """Every option once in each cycle, in an order of the cycle's own: Sobol points have a rhythm too."""
    cycle, place = divmod(draw, len(space.options))
    order = np.random.default_rng((*seed, cycle)).permutation(len(space.options))
    return space.options[int(order[place])]


def _composition(
    space: DesignSpace, index: int, option: Option, u: FloatArray, seed: int, params: DesignParams
) -> Composition:
    rng = np.random.default_rng((seed, 2, index))
    upper_bound = space.most_adapters(option, params)
    n = _count(option.max_loras, upper_bound, float(u[0]), shared=kind_of(index)[0] == 1)
    weight = _weights(n, u[1], u[2], u[3], rng, params)
    allowed = np.array([rank for rank in space.ranks if rank <= option.max_lora_rank], dtype=np.int32)
    share = rng.dirichlet(np.full(len(allowed), 0.1 + 2.0 * u[4]))
    of_adapters, of_base = space.own
    if not len(of_adapters):
        return _of_base(index, option, of_base, rng)
    kinds = rng.dirichlet(np.full(len(of_adapters), 0.1 + 2.0 * u[5]))
    mix = Composition(
        index=index,
        option=option,
        weight=weight / weight.sum(),
        rank=rng.choice(allowed, size=n, p=share).astype(np.int32),
        kind=of_adapters[rng.choice(len(of_adapters), size=n, p=kinds)],
    )
    if space.own_levels is not None:
        mix = _with_own_levels(mix, space.own_levels, rng)
    return _with_base(mix, of_base, rng, params) if len(of_base) else mix


def _of_base(index: int, option: Option, kinds: NDArray[np.int32], rng: np.random.Generator) -> Composition:
    """Traffic of the base model alone, of all its kinds."""
    weight = rng.dirichlet(np.ones(len(kinds)))
    return Composition(index, option, weight, np.zeros(len(kinds), dtype=np.int32), kinds)


def _with_base(
    mix: Composition, kinds: NDArray[np.int32], rng: np.random.Generator, params: DesignParams
) -> Composition:
    """The mix with traffic of the base model beside its adapters: none, any share of the load, or all.

    A mix with a slot for every adapter can be of the base model alone; one that shares slots cannot, and one
    with levels of single adapters keeps those.
    """
    kind, base = rng.random(), _of_base(mix.index, mix.option, kinds, rng)
    if kind < params.base_absent:
        return mix
    if kind < params.base_absent + params.base_alone and not mix.shared and mix.strict is None:
        return base
    share, none = rng.random(), np.zeros(len(kinds), dtype=np.bool_)
    return replace(
        mix,
        weight=np.concatenate([(1.0 - share) * mix.weight, share * base.weight]),
        rank=np.concatenate([mix.rank, base.rank]),
        kind=np.concatenate([mix.kind, base.kind]),
        strict=None if mix.strict is None else np.concatenate([mix.strict, none]),
    )


def _with_own_levels(mix: Composition, own: OwnLevels, rng: np.random.Generator) -> Composition:
    """The mix with levels of their own for some of its adapters, which are alike then.

    They are alike so that their latencies are over all their requests, as those of an entry: of one rare
    adapter they would be a matter of luck. One in eight mixes has no others.
    """
    n = len(mix.weight)
    kinds = [kind for kind in own.kinds if kind[0] <= mix.option.max_lora_rank]
    number = n if not kinds or rng.random() < 0.125 else math.ceil(n * rng.random() ** 2 * 0.5)
    strict = np.zeros(n, dtype=np.bool_)
    strict[rng.choice(n, size=max(number, 1), replace=False)] = True
    rank, kind = kinds[rng.integers(len(kinds))] if kinds else (mix.option.max_lora_rank, own.kinds[0][1])
    weight = np.where(strict, 1.0 / n, mix.weight)
    return replace(
        mix,
        weight=weight / weight.sum(),
        rank=np.where(strict, rank, mix.rank).astype(np.int32),
        kind=np.where(strict, kind, mix.kind).astype(np.int32),
        strict=strict,
    )


def _count(slots: int, upper_bound: int, u: float, *, shared: bool) -> int:
    """Number of adapters: up to the slots, denser towards them, or more than there are slots."""
    if shared:
        return round(float((slots + 1) ** (1 - u) * upper_bound**u))
    return round(float(slots**u**0.5))


def _weights(
    n: int, kind: float, skew: float, share: float, rng: np.random.Generator, params: DesignParams
) -> FloatArray:
    """Relative rates: equal, lognormal, a few levels dealt round-robin, or a few hot among many cold.

    Parameters
    ----------
    kind, skew, share
        Coordinates in [0, 1): kind of mix, how skewed it is, and the share of hot adapters.
    """
    if kind < 0.15:
        return np.ones(n)
    if kind < 0.45:
        return np.asarray(rng.permutation(np.exp(params.max_skew * skew * ndtri((np.arange(n) + 0.5) / n))))
    if kind < 0.75:
        levels = 2 + int(4 * share)
        ratio = 1 + 7 * skew
        return ratio ** -(np.arange(n) % levels).astype(np.float64)
    hot = np.arange(n) < max(1, round(n * share * 0.5))
    return np.where(hot, params.hot_to_cold**skew, 1.0)
