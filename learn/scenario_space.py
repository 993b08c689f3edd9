"""The space of a scenario: what its GPUs can be given, and the features of its classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from learn.features import FloatArray, figure_columns
from learn.params import DEFAULTS, DesignParams
from learn.space import DesignSpace, OwnLevels, starting_options
from learn.traffic.kinds import Judged, TrafficFigures, TrafficKind, kind_of, records_lengths, sampled
from scenarios import AdapterClass, AdapterSLO, Device, RecordedArrivals, Scenario, padded_rank
from twin import EngineProfile, arrival_values


def scenario_features(scenario: Scenario, classes: Sequence[AdapterClass]) -> FloatArray:
    """Additive features of one adapter of each class, as the regions of a scenario take them.

    Its rates are those that a GPU is judged by, with the headroom.

    Returns
    -------
    numpy.ndarray
        Shape (n_classes, K).
    """
    return figure_columns(
        [scenario.judged_load * c.rate for c in classes],
        [float(c.rank > 0) for c in classes],
        traffic_figures(scenario, classes),
    )


def traffic_figures(scenario: Scenario, classes: Sequence[AdapterClass]) -> TrafficFigures:
    """What features of a scenario's classes are made of, beside rates and ranks."""
    return TrafficFigures.of([kind_of(scenario, one) for one in classes], Judged.of(scenario))


def space_of(
    scenario: Scenario,
    profile: EngineProfile,
    device: Device,
    params: DesignParams = DEFAULTS.design,
    levels: AdapterSLO | None = None,
) -> DesignSpace:
    """What a GPU can be given in a scenario, where some adapters have levels of their own or none has.

    Options are those that hold the longest request. A ``max_model_len`` above that changes which
    options start, not how they serve, so it is lowered to it.
    """
    kinds = [kind_of(scenario, c) for c in scenario.classes]
    longest = max(kind.longest_tokens for kind in kinds)
    if any(records_lengths(kind.arrivals or scenario.workload.arrivals) for kind in set(kinds)):
        longest = scenario.engine.max_model_len  # the classes' lengths are not those that are played
    engine = scenario.engine.model_copy(update={"max_model_len": min(longest, scenario.engine.max_model_len)})
    ranks = adapter_ranks(scenario)
    strict = [k for k, c in enumerate(scenario.classes) if levels is not None and c.levels == levels]
    kept = {*_thinned(set(kinds), params.max_length_pairs), *(kinds[k] for k in strict)}
    traffic = tuple(sorted(kept, key=_work))
    own = sorted({(scenario.classes[k].rank, traffic.index(kinds[k])) for k in strict})
    arrivals = sampled(scenario.workload.arrivals)
    return DesignSpace(
        profile=profile,
        engine=engine,
        device=device.name,
        memory_gib=profile.memory_of(device),
        workload=scenario.workload.model_copy(
            update={"arrivals": arrivals, "prompt": traffic[0].prompt, "output": traffic[0].output}
        ),
        service_levels=scenario.service_levels,
        acceptance=scenario.acceptance,
        options=starting_options(profile, engine, device, ranks),
        ranks=ranks,
        traffic=traffic,
        own_levels=None if levels is None else OwnLevels(levels, tuple(own)),
    )


def adapter_ranks(scenario: Scenario) -> tuple[int, ...]:
    """Ranks of a scenario's adapters, ascending; the least of vLLM's slots where all is of the base model."""
    return tuple(sorted({c.rank for c in scenario.classes if c.rank} or {padded_rank(0)}))


def _work(kind: TrafficKind) -> tuple[float, float, str, str]:
    prompt, output, arrivals, *other = kind
    # What a recording's files hold tells it apart, not how they are called.
    told = arrival_values(arrivals) if isinstance(arrivals, RecordedArrivals) else arrivals
    return output.mean_tokens, prompt.mean_tokens, f"{prompt!r} {output!r}", repr([told, *other])


def _thinned(kinds: set[TrafficKind], upper_bound: int) -> Iterator[TrafficKind]:
    """At most so many kinds, or one of each that lengths alone do not tell apart; by their work."""
    alike: dict[str, list[TrafficKind]] = {}
    for kind in sorted(kinds, key=_work):
        alike.setdefault(repr(kind[2:]), []).append(kind)
    each = max(1, upper_bound // len(alike))
    for several in alike.values():
        if len(several) <= each:
            yield from several
            continue
        kept = np.unique(np.linspace(0, len(several) - 1, each).round().astype(int))
        yield from (several[k] for k in kept)
