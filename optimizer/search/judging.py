"""The twin as judge: every distinct GPU content is simulated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from joblib import Parallel, delayed

import twin
from optimizer.progress import Report, silent
from scenarios import AdapterClass, PlacedGPU, Scenario
from scenarios.stopping.deadline import UNLIMITED, Deadline
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


class Content(Protocol):
    """Content and configuration of one GPU, in whatever form: equal ones get one verdict."""

    @property
    def device(self) -> str:
        """Kind of GPU."""
        ...

    @property
    def max_loras(self) -> int:
        """Adapter slots."""
        ...

    @property
    def max_lora_rank(self) -> int:
        """Rank of every slot."""
        ...

    def __hash__(self) -> int: ...


C = TypeVar("C", bound=Content)


@dataclass(frozen=True)
class Judge(Generic[C]):
    """Asks the twin for verdicts and remembers them.

    Parameters
    ----------
    scenario
        Workload, engine, service levels, seed and replications.
    profiles
        Engine profile of each device.
    load_of
        Adapters of a content.
    workers
        Threads; verdicts do not depend on it.
    report
        Called with progress.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    load_of: Callable[[C], GPULoad]
    workers: int = 1
    report: Report = silent
    _known: dict[C, GPUVerdict] = field(default_factory=dict, repr=False)

    def __call__(self, contents: Sequence[C], deadline: Deadline = UNLIMITED) -> list[GPUVerdict]:
        """Verdict of each content, in order; those seen before cost nothing.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before there are all.
        """
        new = list(dict.fromkeys(c for c in contents if c not in self._known))
        # Threads suffice: the twin's loop and NumPy's sorting run without the interpreter's lock.
        jobs = Parallel(n_jobs=min(self.workers, len(new)) or 1, prefer="threads", return_as="generator")(
            delayed(self._judge)(content, deadline) for content in new
        )
        for done, (content, verdict) in enumerate(zip(new, jobs, strict=True), start=1):
            self._known[content] = verdict
            self.report("the twin judges", done, len(new))
        return [self._known[content] for content in contents]

    def _judge(self, content: C, deadline: Deadline) -> GPUVerdict:
        deadline.check("the twin was judging")
        scenario = self.scenario
        device = next(d for d in scenario.devices if d.name == content.device)
        return twin.judge(
            self.load_of(content),
            scenario.workload,
            scenario.engine,
            self.profiles[content.device],
            max_loras=content.max_loras,
            max_lora_rank=content.max_lora_rank,
            service_levels=scenario.service_levels,
            gpu_memory_gib=device.memory_gib,
            seed=scenario.seed,
            replications=scenario.replications,
        )


def judge_of_patterns(
    scenario: Scenario,
    classes: Sequence[AdapterClass],
    profiles: Mapping[str, EngineProfile],
    workers: int = 1,
    report: Report = silent,
) -> Judge[Pattern]:
    """The twin as judge of patterns that count these classes."""

    def load_of(pattern: Pattern) -> GPULoad:
        return GPULoad.from_classes(classes, pattern.counts)

    return Judge(scenario, profiles, load_of, workers, report)
