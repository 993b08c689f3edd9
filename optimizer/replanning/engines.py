"""Engines that go on as they run, although the plan would start them with other arguments.

Where slots are chosen, a plan gives a GPU no more of them than it has adapters, and the smallest rank that
fits these, as both leave more KV cache. To start a running engine again for that alone would serve nobody.
"""

from __future__ import annotations

from contextlib import suppress

from optimizer.deployable import goes_on
from scenarios import PlacedGPU, Placement, Scenario, Stopped
from twin import PlacementJudge, ValidationReport


def keep_engines(
    placement: Placement, report: ValidationReport, running: Placement, asked: PlacementJudge
) -> tuple[Placement, ValidationReport]:
    """A judged plan with running engines in place of its own, where the twin accepts them.

    Parameters
    ----------
    placement, report
        The plan, and the verdict on each of its GPUs, in their order.
    running
        What runs, with ``max_cpu_loras`` of every GPU.
    asked
        The twin; where its time is over, the plan stays as it is.
    """
    found = [_as_it_runs(gpu, running, asked.judge.scenario) for gpu in placement.gpus]
    with suppress(Stopped):
        verdicts = {v.gpu: v for v in asked.report([gpu for gpu in found if gpu]).gpus if v.accepted}
        kept = [gpu if gpu is not None and gpu.gpu in verdicts else None for gpu in found]
        gpus = [new or old for new, old in zip(kept, placement.gpus, strict=True)]
        judged = tuple(verdicts.get(verdict.gpu, verdict) for verdict in report.gpus)
        return placement.with_gpus(gpus), report.model_copy(update={"gpus": judged})
    return placement, report


def _as_it_runs(gpu: PlacedGPU, running: Placement, scenario: Scenario) -> PlacedGPU | None:
    """The GPU with the engine that runs there, if that is another one and could serve it."""
    before = next((old for old in running.gpus if old.gpu == gpu.gpu), None)
    if before is None or before.option == gpu.option or before.device != gpu.device:
        return None
    engine = ("max_loras", "max_lora_rank", "max_cpu_loras")
    kept = gpu.model_copy(update={name: getattr(before, name) for name in engine})
    held = set(gpu.adapters)
    rank = max((one.rank for one in scenario.classes if not held.isdisjoint(one.names)), default=0)
    return kept if rank <= before.max_lora_rank and goes_on(kept, before, scenario) else None
