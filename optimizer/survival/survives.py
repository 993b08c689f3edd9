"""`survives`: whether a given plan holds when GPUs are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import twin
from optimizer.arguments import check_arguments
from optimizer.deployable import losses_with_cpu_loras
from optimizer.packing import methods
from optimizer.search.compilation import compile_loops, twin_loops
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.preparation import learned_regions, may_group, prepare
from optimizer.search.solve import adjusted, search_of
from optimizer.search.splitting import InfeasibleError
from optimizer.survival.engine_rows import EngineRows
from optimizer.survival.live import LiveRecovery
from optimizer.survival.losses import distinct_losses
from optimizer.survival.pieces import Catalogue
from optimizer.survival.report import LossCase, Survival
from optimizer.survival.restart import RestartRecovery
from optimizer.survival.spare import Spare, check_recovery
from scenarios import Deadline, Placement, Scenario, Stopped, as_started, check_placement, noticed
from scenarios.stopping.progress import Progress, interruptible, silent
from twin import TwinJudge

LOSSES = "losing GPUs"
"""What is being done, for progress."""


def survives(
    scenario: Scenario,
    placement: Placement,
    spare: int | str = 1,
    *,
    recovery: str = "live",
    time_limit_s: float = 60.0,
    acceptance: str | None = None,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Survival:
    """Whether a plan holds after every loss of some GPUs, or of a node.

    For each distinct loss the adapters of the lost GPUs are dealt to the engines that run; where the twin
    accepts no such deal, a plan on the GPUs that are left is looked for, whose engines are started again.

    Parameters
    ----------
    scenario
        Adapters, workload, devices, service levels.
    placement
        The plan; a GPU that states no ``max_cpu_loras`` as vLLM starts it (`scenarios.as_started`).
    spare
        1 or 2 GPUs, or ``"1node"``: all GPUs of a node (``devices[].gpus_per_node``).
    recovery
        What `Survival.holds` asks for: ``live`` or ``restart``.
    time_limit_s
        Seconds of search; what is known by then is told. Compiling and learning come on top.
    acceptance, seed, workers, progress, params
        As in `optimizer.solve`.

    Returns
    -------
    Survival
        Also on Ctrl-C, with the cases that were looked at by then.

    Raises
    ------
    ScenarioError
        If an argument is of a wrong type or out of its range, or the placement is not one of the scenario.
    """
    limits = time_limit_s, 0.0, workers
    check_arguments(scenario, None, None, *limits, None, seed, params, acceptance, source="survives")
    lost, kind = Spare.of(spare, "survives"), check_recovery(recovery, "survives")
    scenario = adjusted(scenario, None, seed, acceptance)
    check_placement(placement, scenario)
    placement = as_started(placement, scenario)
    progress = interruptible(progress)
    with noticed():
        judge = TwinJudge(scenario, twin.profiles_of(scenario), workers, progress)
        kernels = methods()["exact"].kernels + (("items",) if may_group(scenario, params) else ())
        unknown = "the time was over before a case was looked at"
        empty = Survival(
            spare=str(lost), recovery=kind, acceptance=scenario.acceptance, complete=False, message=unknown
        )
        try:
            kernels += twin_loops(scenario, judge.profiles)
            compile_loops(judge.profiles[scenario.devices[0].name], kernels, workers, Deadline(), progress)
            regions = learned_regions(judge, params=params)
        except (InfeasibleError, Stopped) as error:
            return empty.model_copy(update={"message": str(error)})
        deadline = Deadline.after(time_limit_s)

        def restarts() -> RestartRecovery:
            instance = prepare(judge, regions, deadline=deadline, params=params, grouping=True)
            search = search_of(instance, methods()["exact"], judge, 0.0, params)
            return RestartRecovery(search, params.survival)

        catalogue = Catalogue(scenario, EngineRows(scenario, regions))
        cases = LossCases(catalogue, judge, placement, lost, restarts, params)
        losses, complete = cases.all(deadline)
        losses = losses_with_cpu_loras(losses, placement, scenario)
        message = "" if losses else unknown
        return empty.model_copy(update={"losses": losses, "complete": complete, "message": message})


@dataclass(eq=False)
class LossCases:
    """The cases of the losses of a plan, one after the other.

    Parameters
    ----------
    catalogue
        The adapters and the inner rows.
    judge
        The twin.
    placement
        The plan.
    spare
        What is lost.
    restarts
        Makes what looks for plans on fewer GPUs; not called where the running engines suffice.
    params
        How far to search.
    """

    catalogue: Catalogue
    judge: TwinJudge
    placement: Placement
    spare: Spare
    restarts: Callable[[], RestartRecovery]
    params: SolveParams

    @cached_property
    def _restart(self) -> RestartRecovery:
        return self.restarts()

    def all(self, deadline: Deadline) -> tuple[tuple[LossCase, ...], bool]:
        """The cases that are known by the deadline, and whether these are all."""
        gpus = self.catalogue.gpus(self.placement)
        live = LiveRecovery(self.catalogue, self.judge, gpus, self.params.survival)
        known = list[LossCase]()
        cases = distinct_losses(gpus, self.placement, self.spare, self.catalogue.scenario)
        for done, (lost, alike) in enumerate(cases.items()):
            self.judge.progress(LOSSES, done, len(cases))
            try:
                case = self._case(live, lost, deadline)
            except (Stopped, InfeasibleError):
                return tuple(known), False
            known.append(case.model_copy(update={"alike": tuple(alike)}))
        self.judge.progress(LOSSES, len(cases), len(cases))
        return tuple(known), True

    def _case(self, live: LiveRecovery, lost: tuple[int, ...], deadline: Deadline) -> LossCase:
        """One case: live, or else after a restart."""
        case = live.recover(lost, deadline)
        if case.accepted:
            return case
        again = self._restart.recover(self.placement, lost, deadline)
        return again.model_copy(update={"why_not_live": case.why_not_live})
