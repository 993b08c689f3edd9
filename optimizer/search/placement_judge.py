"""The twin as judge of placements: single adapters and shares of them, each distinct GPU once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from optimizer.result import GPUValidation, Validation
from scenarios import PlacedGPU, Placement
from scenarios.stopping.deadline import UNLIMITED, Deadline
from twin import GPUVerdict, PlacedContents, TwinJudge


@dataclass(frozen=True)
class PlacementJudge:
    """Asks the twin about placed GPUs, with the verdicts of `twin.validate`, and remembers them.

    Parameters
    ----------
    judge
        The twin, which remembers what it was asked.
    deadline
        When to stop; a question that is not answered by then ends in `Stopped`.
    """

    judge: TwinJudge
    deadline: Deadline = UNLIMITED

    @cached_property
    def _content_of(self) -> PlacedContents:
        return PlacedContents(self.judge.scenario)

    def __call__(self, gpus: Sequence[PlacedGPU]) -> list[GPUVerdict]:
        """Verdict of each GPU, in order, with its own number and its own adapters' names."""
        placed = [self._content_of(gpu) for gpu in gpus]
        verdicts = self.judge([content for content, _ in placed], self.deadline)
        return [v.of(gpu.gpu, names) for v, gpu, (_, names) in zip(verdicts, gpus, placed, strict=True)]

    def healthy(self, placement: Placement) -> bool:
        """Whether every GPU is accepted; stops at the first that is not, the busiest first."""
        busiest = sorted(placement.gpus, key=lambda gpu: -self._demand(gpu))
        step = max(1, self.judge.workers)
        return all(
            verdict.accepted for k in range(0, len(busiest), step) for verdict in self(busiest[k : k + step])
        )

    def validation(self, placement: Placement) -> Validation:
        """The verdicts on a placement as a result holds them."""
        rows = tuple(gpu_validation(verdict) for verdict in self(placement.gpus))
        return Validation(accepted=all(row.accepted for row in rows), gpus=rows)

    def _demand(self, gpu: PlacedGPU) -> float:
        """Tokens/s that are asked of a GPU."""
        content, _ = self._content_of(gpu)
        return sum(n * k.rate * (k.prompt.mean_tokens + k.output.mean_tokens) for k, n in content.held)


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
