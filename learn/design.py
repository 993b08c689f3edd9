"""What one GPU can be given: the space of adapters and engines, and a space-filling design over it.

Composition number i of a seed is always the same, whoever draws it and whatever else is drawn: its
coarse choices are point i of a scrambled Sobol sequence, its fine ones come from a generator of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from learn.features import FloatArray, additive_columns
from scenarios import EngineConfig, Problem, Scenario, ScenarioError, ServiceLevels, Workload
from scenarios.engine import padded_rank
from scenarios.lengths import FixedLengths, HistogramLengths, Lengths, LognormalLengths
from twin.lengths import mean_square_tokens
from twin.load import GPULoad
from twin.memory import plan_memory
from twin.profile import EngineProfile

DESIGN = 3
"""Version of the design and of the loads that its mixes are given: another one makes other runs of a seed."""

MAX_SKEW = 2.5
"""Largest standard deviation of the logarithm of the adapters' rates."""

HOT_TO_COLD = 1000.0
"""Largest ratio between the rates of the hot and the cold adapters of a two-level mix."""

PER_SLOT = 10
"""Most adapters per slot: with more, luck decides who is served, and no row tells."""

MAX_LENGTH_PAIRS = 8
"""Most pairs of prompt and output lengths that a design mixes; more are thinned by their work."""

TEST_SEED = 1001
"""Seed of the design that regions and surrogates are tested on: any but that of the plan that made them."""

_DIMENSIONS = 6

_SHARING = (1, 0, 1, 1)
"""Which of four compositions have more adapters than slots."""

_ENGINE_ARGUMENTS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "gpu_memory_utilization",
    "block_size",
    "tensor_parallel_size",
    "long_prefill_token_threshold",
    "max_cpu_loras",
)
"""Arguments that change how an option serves."""


@dataclass(frozen=True)
class Option:
    """One way to configure the engine of a GPU, whose memory fits.

    Parameters
    ----------
    max_loras, max_lora_rank
        Slots and the rank of every slot.
    kv_cache_tokens
        KV cache that is left.
    """

    max_loras: int
    max_lora_rank: int
    kv_cache_tokens: int


@dataclass(frozen=True)
class Space:
    """Everything that the twin must know to judge a GPU, and the range of what it is given.

    Parameters
    ----------
    profile, engine, device, memory_gib
        The engine and the GPU.
    workload
        Arrivals, duration; its lengths are those of the first pair of ``lengths``.
    service_levels
        What starvation means.
    options
        Engine options to learn, all of which start.
    ranks
        Ranks of adapters, ascending.
    lengths
        Pairs of prompt and output lengths.
    max_adapters
        Most adapters on one GPU.

    Raises
    ------
    ScenarioError
        If a GPU of the space could be given nothing; the message names each such value.
    """

    profile: EngineProfile
    engine: EngineConfig
    device: str
    memory_gib: float
    workload: Workload
    service_levels: ServiceLevels
    options: tuple[Option, ...]
    ranks: tuple[int, ...]
    lengths: tuple[tuple[Lengths, Lengths], ...]
    max_adapters: int = 1280

    def __post_init__(self) -> None:
        problems = list(_space_problems(self))
        if problems:
            raise ScenarioError(problems, "space")

    def describe(self) -> dict[str, Any]:
        """Everything that determines the twin runs and their verdicts, as plain values."""
        levels = self.service_levels
        limits = {"itl_ms": levels.itl_ms, "ttft_ms": levels.ttft_ms}
        given = {name: limit.model_dump(exclude_none=True) for name, limit in limits.items()}
        latency = {"latency_limits": given} if any(given.values()) else {}
        return {
            "design": DESIGN,
            "profile": self.profile.name,
            "profile_digest": profile_digest(self.profile),
            "device": self.device,
            "memory_gib": self.memory_gib,
            "engine": {name: getattr(self.engine, name) for name in _ENGINE_ARGUMENTS},
            "arrivals": self.workload.arrivals.model_dump(mode="json"),
            "duration_s": self.workload.duration_s,
            "warmup_s": self.workload.warmup_s,
            "lengths": [[p.model_dump(mode="json"), o.model_dump(mode="json")] for p, o in self.lengths],
            "served_share": self.service_levels.served_share,
            "adapter_served_share": self.service_levels.adapter_served_share,
            "options": [[o.max_loras, o.max_lora_rank, o.kv_cache_tokens] for o in self.options],
            "ranks": list(self.ranks),
            "max_adapters": self.max_adapters,
        } | latency

    def most_adapters(self, option: Option) -> int:
        """Most adapters that an option is given: with too few slots for many, luck decides who is served."""
        return max(min(self.max_adapters, PER_SLOT * option.max_loras), 2 * option.max_loras)

    @cached_property
    def means(self) -> FloatArray:
        """Mean prompt and output tokens and mean square of the output tokens by pair, shape (pairs, 3)."""
        return np.array([(p.mean_tokens, o.mean_tokens, mean_square_tokens(o)) for p, o in self.lengths])


