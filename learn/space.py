"""What one GPU can be given in a scenario: engines, ranks, lengths, and what starvation means."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learn.params import DEFAULTS, DesignParams
from learn.traffic.kinds import (
    Judged,
    TrafficFigures,
    TrafficKind,
    caches_prefixes,
)
from learn.traffic.unsteadiness import is_steady, rises_together
from scenarios import (
    Acceptance,
    AdapterSLO,
    Device,
    EngineConfig,
    EngineOption,
    LatencyLimits,
    Problem,
    ScenarioError,
    ServiceLevelObjectives,
    Workload,
    padded_rank,
)
from twin import FULL, LABEL, Effort, EngineProfile, arrival_values, limits_latencies, plan_memory
from twin.memory import kv_cache_if_started
from twin.memory.versions import lora_ranks

DESIGN, WANDERING_DESIGN = 3, 4
"""Version of the design and of the loads that its mixes are given, and the same where rates wander: another
one makes other runs of a seed."""

REPLICATIONS = 3
"""Runs of a verdict on a plan, unless a scenario says otherwise."""

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

_GIVEN_ARGUMENTS = (
    "scheduler_reserve_full_isl",
    "watermark",
    "enable_prefix_caching",
    "async_scheduling",
    "max_num_scheduled_tokens",
    "max_num_active_seqs",
    "speculation",
)
"""Those that do so where they are given; regions without stay those of their space."""


@dataclass(frozen=True)
class Option(EngineOption):
    """One way to run a GPU whose memory fits.

    Parameters
    ----------
    kv_cache_tokens
        KV cache that is left.
    """

    kv_cache_tokens: int

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Slots, max rank and KV cache tokens: all that rows depend on."""
        return self.max_loras, self.max_lora_rank, self.kv_cache_tokens


