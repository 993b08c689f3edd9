"""Kinds of traffic: what adapters, and the base model, are sent, whatever the rate and the rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learn.traffic.unsteadiness import Unsteadiness, slow_wander, unsteadiness
from scenarios import (
    Acceptance,
    AdapterClass,
    AdapterSLO,
    Arrivals,
    ClosedLoopArrivals,
    EngineConfig,
    Lengths,
    PromptReuse,
    RecordedArrivals,
    Scenario,
    ServegenArrivals,
    ServiceLevelObjectives,
    TraceArrivals,
)
from twin import arrival_values
from twin.workload.lengths import mean_square_tokens

FloatArray = NDArray[np.float64]

WAIT_S = 600.0
"""Seconds that an adapter may wait for a slot before many of its requests are left at the end of an hour.

Under the criterion *sustained* it is the patience of the requests.
"""


class TrafficKind(NamedTuple):
    """What the requests of an adapter, or of the base model, are like.

    Parameters
    ----------
    prompt, output
        Tokens of prompt and answer.
    arrivals
        Arrival process; None: the workload's.
    reuse
        What prompts have in common; None: nothing.
    patience_s
        Seconds that a request may wait for its first token; None: as the service levels say.
    base
        Whether the requests are of the base model, and take no slot.
    """

    prompt: Lengths
    output: Lengths
    arrivals: Arrivals | None = None
    reuse: PromptReuse | None = None
    patience_s: float | None = None
    base: bool = False

    @property
    def levels(self) -> AdapterSLO | None:
        """Its patience as a service level of its own."""
        return None if self.patience_s is None else AdapterSLO(patience_s=self.patience_s)

    @property
    def longest_tokens(self) -> int:
        """Most tokens of a whole prompt and its answer."""
        turn = self.prompt.longest_tokens + self.output.longest_tokens
        if self.reuse is None:
            return turn
        turns = 1 if self.reuse.sessions is None else self.reuse.sessions.turns
        return self.reuse.system_prompt + turns * turn

    @property
    def whole_prompt_tokens(self) -> float:
        """Mean tokens of a prompt, with what it has in common with others."""
        prompt = self.prompt.mean_tokens
        return (
            prompt if self.reuse is None else self.reuse.mean_prompt_tokens(prompt, self.output.mean_tokens)
        )

    def computed_prompt_tokens(self, *, prefix_caching: bool) -> float:
        """Mean tokens of a prompt that are not found in the prefix cache, as long as that loses nothing.

        What is held in the KV cache, and read in every step, is the whole prompt all the same. A share that
        was measured to be cached is found whatever the engine does.
        """
        if self.reuse is None:
            return self.prompt.mean_tokens
        computed = (1.0 - self.reuse.cached_share) * self.whole_prompt_tokens
        return max(min(computed, self.prompt.mean_tokens) if prefix_caching else computed, 1.0)

    def described(self) -> list[Any]:
        """What determines twin runs of it, as plain values; of lengths alone as ever."""
        lengths: list[Any] = [self.prompt.model_dump(mode="json"), self.output.model_dump(mode="json")]
        own: dict[str, Any] = {}
        if self.arrivals is not None:
            own["arrivals"] = arrival_values(self.arrivals)
        if self.reuse is not None:
            sessions = self.reuse.sessions
            kept = None if sessions is None else sessions.model_dump(mode="json")
            own["reuse"] = [self.reuse.system_prompt, kept, self.reuse.cached_share]
        if self.patience_s is not None:
            own["patience_s"] = self.patience_s
        if self.base:
            own["base"] = True
        return [*lengths, own] if own else lengths


def sampled(arrivals: Arrivals) -> Arrivals:
    """A process as adapters of mixes have it, whose names no recording knows, and of any rate."""
    if isinstance(arrivals, TraceArrivals):
        return arrivals.dealt()
    if isinstance(arrivals, ServegenArrivals):
        return arrivals.model_copy(update={"each_client": False, "adapter_name": None})
    if isinstance(arrivals, ClosedLoopArrivals):  # the rate says how many users there are
        return arrivals.model_copy(update={"users": 1})
    return arrivals


def records_lengths(arrivals: Arrivals) -> bool:
    """Whether requests have the lengths of a recording, not those of their adapters."""
    return isinstance(arrivals, RecordedArrivals) and arrivals.lengths


def kind_of(scenario: Scenario, members: AdapterClass) -> TrafficKind:
    """The kind of a class's traffic in a scenario.

    Only in mixed traffic does it tell more than lengths: there every kind says how its requests arrive and
    how long they may wait.
    """
    if not scenario.mixed:
        return TrafficKind(members.prompt, members.output)
    levels = members.levels if scenario.acceptance == "sustained" else None
    arrivals = sampled(members.arrivals or scenario.workload.arrivals)
    return TrafficKind(
        members.prompt,
        members.output,
        arrivals,
        members.reuse,
        None if levels is None else levels.patience_s,
        members.rank == 0,
    )


def caches_prefixes(engine: EngineConfig) -> bool:
    """Whether an engine keeps what prompts have in common; it does unless it is told not to (`simulate`)."""
    return engine.enable_prefix_caching is not False


@dataclass(frozen=True)
class Judged:
    """By what a GPU is judged, as far as features know it.

    Parameters
    ----------
    acceptance, service_levels
        The criterion, and the levels of all that have none of their own.
    arrivals
        Arrival process of kinds that name none.
    prefix_caching
        Whether engines keep what prompts have in common.
    """

    acceptance: Acceptance
    service_levels: ServiceLevelObjectives
    arrivals: Arrivals
    prefix_caching: bool = False

    @classmethod
    def of(cls, scenario: Scenario) -> Judged:
        """How a scenario's GPUs are judged."""
        of_all = scenario.service_levels, scenario.workload.arrivals
        return cls(scenario.acceptance, *of_all, caches_prefixes(scenario.engine))

    def wait_s(self, kind: TrafficKind) -> float:
        """Seconds that an adapter of a kind may wait for a slot before its requests are late."""
        if self.acceptance == "paper":
            return WAIT_S
        return self.service_levels.patience_s if kind.patience_s is None else kind.patience_s

    def wander(self, kind: TrafficKind) -> float:
        """Variance of an adapter's rate over the square of its mean, where it changes for long."""
        return slow_wander(self.acceptance, kind.arrivals or self.arrivals)

    def unsteadiness(self, kind: TrafficKind) -> Unsteadiness:
        """How far from steady the load of a kind is."""
        if kind.arrivals is None:
            return Unsteadiness.of_workload(self.acceptance, self.arrivals)
        return unsteadiness(self.acceptance, kind.arrivals, self.wait_s(kind), kind.output.mean_tokens)