def _space_problems(space: Space) -> Iterator[Problem]:
    if not 0 < space.memory_gib < math.inf:
        yield Problem("memory_gib", f"is {space.memory_gib}", "give the GiB of the GPU's memory")
    if space.max_adapters < 1:
        yield Problem("max_adapters", f"is {space.max_adapters}", "give 1 or more")
    if not space.lengths:
        yield Problem("lengths", "are empty", "give a pair of prompt and output lengths")
    if not space.ranks or min(space.ranks) < 1 or list(space.ranks) != sorted(set(space.ranks)):
        yield Problem("ranks", f"are {space.ranks}", "give ranks from 1 up, ascending")
        return
    for k, option in enumerate(space.options):
        if min(option.max_loras, option.kv_cache_tokens) < 1:
            yield Problem(f"options[{k}]", f"is {option}", "give it slots and KV cache")
        if option.max_lora_rank < space.ranks[0]:
            yield Problem(
                f"options[{k}]", f"is {option}", f"raise its rank to {space.ranks[0]} or leave it out"
            )


@dataclass(frozen=True)
class Plan:
    """How much to sample.

    Parameters
    ----------
    compositions
        Random mixes of adapters.
    round_size
        Mixes per round; the first round scouts with short runs, later rounds start where the rounds before
        put the boundary.
    max_runs
        Most runs to bracket the boundary of one mix.
    width
        Ratio of the bracket's ends at which the search stops.
    spread
        Runs of each mix at random loads away from its boundary, as many below as above over all mixes that
        share slots, and over all others.
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
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"compositions": 1, "round_size": 1, "max_runs": 1, "spread": 0, "seed": 0}
        problems = [
            Problem(name, f"is {value!r}", f"give a whole number of at least {lowest}")
            for name, lowest in least.items()
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int) or value < lowest
        ]
        if not 1 < self.width < math.inf:
            problems.append(Problem("width", f"is {self.width!r}", "give a ratio above 1, such as 1.08"))
        if problems:
            raise ScenarioError(problems, "plan")


@dataclass(frozen=True)
class Composition:
    """A mix of adapters on an engine, whatever its total load.

    Parameters
    ----------
    index
        Number in the design.
    option
        The engine.
    weight
        Share of the total rate of each adapter, shape (n,), sum 1.
    rank
        Rank of each adapter, shape (n,).
    pair
        Index of each adapter's lengths, shape (n,).
    """

    index: int
    option: Option
    weight: FloatArray
    rank: NDArray[np.int32]
    pair: NDArray[np.int32]

    @property
    def engine(self) -> tuple[int, int, int]:
        """Slots, max rank and KV cache tokens."""
        return self.option.max_loras, self.option.max_lora_rank, self.option.kv_cache_tokens

    @property
    def shared(self) -> bool:
        """Whether there are more adapters than slots."""
        return len(self.weight) > self.option.max_loras

    def sums(self, space: Space, total_rate: float) -> FloatArray:
        """Additive feature sums at a total rate in requests/s, shape (K,)."""
        columns: FloatArray = additive_columns(total_rate * self.weight, *space.means[self.pair].T)
        return np.asarray(columns.sum(axis=0))

    def load(self, space: Space, total_rate: float) -> GPULoad:
        """The adapters at a total rate in requests/s."""
        pairs = [space.lengths[k] for k in self.pair]
        return GPULoad(
            names=tuple(f"a{k}" for k in range(len(self.weight))),
            rank=self.rank,
            rate=total_rate * self.weight,
            prompt=tuple(prompt for prompt, _ in pairs),
            output=tuple(output for _, output in pairs),
        )


def assessment_plan(plan: Plan, compositions: int) -> Plan:
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
    return replace(plan, seed=TEST_SEED, compositions=compositions, width=1.03, max_runs=7, spread=6)


def profile_digest(profile: EngineProfile) -> str:
    """Digest of what the twin reads of a profile: rules, memory and costs, not its history.

    What has its default is left out, so that a profile keeps its digest when the twin learns new terms.
    """
    parts = profile.model_dump(
        mode="json", include={"rules", "memory", "step", "loads", "frontend"}, exclude_defaults=True
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def starting_options(
    profile: EngineProfile, engine: EngineConfig, memory_gib: float, ranks: Sequence[int]
) -> tuple[Option, ...]:
    """Options whose memory fits: every slot count of the engine with every padded rank there is.

    Parameters
    ----------
    ranks
        Ranks of the adapters to serve.
    """
    padded = sorted({padded_rank(rank) for rank in ranks})
    choices = (engine.max_lora_rank,) if engine.max_lora_rank is not None else tuple(padded)
    plans = [
        (slots, rank, plan_memory(profile.memory, engine, memory_gib, slots, rank))
        for rank in choices
        for slots in engine.slot_choices
    ]
    return tuple(
        Option(slots, rank, plan.kv_cache_tokens) for slots, rank, plan in plans if plan.failure is None
    )


def no_option(space: Space) -> Problem:
    """Why no engine starts in a space without options: the smallest one does not, and what would help."""
    slots, rank = space.engine.slot_choices[0], space.engine.max_lora_rank or padded_rank(space.ranks[0])
    plan = plan_memory(space.profile.memory, space.engine, space.memory_gib, slots, rank)
    return Problem(
        "memory_gib",
        f"is {space.memory_gib:g} on {space.device}, and no engine configuration fits: with {slots} slots of "
        f"rank {rank}, {plan.why}",
        plan.remedy,
    )


def space_of(scenario: Scenario, profile: EngineProfile, memory_gib: float, device: str) -> Space:
    """What a GPU can be given in a scenario.

    Options are those that hold the longest request. A ``max_model_len`` above that changes which
    options start, not how they serve, so it is lowered to it.
    """
    longest = max(_longest(c.prompt) + _longest(c.output) for c in scenario.classes)
    engine = scenario.engine.model_copy(update={"max_model_len": min(longest, scenario.engine.max_model_len)})
    ranks = tuple(sorted({c.rank for c in scenario.classes}))
    pairs = _thinned(sorted({(c.prompt, c.output) for c in scenario.classes}, key=_work))
    return Space(
        profile=profile,
        engine=engine,
        device=device,
        memory_gib=memory_gib,
        workload=scenario.workload.model_copy(update={"prompt": pairs[0][0], "output": pairs[0][1]}),
        service_levels=scenario.service_levels,
        options=starting_options(profile, engine, memory_gib, ranks),
        ranks=ranks,
        lengths=pairs,
    )


def _longest(lengths: Lengths) -> int:
    match lengths:
        case FixedLengths():
            return lengths.tokens
        case LognormalLengths():
            return lengths.max
        case HistogramLengths():
            return math.ceil(lengths.edges[-1])


def _work(pair: tuple[Lengths, Lengths]) -> tuple[float, float, str]:
    prompt, output = pair
    return output.mean_tokens, prompt.mean_tokens, f"{prompt!r} {output!r}"


def _thinned(pairs: list[tuple[Lengths, Lengths]]) -> tuple[tuple[Lengths, Lengths], ...]:
    if len(pairs) <= MAX_LENGTH_PAIRS:
        return tuple(pairs)
    kept = np.unique(np.linspace(0, len(pairs) - 1, MAX_LENGTH_PAIRS).round().astype(int))
    return tuple(pairs[k] for k in kept)


def compositions(space: Space, first: int, last: int, seed: int) -> list[Composition]:
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
    points = [
        qmc.Sobol(_DIMENSIONS, scramble=True, rng=np.random.default_rng((seed, 0, shared))).random_base2(
            max(draws - 1, 1).bit_length()
        )
        for shared in (0, 1)
    ]
    found = []
    for index in range(first, last):
        shared, draw = kind_of(index)
        option = _option(space, draw, (seed, 1, shared))
        found.append(_composition(space, index, option, points[shared][draw], seed))
    return found


def kind_of(index: int) -> tuple[int, int]:
    """Whether a composition shares slots (1) or not (0), and its number among those alike."""
    cycle, place = divmod(index, len(_SHARING))
    shared = _SHARING[place]
    return shared, _SHARING.count(shared) * cycle + _SHARING[:place].count(shared)


def _option(space: Space, draw: int, seed: tuple[int, ...]) -> Option:
    """Every option once in each cycle, in an order of the cycle's own: Sobol points have a rhythm too."""
    cycle, place = divmod(draw, len(space.options))
    order = np.random.default_rng((*seed, cycle)).permutation(len(space.options))
    return space.options[int(order[place])]