@dataclass(frozen=True)
class OwnLevels:
    """Service levels of their own that some adapters of a GPU have.

    Parameters
    ----------
    levels
        The levels.
    kinds
        Rank (0: the base model), and number of the kind of traffic, that such adapters may have; not empty.
    """

    levels: AdapterSLO
    kinds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class DesignSpace:
    """Everything that the twin must know to judge a GPU, and the range of what it is given.

    Parameters
    ----------
    profile, engine, device, memory_gib
        The engine and the GPU.
    workload
        Arrivals, duration; its lengths are those of the first kind of ``traffic``.
    service_levels
        What starvation means.
    acceptance, effort
        By what criterion, and how long its runs are; under *paper* the workload says it.
    replications
        Runs of a verdict.
    options
        Engine options to learn, all of which start.
    ranks
        Ranks of adapters, ascending.
    traffic
        Kinds of traffic, of which mixes are made: pairs of prompt and output lengths, and in mixed traffic
        what else tells them apart.
    max_adapters
        Most adapters on one GPU.
    own_levels
        Levels that some adapters of every mix have; None: none has any.

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
    service_levels: ServiceLevelObjectives
    options: tuple[Option, ...]
    ranks: tuple[int, ...]
    traffic: tuple[TrafficKind, ...]
    max_adapters: int = 1280
    acceptance: Acceptance = "sustained"
    effort: Effort = LABEL
    replications: int = 1
    own_levels: OwnLevels | None = None

    def __post_init__(self) -> None:
        problems = list(_space_problems(self))
        if problems:
            raise ScenarioError(problems, "space")

    def describe(self) -> dict[str, Any]:
        """Everything that determines the twin runs and their verdicts, as plain values."""
        levels = self.service_levels
        limits = {"itl_ms": levels.itl_ms, "ttft_ms": levels.ttft_ms}
        # Others are told where they are limited, so that regions without stay those of their space.
        others = {"tpot_ms": levels.tpot_ms, "e2e_ms": levels.e2e_ms}
        limits |= {name: of for name, of in others.items() if of != LatencyLimits()}
        given = {name: limit.model_dump(exclude_none=True) for name, limit in limits.items()}
        latency: dict[str, Any] = {"latency_limits": given} if any(given.values()) else {}
        if self.own_levels is not None:
            own = self.own_levels.levels.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            latency["own_levels"] = {"levels": own, "kinds": [list(kind) for kind in self.own_levels.kinds]}
        return {
            "design": WANDERING_DESIGN if self.wander else DESIGN,
            "profile": self.profile.name,
            "profile_digest": profile_digest(self.profile),
            "device": self.device,
            "memory_gib": self.memory_gib,
            "engine": _engine_arguments(self.engine),
            "arrivals": arrival_values(self.workload.arrivals),
            "duration_s": self.run_s,
            "lengths": [kind.described() for kind in self.traffic],
            **self._criterion,
            "options": [list(o.numbers) for o in self.options],
            "ranks": list(self.ranks),
            "max_adapters": self.max_adapters,
        } | latency

    @property
    def _criterion(self) -> dict[str, Any]:
        """What starvation means, but for limits on latencies."""
        levels = self.service_levels
        if self.acceptance == "sustained":
            limits = {"patience_s": levels.patience_s, "late_share": levels.late_share}
            runs = {"effort": asdict(self.effort), "replications": self.replications}
            return {"acceptance": self.acceptance, **runs, **limits}
        shares = {"served_share": levels.served_share, "adapter_served_share": levels.adapter_served_share}
        return {"warmup_s": self.workload.warmup_s, **shares}

    @property
    def limits_latencies(self) -> bool:
        """Whether a latency is limited, of the GPU or of some adapters."""
        of_some = self.own_levels is not None and limits_latencies(self.own_levels.levels)
        return of_some or limits_latencies(self.service_levels)

    @property
    def run_s(self) -> float:
        """Seconds of a run, at least."""
        if self.acceptance == "paper":
            return self.workload.duration_s
        return self.effort.settle_s + self.effort.measure_s

    @property
    def judged(self) -> Judged:
        """By what GPUs of the space are judged."""
        of_all = self.service_levels, self.workload.arrivals
        return Judged(self.acceptance, *of_all, caches_prefixes(self.engine))

    @property
    def wander(self) -> float:
        """Largest variance of an adapter's rate over the square of its mean, where rates change for long."""
        return max(self.judged.wander(kind) for kind in self.traffic)

    @property
    def mixed(self) -> bool:
        """Whether kinds of traffic differ in more than lengths."""
        return any(kind.arrivals is not None for kind in self.traffic)

    @property
    def steady(self) -> bool:
        """Whether no rate changes in the course of time, so that any part of a run is like the whole."""
        return all(is_steady(kind.arrivals or self.workload.arrivals) for kind in self.traffic)

    def whole_rule(self) -> DesignSpace:
        """The same with verdicts as plans get them."""
        return replace(self, effort=FULL, replications=REPLICATIONS)

    def labelled(self, *, shared: bool) -> DesignSpace:
        """The same with the runs that label mixes with shared slots, or with a slot for every adapter.

        Where rates wander, few adapters meet their peaks in days, not in hours: those with a slot each, which
        are few on a GPU, are labelled by the whole rule. Where they wander together, many are as few.
        """
        few = not shared or any(
            self.judged.wander(kind) and rises_together(kind.arrivals)
            for kind in self.traffic
            if kind.arrivals is not None
        )
        return self.whole_rule() if self.wander and few else self

    def shortened(self, share: float) -> DesignSpace:
        """The same with runs of a share of their length."""
        if self.acceptance == "sustained":
            return replace(self, effort=self.effort.shortened(share))
        workload = self.workload
        parts = {"duration_s": share * workload.duration_s, "warmup_s": share * workload.warmup_s}
        return replace(self, workload=workload.model_copy(update=parts))

    def most_adapters(self, option: Option, params: DesignParams = DEFAULTS.design) -> int:
        """Most adapters that an option is given."""
        if self.acceptance == "sustained":
            return max(self.max_adapters, 2 * option.max_loras)
        return max(min(self.max_adapters, params.adapters_per_slot * option.max_loras), 2 * option.max_loras)

    @cached_property
    def figures(self) -> TrafficFigures:
        """What features are made of, by kind of traffic."""
        return TrafficFigures.of(self.traffic, self.judged)

    @cached_property
    def own(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Numbers of the kinds of traffic of adapters, and of those of the base model."""
        base = np.array([kind.base for kind in self.traffic], dtype=np.bool_)
        return np.flatnonzero(~base).astype(np.int32), np.flatnonzero(base).astype(np.int32)


def _engine_arguments(engine: EngineConfig) -> dict[str, Any]:
    """Arguments that change how an option serves, as plain values."""
    always = {name: getattr(engine, name) for name in _ENGINE_ARGUMENTS}
    given = {name: value for name in _GIVEN_ARGUMENTS if (value := getattr(engine, name)) is not None}
    if engine.speculation is not None:
        given["speculation"] = engine.speculation._asdict()
    return always | given


def _space_problems(space: DesignSpace) -> Iterator[Problem]:
    if not 0 < space.memory_gib < math.inf:
        yield Problem("memory_gib", f"is {space.memory_gib}", "give the GiB of the GPU's memory")
    if space.max_adapters < 1:
        yield Problem("max_adapters", f"is {space.max_adapters}", "give 1 or more")
    if not space.traffic:
        yield Problem("traffic", "is empty", "give a pair of prompt and output lengths")
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


def profile_digest(profile: EngineProfile) -> str:
    """Digest of what the twin reads of a profile: rules, memory and costs, not its history.

    What has its default is left out, so that a profile keeps its digest when the twin learns new terms.
    """
    parts = profile.model_dump(
        mode="json", include={"rules", "memory", "step", "loads", "frontend"}, exclude_defaults=True
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def starting_options(
    profile: EngineProfile, engine: EngineConfig, device: Device, ranks: Sequence[int]
) -> tuple[Option, ...]:
    """Options whose memory fits: every slot count of the engine with every padded rank there is.

    Parameters
    ----------
    ranks
        Ranks of the adapters to serve.
    """
    accepted = lora_ranks(profile.memory.version)
    padded = sorted({padded_rank(rank) for rank in ranks} & set(accepted))
    choices = (engine.max_lora_rank,) if engine.max_lora_rank is not None else tuple(padded)
    memory = profile.memory_of(device)
    engines = [(slots, rank) for rank in choices for slots in engine.slot_choices]
    return tuple(
        Option(device.name, slots, rank, tokens)
        for slots, rank in engines
        if (tokens := kv_cache_if_started(profile.memory, engine, memory, slots, rank)) is not None
    )


def no_option(space: DesignSpace) -> Problem:
    """Why no engine starts in a space without options: the smallest one does not, and what would help."""
    slots, rank = space.engine.slot_choices[0], space.engine.max_lora_rank or padded_rank(space.ranks[0])
    plan = plan_memory(space.profile.memory, space.engine, space.memory_gib, slots, rank)
    return Problem(
        "memory_gib",
        f"is {space.memory_gib:g} on {space.device}, and no engine configuration fits: with {slots} slots of "
        f"rank {rank}, {plan.why}",
        plan.remedy,
    )
