"""A baseline's plan, as it is, judged by the twin: a result like that of `solve`, without bound."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from optimizer.baselines.named import Baseline, Site, TooFewGPUsError
from optimizer.no_plan import NoPlan, NoPlanReason
from optimizer.packing.heuristics.greedy import GreedyStuckError
from optimizer.packing.model.no_packing import NoPackingReason
from optimizer.result import Result, ResultStop
from optimizer.search.objectives import PRICES, latency_objective_of, price
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.why_no_plan import first_test, hottest
from optimizer.step_costs import StepCosts
from optimizer.version import __version__
from scenarios import UNLIMITED, Deadline, Placement, Stopped, interrupted
from scenarios.text.formatting import counted
from twin import GPUVerdict, PlacementJudge, TwinJudge, ValidationReport
from twin.violations import LATENCIES, Criterion

NAMED = 5
"""Adapters that a reason names."""


@dataclass
class BaselineSearch:
    """What is known of one baseline's plans while it is being run.

    Parameters
    ----------
    site, baseline, judge
        What to place, by which rule, and the twin.
    most_gpus
        GPUs given.
    deadline
        When to stop.
    found
        The plan to be returned.
    tried
        Numbers of GPUs that were tried, in order.
    refused
        Why the rule had no plan the last time that it was asked; None where it had one, or was not asked.
    """

    site: Site
    baseline: Baseline
    judge: PlacementJudge
    most_gpus: int
    deadline: Deadline
    found: Placement | None = None
    tried: list[int] = field(default_factory=list)
    healthy: int | None = None
    out_of_time: bool = False
    refused: NoPlan | None = None

    def run(self) -> None:
        """Find the plan; it is valid at any moment."""
        if self.baseline.spread == "fewest":
            self._fewest()
        else:
            self.found = self.place(self.most_gpus)

    def place(self, gpus: int) -> Placement | None:
        """The rule's plan on so many GPUs, if it has one."""
        plan = None
        try:
            plan = self.baseline.rule(self.site, gpus)
            self.refused = self._refusal(plan)
        except GreedyStuckError as error:
            adapters = hottest(self.site.scenario.classes, error.why.items)
            starts = error.why.reason is NoPackingReason.FIRST_TEST
            self.refused = first_test(error.why.tested, adapters, error.why.full_bins, starts=starts)
        except TooFewGPUsError as error:
            self.refused = self._too_few(f"; the rule needs {error.needed:,}: {error}")
        return None if self.refused else plan

    def _refusal(self, plan: Placement | None) -> NoPlan | None:
        """What is wrong with a rule's plan; None if nothing is."""
        name = self.baseline.name
        if plan is None:
            return self._too_few("")
        if len(plan.gpus) > self.most_gpus:
            return self._too_few(f"; the rule opens {len(plan.gpus):,}")
        if not self.site.scenario.allow_replicas and any(gpu.shares for gpu in plan.gpus):
            return NoPlan(
                reason=NoPlanReason.SPLITS_ADAPTERS,
                why=f"{name} splits adapters over GPUs, and allow_replicas is off",
                remedies=("set allow_replicas: true", "choose another method"),
            )
        served = Counter(adapter for gpu in plan.gpus for adapter in gpu.adapters)
        few = [
            adapter
            for one in self.site.scenario.classes
            for adapter in one.names
            if served[adapter] < one.min_replicas
        ]
        if few:
            return NoPlan(
                reason=NoPlanReason.FEW_REPLICAS,
                why=f"{name} makes no replicas, and min_replicas asks for them",
                remedies=("try bfd or exact", "leave min_replicas out"),
                adapters=tuple(few[:NAMED]),
            )
        return None

    def _too_few(self, why: str) -> NoPlan:
        """That there are too few GPUs, and whether more of them are at hand."""
        scenario, device = self.site.scenario, self.site.device
        more = "--gpus" if self.most_gpus < min(device.count, scenario.n_adapters) else "devices[].count"
        return NoPlan(
            reason=NoPlanReason.TOO_FEW_GPUS,
            why=f"no plan of {self.baseline.name} fits {counted(self.most_gpus, 'GPU')}{why}",
            remedies=(f"give more ({more})", "try bfd or exact"),
        )

    @property
    def no_plan(self) -> NoPlan:
        """Why there is no plan that the twin has judged."""
        if self.found is None and self.refused is not None and not self.out_of_time:
            return self.refused
        what = "the rule had a plan" if self.found is None else "the twin had judged the plan"
        if interrupted():
            return NoPlan(reason=NoPlanReason.INTERRUPTED, why=f"interrupted before {what}")
        why = f"the time was over before {what}"
        return NoPlan(reason=NoPlanReason.TIME_LIMIT, why=why, remedies=("raise the time limit",))

    def _fewest(self) -> None:
        """Double the GPUs until a plan is healthy, then bisect.

        It starts from the number whose throughput without LoRA covers the demand, below which no plan can
        be healthy, and takes for granted that more GPUs do not make a healthy plan unhealthy.
        """
        scenario = self.site.scenario
        # Whoever keeps up serves all that comes; within the paper's run a part may stay behind.
        served = scenario.service_levels.served_share if scenario.acceptance == "paper" else 1.0
        demand = float(self.site.adapters.demand.sum()) * served
        low = min(self.most_gpus, max(1, int(demand / self.site.saturation.backbone_tok_per_s))) - 1
        high = low + 1
        while not self._try(high):
            if high >= self.most_gpus or self.out_of_time:
                return
            low, high = high, min(2 * high, self.most_gpus)
        while high - low > 1 and not self.out_of_time:
            middle = (low + high) // 2
            low, high = (low, middle) if self._try(middle) else (middle, high)

    def _try(self, gpus: int) -> bool:
        """Whether the plan on so many GPUs is healthy; it is kept if so, or if there is no other."""
        self.tried.append(gpus)
        plan = self.place(gpus)
        good = plan is not None and self.judge.accepts(plan)
        if good or (self.healthy is None and plan is not None):
            self.found = plan
        if good:
            self.healthy = gpus
        self.out_of_time = self.deadline.reached
        return good

    def how_found(self) -> str:
        """How the number of GPUs was found, in brackets; empty where it was given."""
        if not self.tried:
            return ""
        which = "fewest healthy" if self.healthy is not None else "no number is healthy"
        if self.out_of_time:
            which = "the time is over" + (", fewest healthy so far" if self.healthy is not None else "")
        return f" ({which}, by doubling and bisection: tried {', '.join(map(str, self.tried))} GPUs)"