def _composition(space: Space, index: int, option: Option, u: FloatArray, seed: int) -> Composition:
    rng = np.random.default_rng((seed, 2, index))
    n = _count(option.max_loras, space.most_adapters(option), float(u[0]), shared=kind_of(index)[0] == 1)
    weight = _weights(n, u[1], u[2], u[3], rng)
    allowed = np.array([rank for rank in space.ranks if rank <= option.max_lora_rank], dtype=np.int32)
    share = rng.dirichlet(np.full(len(allowed), 0.1 + 2.0 * u[4]))
    pairs = rng.dirichlet(np.full(len(space.lengths), 0.1 + 2.0 * u[5]))
    return Composition(
        index=index,
        option=option,
        weight=weight / weight.sum(),
        rank=rng.choice(allowed, size=n, p=share).astype(np.int32),
        pair=rng.choice(len(space.lengths), size=n, p=pairs).astype(np.int32),
    )


def _count(slots: int, most: int, u: float, *, shared: bool) -> int:
    """Number of adapters: up to the slots, denser towards them, or more than there are slots."""
    if shared:
        return round(float((slots + 1) ** (1 - u) * most**u))
    return round(float(slots**u**0.5))


def _weights(n: int, kind: float, skew: float, share: float, rng: np.random.Generator) -> FloatArray:
    """Relative rates: equal, lognormal, a few levels dealt round-robin, or a few hot among many cold.

    Parameters
    ----------
    kind, skew, share
        Coordinates in [0, 1): kind of mix, how skewed it is, and the share of hot adapters.
    """
    if kind < 0.15:
        return np.ones(n)
    if kind < 0.45:
        return np.asarray(rng.permutation(np.exp(MAX_SKEW * skew * ndtri((np.arange(n) + 0.5) / n))))
    if kind < 0.75:
        levels = 2 + int(4 * share)
        ratio = 1 + 7 * skew
        return ratio ** -(np.arange(n) % levels).astype(np.float64)
    hot = np.arange(n) < max(1, round(n * share * 0.5))
    return np.where(hot, HOT_TO_COLD**skew, 1.0)
