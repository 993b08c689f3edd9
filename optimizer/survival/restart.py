"""Plans on the GPUs that are left, whose engines may be started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from optimizer.deployable import goes_on
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.grouping.minimize_gpus import cheapest_plan
from optimizer.search.minimize_gpus import Search
from optimizer.search.result_builder import placement_of
from optimizer.survival.params import SurvivalParams
from optimizer.survival.report import LossCase
from scenarios import Deadline, PlacedGPU, Placement
from scenarios.text.formatting import counted
from twin import PlacementJudge

Devices = tuple[tuple[str, int], ...]
"""How many GPUs there are of each device."""


@dataclass(eq=False)
class RestartRecovery:
    """Plans on fewer GPUs, whatever ran on them before; each number of GPUs is looked at once.

    Parameters
    ----------
    search
        The problems of the scenario, the placer and the twin.
    params
        How far to search.

    Attributes
    ----------
    plans
        Plans that the twin accepts.
    """

    search: Search
    params: SurvivalParams
    plans: list[AcceptedPlan] = field(default_factory=list)
    _refused: dict[Devices, str] = field(default_factory=dict)

    def plan_on(self, devices: Devices, deadline: Deadline) -> AcceptedPlan | None:
        """A plan that the twin accepts on so many GPUs of each device; None if none was found."""
        known = next((plan for plan in self.plans if self._fits(plan, devices)), None)
        if known is not None or devices in self._refused:
            return known
        limits, total = dict(devices), sum(number for _, number in devices)
        if total == 0:
            self._refused[devices] = "no GPU is left"
            return None
        instance = self.search.instance.priced("gpus", total)
        inner, outer = (
            replace(problem, device_limits={d: limits.get(d, 0) for d in problem.device_limits})
            for problem in (instance.inner, instance.outer)
        )
        limited = replace(self.search, instance=replace(instance, inner=inner, outer=outer))
        until = deadline.part(self.params.restart_time_share * deadline.left_s)
        minimum = cheapest_plan(limited, until)
        if minimum.best is not None:
            self.plans.append(minimum.best)
            return minimum.best
        on = counted(total, "GPU")
        if minimum.infeasible or (minimum.outer_bound or 0.0) > total + 1e-6:
            self._refused[devices] = f"no plan on the {on} that are left exists, proven by the outer region"
        elif until.reached:  # another time there may be more of it
            return None
        else:
            self._refused[devices] = f"no plan on the {on} that are left was found"
        return None

    def _fits(self, plan: AcceptedPlan, devices: Devices) -> bool:
        """Whether a plan needs no more GPUs than there are."""
        options, limits = plan.problem.options, dict(devices)
        used = Counter(options[b.option].device for b in plan.packing.bins)
        return all(number <= limits.get(device, 0) for device, number in used.items())

    def recover(self, placement: Placement, lost: Sequence[int], deadline: Deadline) -> LossCase:
        """The case of a loss: a plan on the GPUs that are left, as near as can be to what runs on them.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before it is known.
        """
        left = [gpu for gpu in placement.gpus if gpu.gpu not in lost]
        found = LossCase(lost=tuple(lost))
        devices = tuple(sorted(Counter(gpu.device for gpu in left).items()))
        plan = self.plan_on(devices, deadline)
        if plan is None:
            deadline.check("a plan on fewer GPUs was looked for")
            why = self._refused.get(devices, "the time for a plan on fewer GPUs was over")
            return found.model_copy(update={"why_not": why})
        before, scenario = {gpu.gpu: gpu for gpu in left}, self.search.instance.scenario
        after = self._placed(plan, left)
        restarted = tuple(g.gpu for g in after.gpus if not goes_on(g, before[g.gpu], scenario))
        report = PlacementJudge(self.search.loop.judge.judge, deadline).report(after.gpus)
        if not report.accepted:  # parts of an adapter that came together on one GPU
            return found.model_copy(update={"why_not": "the twin rejects the plan on the GPUs that are left"})
        return found.model_copy(
            update={
                "recovery": "restart",
                "placement": after,
                "validation": report,
                "loaded": _loaded(before, after, scenario.base_names),
                "restarted": restarted,
            }
        )

    def _placed(self, plan: AcceptedPlan, left: Sequence[PlacedGPU]) -> Placement:
        """A plan on the GPUs that are left: each in the place of the one most like it."""
        from scipy.optimize import linear_sum_assignment

        named = placement_of(self.search.instance, plan.problem, plan.packing)
        kept = np.array([[_alike(new, old) for old in left] for new in named.gpus])
        rows, places = linear_sum_assignment(-kept)
        old = {int(g): left[int(place)] for g, place in zip(rows, places, strict=True)}
        scenario = self.search.instance.scenario

        def placed(new: PlacedGPU, before: PlacedGPU) -> PlacedGPU:
            kept = before.max_cpu_loras if goes_on(new, before, scenario) else None
            return new.model_copy(update={"gpu": before.gpu, "max_cpu_loras": kept})

        return Placement(gpus=tuple(placed(gpu, old[k]) for k, gpu in enumerate(named.gpus)))


def _alike(new: PlacedGPU, old: PlacedGPU) -> float:
    """How many adapters stay if a GPU takes the place of another; an engine that goes on decides ties."""
    if new.device != old.device:
        return -1e9
    return len(set(new.adapters) & set(old.adapters)) + 0.5 * (new.option == old.option)


def _loaded(before: dict[int, PlacedGPU], after: Placement, base: Container[str]) -> int:
    """Adapters that a GPU is given after a loss and did not have; the base model is everywhere."""
    given = {name for gpu in after.gpus for name in gpu.adapters if name not in before[gpu.gpu].adapters}
    return sum(name not in base for name in given)
