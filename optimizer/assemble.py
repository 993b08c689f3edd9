"""Turns what the search holds and has proven into a `Result`."""

from __future__ import annotations

from importlib.metadata import version

from optimizer.confirm import Confirmation, Confirmed, pattern_of
from optimizer.fewest import Fewest
from optimizer.instance import Instance
from optimizer.latency import mean_itl_ms
from optimizer.outcome import PackingResult, Status, StopReason
from optimizer.problem import Packing, PackingProblem
from optimizer.registry import Method
from optimizer.result import GPUValidation, Result, ResultStatus, ResultStop, Validation
from scenarios import PlacedGPU, Placement, Scenario
from twin import GPUVerdict

VERSION = version("lorapack")


def no_answer(scenario: Scenario, method: Method, message: str, *, seconds: float) -> Result:
    """The result of a scenario that is proven to have no plan before any placer ran."""
    return Result(
        status="infeasible",
        stop_reason="proven",
        message=f"infeasible: {message}",
        method=method.name,
        objectives=scenario.objective,
        objective=None,
        bound=None,
        gap=None,
        outer_bound=None,
        gpus=None,
        placement=None,
        validation=None,
        iterations=0,
        cuts=0,
        seconds=seconds,
        seed=scenario.seed,
        version=VERSION,
        scenario=scenario,
    )


def answer(
    instance: Instance,
    method: Method,
    confirmation: Confirmation,
    plan: Fewest,
    found: Confirmed | None,
    origin: str,
    seconds: float,
) -> Result:
    """The result of a search."""
    priced = instance.scenario.objective[0] in ("gpus", "cost")
    objective, bound = _proof(plan, found, priced)
    status = _status(method, plan, found, objective, bound)
    placement = None if found is None else placement_of(instance, found.problem, found.packing)
    return Result(
        status=status,
        stop_reason=_stop_reason(plan.solved, status, confirmation),
        message=_message(status, plan, found, origin, instance),
        method=method.name,
        objectives=instance.scenario.objective,
        objective=objective,
        bound=bound,
        gap=None if objective is None or bound is None else max(0.0, objective - bound) / objective,
        outer_bound=plan.outer_bound if priced else None,
        gpus=None if placement is None else len(placement.gpus),
        placement=placement,
        validation=None if found is None else _validation(instance, found),
        iterations=confirmation.rounds,
        cuts=len(confirmation.rejected),
        seconds=seconds,
        seed=instance.scenario.seed,
        version=VERSION,
        scenario=instance.scenario,
    )


def _proof(plan: Fewest, found: Confirmed | None, priced: bool) -> tuple[float | None, float | None]:
    """Objective and bound; a latency as the twin measures it has no bound."""
    if found is None:
        return None, plan.bound if priced else None
    if not priced:
        return mean_itl_ms(found.verdicts), None
    return found.value, min(plan.bound, found.value)


def _status(
    method: Method, plan: Fewest, found: Confirmed | None, objective: float | None, bound: float | None
) -> ResultStatus:
    if found is None:
        return "infeasible" if plan.infeasible else "no_plan"
    proven = objective is not None and bound is not None and objective <= bound + 1e-9
    return "optimal" if method.exact and proven else "feasible"


def _stop_reason(solved: PackingResult, status: str, confirmation: Confirmation) -> ResultStop:
    if status in ("optimal", "infeasible"):
        return "proven"
    if solved.stop_reason is StopReason.INTERRUPTED or confirmation.interrupted:
        return "interrupted"
    if confirmation.left_s <= 0 or solved.stop_reason is StopReason.TIME_LIMIT:
        return "time_limit"
    return "gap_limit" if solved.stop_reason is StopReason.GAP_LIMIT else "finished"


def _message(status: str, plan: Fewest, found: Confirmed | None, origin: str, instance: Instance) -> str:
    """One sentence on the outcome."""
    if status == "infeasible":
        limits = ", ".join(f"{device.count} x {device.name}" for device in instance.scenario.devices)
        reason = plan.solved.message or f"the adapters do not fit {limits} even by the optimistic region"
        return f"infeasible: {reason}"
    if found is None:
        return "stopped without a plan that the twin accepts; raise the time limit or the number of GPUs"
    if origin:
        return f"a plan that the twin accepts ({origin})"
    if status == "optimal":
        return "optimal for the linearised model, and accepted by the twin"
    held = plan.solved.status is Status.FEASIBLE or plan.solved.status is Status.OPTIMAL
    return "a plan that the twin accepts" + ("" if held else ", after splitting what it rejected")


def placement_of(instance: Instance, problem: PackingProblem, packing: Packing) -> Placement:
    """The placement with the adapters' names: each class is dealt to the bins in order."""
    contents = _contents(instance, packing)
    gpus = []
    for number, (b, parts) in enumerate(zip(packing.bins, contents, strict=True)):
        pattern = pattern_of(problem, b)
        shares: dict[str, float] = {}
        for share, names in zip(instance.shares, parts, strict=True):
            for name in names:
                shares[name] = shares.get(name, 0.0) + share
        gpus.append(
            PlacedGPU(
                gpu=number,
                device=pattern.device,
                max_loras=min(pattern.max_loras, len(shares)),
                max_lora_rank=pattern.max_lora_rank,  # type: ignore[arg-type]  # options hold vLLM's ranks
                adapters=tuple(shares),
                shares={name: share for name, share in shares.items() if share < 1 - 1e-9},
            )
        )
    return Placement(gpus=tuple(gpus))


def _contents(instance: Instance, packing: Packing) -> list[list[tuple[str, ...]]]:
    """Names per bin and class."""
    taken = [0] * len(instance.classes)
    contents = []
    for b in packing.bins:
        parts = []
        for c, (one, count) in enumerate(zip(instance.classes, b.counts, strict=True)):
            parts.append(one.names[taken[c] : taken[c] + int(count)])
            taken[c] += int(count)
        contents.append(parts)
    return contents


def _validation(instance: Instance, found: Confirmed) -> Validation:
    """The verdicts, with the names of the adapters that each GPU serves.

    The twin judged each distinct content once, under the names of each class's first adapters.
    """
    rows = []
    contents = _contents(instance, found.packing)
    for number, (parts, verdict) in enumerate(zip(contents, found.verdicts, strict=True)):
        judged = [
            name for one, part in zip(instance.classes, parts, strict=True) for name in one.names[: len(part)]
        ]
        names = dict(zip(judged, (name for part in parts for name in part), strict=True))
        rows.append(_named(number, verdict, names))
    return Validation(accepted=all(row.accepted for row in rows), gpus=tuple(rows))


def _named(number: int, verdict: GPUVerdict, names: dict[str, str]) -> GPUValidation:
    worst = verdict.worst_adapter
    return GPUValidation(
        gpu=number,
        accepted=verdict.accepted,
        reasons=verdict.reasons,
        offered_tok_per_s=verdict.offered_tok_per_s,
        served_tok_per_s=verdict.served_tok_per_s,
        worst_adapter=None if worst is None else names.get(worst, worst),
        worst_served_share=verdict.worst_served_share,
        itl_ms=verdict.itl_ms,
        ttft_ms=verdict.ttft_ms,
        kv_cache_tokens=verdict.kv_cache_tokens,
    )
