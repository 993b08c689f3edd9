"""What the end of a window costs: requests in flight then count as unserved, however idle the GPU is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scenarios import Arrivals, PoissonArrivals, RecordedArrivals, Scenario, ServegenArrivals, padded_rank
from twin.engine.requests import FloatArray, Requests
from twin.engine.run import simulate_requests
from twin.engine.setup import EngineSetup
from twin.load import GPULoad
from twin.profile import EngineProfile
from twin.simulate import build_setup, fit_lengths, refuse_long_prompts
from twin.workload.arrivals import draw_requests
from twin.workload.recordings import period_of

REQUESTS = 2000
"""Requests that are drawn on average; their mean time is known to a few hundredths."""

APART_S = 1e6
"""Seconds between them, so that each is alone."""

NOTICED = 0.1
"""Part of what may go unserved from which on the end of the window is named as a cause."""

LONGEST_S = 604_800.0
"""Longest duration of a workload."""


@dataclass(frozen=True)
class RequestTimes:
    """How long requests take that wait for nothing.

    Parameters
    ----------
    tokens
        Prompt and output tokens of each request, shape (n,).
    seconds
        From its arrival to its last token, shape (n,).
    """

    tokens: FloatArray
    seconds: FloatArray

    def served_share(self, duration_s: float, warmup_s: float = 0.0) -> float:
        """Served over offered tokens on idle GPUs, in expectation; no load and no plan makes it larger.

        Tokens in flight at an instant are, by Little's law, those that arrive in a second times the seconds
        that their requests have been there. Those at the end of the warm-up are served in the window though
        they were not offered in it.
        """
        lost = np.minimum(self.seconds, duration_s) - np.minimum(self.seconds, warmup_s)
        return 1.0 - float(self.tokens @ lost) / (float(self.tokens.sum()) * (duration_s - warmup_s))

    def shortest_s(self, served_share: float, warmup_s: float = 0.0) -> float | None:
        """Shortest duration, to a hundredth, that lets an idle GPU serve a share; None if none does."""
        if self.served_share(LONGEST_S, warmup_s) < served_share:
            return None
        low, high = warmup_s, LONGEST_S
        while high - low > 0.005 * high:
            middle = (low + high) / 2
            enough = self.served_share(middle, warmup_s) >= served_share
            low, high = (low, middle) if enough else (middle, high)
        return high


def times_alone(scenario: Scenario, profiles: Mapping[str, EngineProfile]) -> RequestTimes:
    """Times of a scenario's requests, in their mix, on the quickest of its devices and an idle engine.

    Parameters
    ----------
    profiles
        Engine profile of each device.

    Raises
    ------
    WorkloadError
        If a trace's prompts are too long for the engine.
    scenarios.reading.row_files.TraceError
        If the trace's file is missing or damaged.
    """
    requests = _alone(scenario)
    tokens = (requests.prompt_tokens + requests.output_tokens).astype(np.float64)
    setups = [_idle_setup(scenario, profile) for profile in profiles.values()]
    seconds = [simulate_requests(requests, setup).finish_s - requests.arrival_s for setup in setups]
    return RequestTimes(tokens, min(seconds, key=lambda taken: float(tokens @ taken)))


def _idle_setup(scenario: Scenario, profile: EngineProfile) -> EngineSetup:
    """An engine with the fewest and smallest slots, one adapter, loaded, and room for a request."""
    engine, rank = scenario.engine, min(c.rank for c in scenario.classes)
    one = GPULoad.from_classes(scenario.classes[:1], [1])
    setup = build_setup(
        profile,
        engine,
        replace(one, rank=np.array([rank], dtype=np.int32)),
        max_loras=engine.slot_choices[0],
        max_lora_rank=engine.max_lora_rank or padded_rank(rank),
        kv_cache_tokens=engine.max_model_len + 2 * engine.block_size,
    )
    return replace(setup, gpu_load_s=np.zeros(1), disk_load_s=np.zeros(1))


def _alone(scenario: Scenario) -> Requests:
    """Requests of all adapters in their mix, far from each other and as of one adapter.

    What a prompt has in common with others is in the cache, as it may be at best.
    """
    load, process = GPULoad.from_classes(scenario.classes), scenario.workload.arrivals
    workload = scenario.workload.model_copy(update={"arrivals": _mixing(process)})
    load = replace(load, arrivals=tuple(one and _mixing(one) for one in load.arrivals))
    duration = REQUESTS / float(load.rate.sum())
    for one in load.processes(workload.arrivals):
        if isinstance(one, ServegenArrivals):  # keeps its clock, and may begin with silence
            load, duration = load.scaled(duration / period_of(one)), period_of(one)
    drawn = draw_requests(load, workload, scenario.seed, duration)
    refuse_long_prompts(load, workload.arrivals, drawn, scenario.engine.max_model_len)
    fitted = fit_lengths(drawn, scenario.engine.max_model_len)
    known = [of[: len(drawn)] for of in (fitted.common_tokens, fitted.cached_tokens) if of is not None]
    return Requests(
        arrival_s=np.arange(len(drawn), dtype=np.float64) * APART_S,
        prompt_tokens=fitted.prompt_tokens,
        output_tokens=fitted.output_tokens,
        adapter=np.zeros(len(drawn), dtype=np.int32),
        n_adapters=1,
        cached_tokens=np.max(known, axis=0) if known else None,
    )


def _mixing(arrivals: Arrivals) -> Arrivals:
    """A process of equal requests that has them in their mix soon; a recording may have its own lengths."""
    return arrivals if isinstance(arrivals, RecordedArrivals) and arrivals.lengths else PoissonArrivals()


def window_problem(scenario: Scenario, times: RequestTimes) -> str | None:
    """Why a scenario's window is too short for its least served share, with what to do; None if it is not."""
    workload, least = scenario.workload, scenario.service_levels.served_share
    most = times.served_share(workload.duration_s, workload.warmup_s)
    if most >= least:
        return None
    return (
        f"workload.duration_s {workload.duration_s:g} is too short for service_levels.served_share "
        f"{least:g}: requests in flight at the end count as unserved, so that even an idle GPU serves only "
        f"{100 * most:.1f} % of the offered tokens on average; {_remedy(scenario, times, most)}"
    )


