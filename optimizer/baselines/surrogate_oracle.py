"""The paper's way to ask the greedy's questions: a model of the GPU learned from twin runs.

The runs are sampled once per device, engine and workload, and kept in the cache of `learn`; the model is
fitted to them again in seconds. A random forest makes the greedy Proposed, a small tree ProposedFast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

import learn
import twin
from learn import PLANS, SamplingPlan
from learn.storage.cache import cache_folder
from optimizer.packing.model.problem import FloatArray
from scenarios import UNLIMITED, Deadline, Device, EngineOption, Scenario
from scenarios.stopping.progress import Progress, silent
from twin import EngineProfile

Model = Literal["forest", "tree"]


@dataclass(frozen=True, eq=False)
class SurrogateOracle:
    """An oracle for `optimizer.packing.heuristics.greedy.proposed`; ``counts`` are adapters of each class.

    Parameters
    ----------
    surrogate
        The model.
    scenario, gpu, profile
        Classes of adapters and engine arguments, the kind of GPU, and its memory model.
    deadline
        When to stop answering.
    """

    surrogate: learn.Surrogate
    scenario: Scenario
    gpu: Device
    profile: EngineProfile
    deadline: Deadline = UNLIMITED

    def engine(self, max_loras: int, max_lora_rank: int) -> EngineOption:
        """The engine of so many slots of this rank on the GPU."""
        return EngineOption(self.gpu.name, max_loras, max_lora_rank)

    def fits(self, engine: EngineOption) -> bool:
        """Whether the engine starts."""
        self.deadline.check("the greedy asked its model")
        return self._memory(engine).starts

    def throughput(self, counts: FloatArray, engine: EngineOption) -> float:
        """Predicted tokens/s."""
        features = self._features(counts, engine)
        return float(self.surrogate.predict(features, outside="allow").throughput_tok_per_s[0])

    def starves(self, counts: FloatArray, engine: EngineOption) -> bool:
        """Whether the model says that the GPU starves."""
        return bool(self.surrogate.starved(self._features(counts, engine), outside="allow")[0])

    def _memory(self, engine: EngineOption) -> twin.MemoryPlan:
        return twin.plan_memory(
            self.profile.memory,
            self.scenario.engine,
            self.profile.memory_of(self.gpu),
            engine.max_loras,
            engine.max_lora_rank,
        )

    def _features(self, counts: FloatArray, engine: EngineOption) -> FloatArray:
        classes, tokens = self.scenario.classes, self._memory(engine).kv_cache_tokens
        values = (np.array([float(value)]) for value in (engine.max_loras, engine.max_lora_rank, tokens))
        figures = learn.traffic_figures(self.scenario, classes)
        return learn.candidate_features(
            [self.scenario.judged_load * c.rate for c in classes],
            [c.rank for c in classes],
            figures.prompt,
            figures.output,
            figures.output_square,
            np.asarray(counts, dtype=np.float64)[None, :],
            learn.Engines(*values),
            figures.wait_s,
            figures.wander,
            context=figures.context,
            bursts=figures.bursts,
        )


def learned_surrogate(
    scenario: Scenario,
    device: Device,
    profile: EngineProfile,
    model: Model,
    *,
    workers: int = 1,
    progress: Progress = silent,
    deadline: Deadline = UNLIMITED,
    plan: SamplingPlan | None = None,
) -> learn.Surrogate:
    """The model of one device of a scenario; samples the twin where no runs are kept, for minutes.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before there are enough runs.
    SurrogateError
        If the runs are all starved or all healthy.
    """
    plan = PLANS[scenario.acceptance] if plan is None else plan
    space = learn.space_for(scenario, device, profile)
    dataset = learn.sample(
        space, plan, workers=workers, cache=cache_folder(), progress=progress, deadline=deadline
    )
    return learn.fit(dataset, model, seed=plan.seed)