@dataclass(frozen=True)
class TrafficFigures:
    """What features are made of, beside rates: one entry per kind or adapter, arrays of shape (n,).

    Parameters
    ----------
    prompt
        Mean tokens of a prompt that are computed.
    output, output_square
        Mean tokens of an answer, and mean square.
    context
        Mean tokens of a whole prompt.
    wait_s
        Seconds that an adapter may wait for a slot.
    wander
        Variance of an adapter's rate over the square of its mean; 0 unless rates wander.
    bursts
        Variance of the requests per second over their mean, beyond that of Poisson arrivals, in 1/s.
    """

    prompt: FloatArray
    output: FloatArray
    output_square: FloatArray
    context: FloatArray
    wait_s: FloatArray
    wander: FloatArray
    bursts: FloatArray

    @classmethod
    def of(cls, kinds: Sequence[TrafficKind], judged: Judged) -> TrafficFigures:
        """The figures of kinds of traffic."""
        # Few arrivals are distinct, whatever the number of kinds.
        found: dict[tuple[Arrivals | None, float, float], Unsteadiness] = {}
        unsteady = []
        for kind in kinds:
            own = kind.arrivals is not None
            key = kind.arrivals, judged.wait_s(kind) if own else 0.0, kind.output.mean_tokens if own else 0.0
            if key not in found:
                found[key] = judged.unsteadiness(kind)
            unsteady.append(found[key])
        columns = (
            [kind.computed_prompt_tokens(prefix_caching=judged.prefix_caching) for kind in kinds],
            [kind.output.mean_tokens for kind in kinds],
            [mean_square_tokens(kind.output) for kind in kinds],
            [kind.whole_prompt_tokens for kind in kinds],
            [judged.wait_s(kind) for kind in kinds],
            [one.wander for one in unsteady],
            [one.bursts for one in unsteady],
        )
        return cls(*(np.array(column, dtype=np.float64) for column in columns))

    def of_each(self, kind: NDArray[np.int32]) -> TrafficFigures:
        """The figures of adapters whose kinds are given by number."""
        return TrafficFigures(*(getattr(self, name)[kind] for name in self.__dataclass_fields__))