def window_note(scenario: Scenario, times: RequestTimes) -> str:
    """That the end of a scenario's window takes much of what may go unserved, as an addition; else empty."""
    if scenario.acceptance == "sustained":  # looks at no window's end
        return ""
    workload, least = scenario.workload, scenario.service_levels.served_share
    lost, allowed = 1.0 - times.served_share(workload.duration_s, workload.warmup_s), 1.0 - least
    if lost < NOTICED * allowed:
        return ""
    return (
        f"; of the {100 * allowed:g} % that may go unserved, requests in flight at the end take "
        f"{100 * lost:.1f} % even on an idle GPU, and more under load: raise workload.duration_s "
        f"{workload.duration_s:g}"
    )


def _remedy(scenario: Scenario, times: RequestTimes, most: float) -> str:
    workload, share = scenario.workload, math.floor(most * 1000) / 1000
    enough = times.shortest_s(scenario.service_levels.served_share, workload.warmup_s)
    ways = []
    if enough is not None:
        ways.append(f"raise workload.duration_s to {_rounded_up(enough)} s at least (more under load)")
    if share > 0:
        ways.append(
            f"lower served_share to at most {share:g} (less under load), and ask for latencies beside it "
            "(service_levels.ttft_ms)"
        )
    return ", or ".join(ways) or "lower served_share and raise workload.duration_s"


def _rounded_up(seconds: float) -> str:
    """Seconds to two digits, upwards."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return f"{math.ceil(seconds / unit) * unit:,g}"