def solve_baseline(
    judge: TwinJudge,
    baseline: Baseline,
    *,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total: Deadline = UNLIMITED,
    params: SolveParams = DEFAULTS,
    started: float | None = None,
) -> Result:
    """The plan of a baseline, and what the twin says of every GPU of it.

    Parameters
    ----------
    judge
        The twin, with the scenario that is to be placed.
    baseline
        By which rule.
    gpus
        GPUs given; None: as many as the scenario's first device has, but not more than adapters.
    time_limit_s
        Seconds of search; what a rule learns of the GPU first comes on top.
    total
        The end of all of it.
    params
        What the rules can be set to.
    started
        `time.monotonic` when the work began, if something was done for it before.

    Raises
    ------
    Stopped
        If the total is over, or the work is interrupted, while the rule learns.
    """
    started, scenario = time.monotonic() if started is None else started, judge.scenario
    device = scenario.devices[0]
    most = min(device.count, scenario.n_adapters if gpus is None else gpus)
    profile, workers, progress = judge.profiles[device.name], judge.workers, judge.progress
    site = baseline.prepared(Site(scenario, device, profile, workers, progress, total, params.baselines))
    prepared_s, deadline = time.monotonic() - started, total.within(time_limit_s)
    search = BaselineSearch(
        replace(site, deadline=deadline), baseline, PlacementJudge(judge, deadline), most, deadline
    )
    validation = _judged(search)
    stop: ResultStop = "finished"
    if interrupted():
        stop = "interrupted"
    elif search.out_of_time:
        stop = "time_limit"
    return _result(search, validation, stop, time.monotonic() - started, prepared_s, params)


