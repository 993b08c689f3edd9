"""The twin as judge of placements: single adapters and shares of them, each distinct GPU once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from optimizer.progress import Report, silent
from optimizer.result import GPUValidation, Validation
from optimizer.search.judging import Judge
from scenarios import PlacedGPU, Placement, Scenario
from scenarios.stopping.deadline import UNLIMITED, Deadline
from twin import EngineProfile, GPULoad, GPUVerdict


@dataclass(frozen=True)
class PlacedContent:
    """Device, slots, rank, and the sorted (class, share) of every adapter of a GPU."""

    device: str
    max_loras: int
    max_lora_rank: int
    held: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class PlacementJudge:
    """Asks the twin about placed GPUs, with the verdicts of `twin.validate`, and remembers them.

    Parameters
    ----------
    scenario
        Workload, engine, service levels, seed and replications.
    profiles
        Engine profile of each device.
    workers
        Threads; verdicts do not depend on it.
    report
        Called with progress.
    deadline
        When to stop; a question that is not answered by then ends in `Stopped`.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    workers: int = 1
    report: Report = silent
    deadline: Deadline = UNLIMITED

    @cached_property
    def _class_of(self) -> dict[str, int]:
        return {name: k for k, c in enumerate(self.scenario.classes) for name in c.names}

    @cached_property
    def _judge(self) -> Judge[PlacedContent]:
        return Judge(self.scenario, self.profiles, self._load, self.workers, self.report)

    def __call__(self, gpus: Sequence[PlacedGPU]) -> list[GPUVerdict]:
        """Verdict of each GPU, in order, with its own number and its own adapters' names."""
        verdicts = self._judge([self._content(gpu) for gpu in gpus], self.deadline)
        return [v.of(gpu.gpu, self._names(gpu)) for v, gpu in zip(verdicts, gpus, strict=True)]

    def healthy(self, placement: Placement) -> bool:
        """Whether every GPU is accepted; stops at the first that is not, the busiest first."""
        busiest = sorted(placement.gpus, key=lambda gpu: -self._demand(gpu))
        step = max(1, self.workers)
        return all(
            verdict.accepted for k in range(0, len(busiest), step) for verdict in self(busiest[k : k + step])
        )

    def validation(self, placement: Placement) -> Validation:
        """The verdicts on a placement as a result holds them."""
        rows = tuple(gpu_validation(verdict) for verdict in self(placement.gpus))
        return Validation(accepted=all(row.accepted for row in rows), gpus=rows)

    def _sorted(self, gpu: PlacedGPU) -> list[tuple[int, float, str]]:
        pairs = [(self._class_of[name], gpu.share(name), k, name) for k, name in enumerate(gpu.adapters)]
        return [(c, share, name) for c, share, _, name in sorted(pairs)]

    def _content(self, gpu: PlacedGPU) -> PlacedContent:
        held = tuple((c, share) for c, share, _ in self._sorted(gpu))
        return PlacedContent(gpu.device, gpu.max_loras, gpu.max_lora_rank, held)

    def _names(self, gpu: PlacedGPU) -> dict[str, str]:
        return {f"{k}": name for k, (_, _, name) in enumerate(self._sorted(gpu))}

    def _demand(self, gpu: PlacedGPU) -> float:
        """Tokens/s that are asked of a GPU."""
        classes = self.scenario.classes
        return sum(
            classes[c].rate * share * (classes[c].prompt.mean_tokens + classes[c].output.mean_tokens)
            for c, share, _ in self._sorted(gpu)
        )

    def _load(self, content: PlacedContent) -> GPULoad:
        held = [(self.scenario.classes[c], share) for c, share in content.held]
        return GPULoad(
            names=tuple(f"{k}" for k in range(len(held))),
            rank=np.array([c.rank for c, _ in held], dtype=np.int32),
            rate=np.array([c.rate * share for c, share in held]),
            prompt=tuple(c.prompt for c, _ in held),
            output=tuple(c.output for c, _ in held),
            levels=tuple(c.levels for c, _ in held),
        )


def gpu_validation(verdict: GPUVerdict) -> GPUValidation:
    """A verdict as a result holds it."""
    return GPUValidation(
        gpu=verdict.gpu,
        accepted=verdict.accepted,
        reasons=verdict.reasons,
        offered_tok_per_s=verdict.offered_tok_per_s,
        served_tok_per_s=verdict.served_tok_per_s,
        worst_adapter=verdict.worst_adapter,
        worst_served_share=verdict.worst_served_share,
        itl_ms=verdict.itl_ms,
        ttft_ms=verdict.ttft_ms,
        kv_cache_tokens=verdict.kv_cache_tokens,
        starved=verdict.starved,
        memory_failure=verdict.memory_failure,
        cut_requests=verdict.cut_requests,
    )
