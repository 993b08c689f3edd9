"""The paper's way to ask the greedy's questions: a model of the GPU learned from twin runs.

The runs are sampled once per device, engine and workload, and kept in the cache of `learn`; the model is
fitted to them again in seconds. A random forest makes the greedy Proposed, a small tree ProposedFast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import learn
import twin
from learn.design import SamplingPlan
from learn.region_store import PLAN
from learn.storage.cache import cache_folder
from optimizer.packing.model.problem import FloatArray
from optimizer.progress import Progress, silent
from scenarios import AdapterClass, Device, Scenario
from scenarios.stopping.deadline import UNLIMITED, Deadline
from twin import EngineProfile
from twin.workload.lengths import mean_square_tokens

Model = Literal["forest", "tree"]


@dataclass(frozen=True, eq=False)
class SurrogateOracle:
    """An oracle for `optimizer.packing.heuristics.greedy.proposed`; ``counts`` are adapters of each class.

    Parameters
    ----------
    surrogate
        The model.
    classes
        The adapters' classes.
    scenario, device, profile
        Engine arguments, memory of the GPU, and its memory model.
    deadline
        When to stop answering.
    """

    surrogate: learn.Surrogate
    classes: Sequence[AdapterClass]
    scenario: Scenario
    device: Device
    profile: EngineProfile
    deadline: Deadline = UNLIMITED

    def fits(self, max_loras: int, max_lora_rank: int) -> bool:
        """Whether the engine starts with so many slots of this rank."""
        self.deadline.check("the greedy asked its model")
        return self._memory(max_loras, max_lora_rank).starts

    def throughput(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> float:
        """Predicted tokens/s."""
        features = self._features(counts, max_loras, max_lora_rank)
        return float(self.surrogate.predict(features, outside="allow").throughput_tok_per_s[0])

    def starves(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> bool:
        """Whether the model says that the GPU starves."""
        features = self._features(counts, max_loras, max_lora_rank)
        return bool(self.surrogate.starved(features, outside="allow")[0])

    def _memory(self, max_loras: int, max_lora_rank: int) -> twin.MemoryPlan:
        memory_gib = self.profile.memory_of(self.device)
        return twin.plan_memory(
            self.profile.memory, self.scenario.engine, memory_gib, max_loras, max_lora_rank
        )

    def _features(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> FloatArray:
        tokens = self._memory(max_loras, max_lora_rank).kv_cache_tokens
        engine = (np.array([float(value)]) for value in (max_loras, max_lora_rank, tokens))
        return learn.candidate_features(
            [c.rate for c in self.classes],
            [c.rank for c in self.classes],
            [c.prompt.mean_tokens for c in self.classes],
            [c.output.mean_tokens for c in self.classes],
            [mean_square_tokens(c.output) for c in self.classes],
            np.asarray(counts, dtype=np.float64)[None, :],
            learn.Engines(*engine),
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
    plan: SamplingPlan = PLAN,
) -> learn.Surrogate:
    """The model of one device of a scenario; samples the twin where no runs are kept, for minutes.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before there are enough runs.
    SurrogateError
        If the runs are all starved or all healthy.
    """
    space = learn.space_for(scenario, device, profile)
    dataset = learn.sample(
        space, plan, workers=workers, cache=cache_folder(), progress=progress, deadline=deadline
    )
    return learn.fit(dataset, model, seed=plan.seed)
