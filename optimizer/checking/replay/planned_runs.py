"""What each server of a plan is to be sent, and the engine as which the twin plays the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scenarios import (
    PlacedGPU,
    Placement,
    Problem,
    Scenario,
    ScenarioError,
    as_started,
    check_placement,
    described,
)
from twin import (
    EngineProfile,
    EngineSetup,
    GPULoad,
    PlacementJudge,
    Requests,
    RunRecords,
    TwinJudge,
    build_setup,
    draw_requests,
    profiles_of,
)
from twin.engine.run import simulate_requests
from twin.simulate import fit_lengths, refuse_long_prompts


@dataclass(frozen=True)
class PlannedRun:
    """One GPU of a plan that is checked.

    Parameters
    ----------
    gpu
        The GPU.
    url
        Its server.
    load
        Its adapters, by their names in the plan.
    served_names
        Names by which clients ask for them, in the order of the load.
    requests
        What is sent; adapters are numbered as in the load.
    setups
        The engine at what is expected of its step times, and at their quick and their slow end.
    frontend_s
        Seconds that the server in front of the engine adds to the time to first token.
    engine_version
        Release of vLLM that the twin plays.
    cached_tokens
        Tokens of prompts that the scenario says are found in the cache whatever was computed, and that are
        computed here.
    """

    gpu: PlacedGPU
    url: str
    load: GPULoad
    served_names: tuple[str, ...]
    requests: Requests
    setups: tuple[EngineSetup, EngineSetup, EngineSetup]
    frontend_s: float
    engine_version: str
    cached_tokens: int

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        setup = self.setups[0]
        return (setup.usable_blocks + 1) * setup.block_size

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        requests = self.requests
        return int(requests.prompt_tokens.sum(dtype=np.int64) + requests.output_tokens.sum(dtype=np.int64))

    def foretold(self, horizon_s: float) -> tuple[RunRecords, RunRecords, RunRecords]:
        """What the twin makes of the requests, cut at a horizon, on each of the engines.

        Raises
        ------
        twin.UnservableRequestError
            If a request needs more of the KV cache than there is.
        """
        expected, quick, slow = self.setups
        middle = simulate_requests(self.requests, expected, horizon_s)
        if quick is expected:  # nothing is known of how far off it is
            return middle, middle, middle
        return (
            middle,
            simulate_requests(self.requests, quick, horizon_s),
            simulate_requests(self.requests, slow, horizon_s),
        )


@dataclass(frozen=True)
class Planner:
    """Plans runs of a placement's GPUs.

    Parameters
    ----------
    scenario
        Adapters, workload and engine.
    placement
        The plan.
    seconds
        How long requests are sent.
    load_factor
        How many times the scenario's rates.
    seed
        Of the requests; every GPU draws its own from it, whatever others are checked.
    deviations
        Standard deviations of the profile's step times to either end.
    """

    scenario: Scenario
    placement: Placement
    seconds: float
    load_factor: float
    seed: int
    deviations: float

    def runs(self, urls: Mapping[int, str]) -> tuple[PlannedRun, ...]:
        """What the servers of some GPUs are to be sent, in the order of their numbers.

        Raises
        ------
        ScenarioError
            If the placement is none of the scenario's, or a GPU gets no request.
        twin.MemoryFailure
            If an engine does not start.
        twin.UnknownProfileError, twin.ProfileError
            If an engine profile is not to be had.
        scenarios.reading.row_files.TraceError
            If a trace's file is missing or damaged.
        """
        check_placement(self.placement, self.scenario)
        placement = described(as_started(self.placement, self.scenario), self.scenario)
        profiles = profiles_of(self.scenario)
        judge = PlacementJudge(TwinJudge(self.scenario, profiles))
        chosen = [gpu for gpu in placement.gpus if gpu.gpu in urls]
        runs = [
            self._run(gpu, urls[gpu.gpu], placement, judge, profiles[gpu.device])
            for gpu in sorted(chosen, key=lambda gpu: gpu.gpu)
        ]
        idle = [run.gpu.gpu for run in runs if not len(run.requests)]
        if idle:
            problems = [
                Problem(f"GPU {n}", f"gets no request in {self.seconds:g} s", "check for longer")
                for n in idle
            ]
            raise ScenarioError(problems, "check")
        return tuple(runs)

    def _run(
        self, gpu: PlacedGPU, url: str, placement: Placement, judge: PlacementJudge, profile: EngineProfile
    ) -> PlannedRun:
        content, names = judge.content(gpu)
        load = content.scaled(self.load_factor).load
        drawn = self._drawn(load, gpu.gpu)
        cached = drawn.cached_tokens
        requests = replace(drawn, cached_tokens=None)  # no client can put it into a server's cache
        device = next(one for one in self.scenario.devices if one.name == gpu.device)
        engine = self.scenario.engine
        if engine.enable_prefix_caching is None and requests.continues is not None:
            engine = engine.model_copy(update={"enable_prefix_caching": True})  # as vLLM does by itself
        ends = ends_of(profile, self.deviations)
        setups = {
            id(one): build_setup(
                one,
                engine,
                load,
                max_loras=gpu.max_loras,
                max_lora_rank=gpu.max_lora_rank,
                max_cpu_loras=content.max_cpu_loras,
                gpu_memory_gib=device.memory_gib,
            )
            for one in ends
        }
        expected, quick, slow = (setups[id(one)] for one in ends)
        named = replace(load, names=tuple(names[name] for name in load.names))
        return PlannedRun(
            gpu=gpu,
            url=url,
            load=named,
            served_names=tuple(placement.served_name(name) for name in named.names),
            requests=requests,
            setups=(expected, quick, slow),
            frontend_s=profile.frontend.first_token_s,
            engine_version=profile.engine_version,
            cached_tokens=0 if cached is None else int(cached.sum(dtype=np.int64)),
        )

    def _drawn(self, load: GPULoad, gpu: int) -> Requests:
        """The requests of a GPU's adapters."""
        workload, longest = self.scenario.workload, self.scenario.engine.max_model_len
        seed = np.random.SeedSequence([self.seed, gpu])
        sustained = self.scenario.acceptance == "sustained"
        drawn = draw_requests(load, workload, seed, self.seconds, sustained=sustained)
        refuse_long_prompts(load, workload.arrivals, drawn, longest)
        return fit_lengths(drawn, longest)


def ends_of(profile: EngineProfile, deviations: float) -> tuple[EngineProfile, EngineProfile, EngineProfile]:
    """A profile at what is expected of its step times, and at their quick and their slow end.

    Derived step times have ends of their own (`EngineProfile.at`); measured ones err by what the fit left
    over. Where that is not known all three are the same.
    """
    if profile.derived is not None:
        return profile.at("expected"), profile.at("optimistic"), profile.at("pessimistic")
    share = profile.uncertainty.residual_share
    if not share or not deviations:
        return profile, profile, profile
    factor = math.exp(deviations * share)
    return profile, _scaled(profile, 1 / factor), _scaled(profile, factor)


def _scaled(profile: EngineProfile, factor: float) -> EngineProfile:
    """The profile with every step so many times as long."""
    terms = tuple(term.model_copy(update={"seconds": term.seconds * factor}) for term in profile.step.terms)
    return profile.model_copy(update={"step": profile.step.model_copy(update={"terms": terms})})