def _judged(search: BaselineSearch) -> ValidationReport | None:
    """What the twin says of the plan found; None if there is none, or the end came before that."""
    try:
        with suppress(Stopped):
            search.run()
        return None if search.found is None else search.judge.report(search.found.gpus)
    except Stopped:
        return None
    finally:
        search.out_of_time |= search.deadline.reached


def _result(
    search: BaselineSearch,
    validation: ValidationReport | None,
    stop: ResultStop,
    seconds: float,
    prepared_s: float,
    params: SolveParams,
) -> Result:
    scenario, no_plan = search.site.scenario, None
    if validation is None:
        no_plan = search.no_plan
        stop, message = no_plan.stop_reason, no_plan.sentence
    else:
        message = _message(search, validation)
    placement = None if validation is None else search.found
    values = tuple(_objective(search, name, placement, validation) for name in scenario.objective)
    return Result(
        status="feasible" if no_plan is None else "no_plan",
        stop_reason=stop,
        message=message,
        no_plan=no_plan,
        method=search.baseline.name,
        objectives=scenario.objective,
        objective=values[0],
        objective_values=values,
        bound=None,
        gap=None,
        gpus=None if placement is None else len(placement.gpus),
        placement=placement,
        validation=validation,
        step_costs=StepCosts.of({search.site.device.name: search.site.profile}),
        iterations=max(1, len(search.tried)),
        cuts=0,
        seconds=seconds,
        preparation_seconds=prepared_s,
        seed=scenario.seed,
        params=params.changed(),
        version=__version__,
        scenario=scenario,
    )


def _objective(
    search: BaselineSearch, name: str, placement: Placement | None, validation: ValidationReport | None
) -> float | None:
    """Value of an objective where it is a price or a latency of the twin's."""
    if placement is None:
        return None
    if name in PRICES:
        return len(placement.gpus) * price(search.site.device, name)
    quality = latency_objective_of((name,))
    if quality is None or quality.figure is None or validation is None:
        return None
    if not quality.worst:
        return validation.itl_ms if quality.figure == "itl_ms" else validation.ttft_ms
    known = [value for gpu in validation.gpus if (value := getattr(gpu, quality.figure)) is not None]
    return max(known, default=None)


def _message(search: BaselineSearch, validation: ValidationReport) -> str:
    """What the plan is worth, and how its number of GPUs was found."""
    how = search.how_found()
    if validation.accepted:
        return f"a plan that the twin accepts{how}"
    rejected = validation.rejected
    said = f"the twin rejects {len(rejected):,} of {counted(len(validation.gpus), 'GPU')}"
    return f"{said}: {', '.join(_faults(rejected))}{how}"


def _faults(rejected: Sequence[GPUVerdict]) -> Iterator[str]:
    """What the rejected GPUs of a plan miss, kind by kind."""

    def missing(*codes: Criterion) -> int:
        return sum(any(v.code in codes for v in gpu.violations) for gpu in rejected)

    starved = sum(len(gpu.starved) for gpu in rejected)
    failed = [str(gpu.gpu) for gpu in rejected if gpu.memory_failure is not None]
    if starved:
        yield f"{counted(starved, 'adapter')} {'starves' if starved == 1 else 'starve'}"
    if behind := missing(Criterion.GROWTH):
        yield f"{counted(behind, 'GPU')} {'falls' if behind == 1 else 'fall'} behind"
    if waiting := missing(Criterion.LATE_SHARE, Criterion.HOUR_LATE_SHARE):
        yield f"too many requests wait on {counted(waiting, 'GPU')}"
    if late := missing(*LATENCIES):
        yield f"{counted(late, 'GPU')} {'misses' if late == 1 else 'miss'} a limit on latency"
    if failed:
        numbers = ", ".join(failed[:8]) + (f" and {len(failed) - 8} more" if len(failed) > 8 else "")
        yield f"GPU{'s' if len(failed) > 1 else ''} {numbers} {'do' if len(failed) > 1 else 'does'} not start"
    if not (starved or behind or waiting or late or failed):
        yield "they serve too little of what is offered"
