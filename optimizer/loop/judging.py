"""The twin as judge: every distinct GPU content is simulated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from joblib import Parallel, delayed

import twin
from optimizer.progress import Report, silent
from scenarios import AdapterClass, PlacedGPU, Scenario
from twin import EngineProfile, GPULoad, GPUVerdict


@dataclass(frozen=True)
class Pattern:
    """Content and configuration of one GPU.

    Parameters
    ----------
    device
        Kind of GPU.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot.
    counts
        Adapters of each class.
    """

    device: str
    max_loras: int
    max_lora_rank: int
    counts: tuple[int, ...]


def placed_gpu(number: int, pattern: Pattern, shares: Mapping[str, float]) -> PlacedGPU:
    """One GPU of a placement: the pattern's engine, with the named adapters and their shares.

    An adapter that is there in several pieces needs one slot only.
    """
    return PlacedGPU(
        gpu=number,
        device=pattern.device,
        max_loras=min(pattern.max_loras, len(shares)),
        max_lora_rank=pattern.max_lora_rank,  # type: ignore[arg-type]  # options hold vLLM's ranks
        adapters=tuple(shares),
        shares={name: share for name, share in shares.items() if share < 1 - 1e-9},
    )


@dataclass(frozen=True)
class Judge:
    """Asks the twin for verdicts and remembers them.

    Parameters
    ----------
    scenario
        Workload, engine, service levels, seed and replications.
    classes
        The classes that patterns count.
    profiles
        Engine profile of each device.
    workers
        Threads; verdicts do not depend on it.
    """

    scenario: Scenario
    classes: Sequence[AdapterClass]
    profiles: Mapping[str, EngineProfile]
    workers: int = 1
    report: Report = silent
    _known: dict[Pattern, GPUVerdict] = field(default_factory=dict, repr=False)

    def __call__(self, patterns: Sequence[Pattern]) -> list[GPUVerdict]:
        """Verdict of each pattern, in order; patterns seen before cost nothing."""
        new = list(dict.fromkeys(p for p in patterns if p not in self._known))
        # Threads suffice: the twin's loop and NumPy's sorting run without the interpreter's lock.
        jobs = Parallel(n_jobs=min(self.workers, len(new)) or 1, prefer="threads", return_as="generator")(
            delayed(_judge)(self.scenario, self._load(p), self.profiles[p.device], p) for p in new
        )
        for done, (pattern, verdict) in enumerate(zip(new, jobs, strict=True), start=1):
            self._known[pattern] = verdict
            self.report("the twin judges", done, len(new))
        return [self._known[p] for p in patterns]

    def _load(self, pattern: Pattern) -> GPULoad:
        return GPULoad.from_classes(self.classes, pattern.counts)


def _judge(scenario: Scenario, load: GPULoad, profile: EngineProfile, pattern: Pattern) -> GPUVerdict:
    device = next(d for d in scenario.devices if d.name == pattern.device)
    return twin.judge(
        load,
        scenario.workload,
        scenario.engine,
        profile,
        max_loras=pattern.max_loras,
        max_lora_rank=pattern.max_lora_rank,
        service_levels=scenario.service_levels,
        gpu_memory_gib=device.memory_gib,
        seed=scenario.seed,
        replications=scenario.replications,
    )
