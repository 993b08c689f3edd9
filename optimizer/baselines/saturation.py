"""Largest throughput of a GPU, which MaxBackbone, dLoRA and LoRAServe place by.

Measured where arXiv 2602.24044 measured it, so that its baselines are what they were there; from the twin
under overload elsewhere, so that the figure exists for every engine profile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numpy as np
from pydantic import BaseModel, ConfigDict

import twin
from optimizer.baselines.assignment import SingleAdapters
from optimizer.baselines.params import DEFAULTS, BaselineParams
from scenarios import UNLIMITED, AdapterClass, Deadline, Device, PoissonArrivals, Scenario, padded_rank
from twin import EngineProfile, GPULoad
from twin.step_cost import StepCost


class Measured(BaseModel):
    """Throughputs of one model and device in tokens/s: without LoRA, and with one adapter by its rank.

    They hold for requests of the mean lengths given, in tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    device: str
    prompt_tokens: float
    output_tokens: float
    backbone_tok_per_s: float
    adapter_tok_per_s: dict[int, float]


@cache
def measured_throughputs() -> dict[tuple[str, str], Measured]:
    """The measurements that are shipped, by model and device."""
    file = resources.files("optimizer.baselines") / "peak_throughput.json"
    document = json.loads(file.read_text("utf-8"))
    found = [Measured.model_validate(entry) for entry in document["measurements"]]
    return {(one.model, one.device): one for one in found}


@dataclass(frozen=True)
class Saturation:
    """Largest throughputs of one kind of GPU under a scenario's lengths and engine.

    Parameters
    ----------
    scenario, device, profile
        Lengths, engine arguments, and the GPU.
    deadline
        When to stop asking the twin.
    params
        How long and how hard the twin is loaded.
    """

    scenario: Scenario
    device: Device
    profile: EngineProfile
    deadline: Deadline = UNLIMITED
    params: BaselineParams = DEFAULTS

    @cached_property
    def backbone_tok_per_s(self) -> float:
        """Tokens/s of the base model without LoRA."""
        if self._measured is not None:
            return self._measured.backbone_tok_per_s
        return self.simulated_backbone()

    def simulated_backbone(self) -> float:
        """The same by the twin, with the profile's terms for LoRA left out."""
        plain = tuple(t for t in self.profile.step.terms if not (t.lora or t.slots_power or t.rank_power))
        profile = self.profile.model_copy(update={"step": StepCost(terms=plain)})
        memory = twin.plan_memory(self.profile.memory, self.scenario.engine, self._memory_gib, 0, 0)
        return self._saturate(profile, 8, memory.kv_cache_tokens)

    def adapter_tok_per_s(self, rank: int) -> float:
        """Tokens/s with one adapter of a rank in one slot."""
        known = {} if self._measured is None else self._measured.adapter_tok_per_s
        return known.get(rank) or self.simulated_adapter(rank)

    def simulated_adapter(self, rank: int) -> float:
        """The same by the twin."""
        return self._saturate(self.profile, padded_rank(rank), None)

    def by_rank(self, adapters: SingleAdapters) -> dict[int, float]:
        """Tokens/s with one adapter of each rank that there is; of the base model without any."""
        return {
            rank: self.adapter_tok_per_s(rank) if rank else self.backbone_tok_per_s
            for rank in sorted({int(r) for r in adapters.ranks})
        }

    def most_adapters(self, max_rank: int) -> int:
        """Most slots of a rank with which the engine starts; 1 if not even one does."""
        plan = twin.plan_memory(
            self.profile.memory, self.scenario.engine, self._memory_gib, 1, padded_rank(max_rank)
        )
        return plan.largest_max_loras or 1

    @property
    def _busiest(self) -> AdapterClass:
        """The class with the most requests, whose lengths count."""
        return max(self.scenario.classes, key=lambda c: c.rate * c.count)

    @property
    def _measured(self) -> Measured | None:
        """The measured figures, where model, device and lengths are those of the measurement."""
        one = self._busiest
        known = measured_throughputs().get((self.scenario.model, self.device.name))
        if known is None:
            return None
        pairs = (one.prompt.mean_tokens, known.prompt_tokens), (one.output.mean_tokens, known.output_tokens)
        near = all(abs(actual / known - 1) <= self.params.length_tolerance for actual, known in pairs)
        return known if near else None

    @property
    def _memory_gib(self) -> float:
        return self.profile.memory_of(self.device)

    def _saturate(self, profile: EngineProfile, rank: int, kv_cache_tokens: int | None) -> float:
        """Served tokens/s under ever more load of one adapter, until much of it is left over."""
        busiest = self._busiest
        workload = self.scenario.workload.model_copy(update={"arrivals": PoissonArrivals(), "warmup_s": 0.0})
        rate, best = self.params.first_rate_per_s, 0.0
        while True:
            self.deadline.check("the largest throughput was looked for")
            load = GPULoad(
                names=("saturation",),
                rank=np.array([rank], dtype=np.int32),
                rate=np.array([rate]),
                prompt=(busiest.prompt,),
                output=(busiest.output,),
            )
            gpu = twin.simulate(
                load,
                workload,
                self.scenario.engine,
                profile,
                max_loras=1,
                max_lora_rank=rank,
                seed=self.scenario.seed,
                gpu_memory_gib=self._memory_gib,
                kv_cache_tokens=kv_cache_tokens,
                duration_s=self.params.saturation_s,
            ).gpu
            best = max(best, gpu.served_tok_per_s)
            enough = self.params.saturated_share * gpu.offered_tok_per_s
            if gpu.served_tok_per_s < enough or gpu.offered_tok_per_s <= 0:
                return best
            rate *= 2
