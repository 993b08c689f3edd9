"""Why not fewer GPUs, and what would save some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.explanation.explain import Explanation, TightRow, explain
from optimizer.explanation.sensitivity import without_limits
from optimizer.packing.bounds.price_bounds import continuous_bound
from optimizer.packing.model.problem import PackingProblem
from optimizer.reporting.contents import Reasons, Saving
from optimizer.reporting.model import known_rows, model_instance
from optimizer.reporting.numbers import rounded
from optimizer.reporting.origin import SCENARIO_FILE
from optimizer.reporting.params import ReportParams
from optimizer.result import Result
from optimizer.search.instance import Instance
from optimizer.search.params import SolveParams
from optimizer.search.splitting import InfeasibleError
from scenarios import Deadline, Device, LorapackError, Scenario, gpus
from scenarios.text.formatting import counted, listed

LEAST = 0.005
"""Fraction of a GPU below which a difference is told as none."""

NAMED = 6
"""Kinds of GPU that a sentence names."""


@dataclass(frozen=True)
class Explained:
    """What explains a plan, and the row that each of its GPUs fills most."""

    reasons: Reasons
    rows: tuple[TightRow, ...] = ()


def explained(
    result: Result,
    instance: Instance | None,
    why_none: str,
    tuned: SolveParams,
    params: ReportParams,
    deadline: Deadline,
) -> Explained:
    """Why a plan needs its GPUs, and what would save some.

    Parameters
    ----------
    result
        The plan, or that there is none.
    instance
        The scenario as the placers see it; None where there is no such thing.
    why_none
        Why, then.
    tuned, params
        Parameters of the search, and of the report.
    deadline
        When to stop asking about other GPUs.
    """
    if instance is None:
        return Explained(Reasons(why=(why_none,)))
    told = explain(result, instance)
    unit = "GPUs" if _all_cost_one(instance) else "price"
    weights, others, total = _weights(told, params.weights)
    savings = [Saving(name=one.name, text=one.text, saves=one.saves) for one in told.what_ifs]
    if unit == "GPUs":
        savings += _other_gpus(result.scenario, instance, tuned, deadline)
    reasons = Reasons(
        why=told.why,
        weights=weights,
        other_weights=others,
        total=total,
        unit=unit,
        savings=tuple(
            one if one.saves is None else one.model_copy(update={"saves": rounded(one.saves)})
            for one in savings
        ),
    )
    return Explained(reasons, told.gpus)


def _all_cost_one(instance: Instance) -> bool:
    return bool(np.allclose(instance.inner.prices, 1.0))


def _weights(told: Explanation, most: int) -> tuple[dict[str, float], float, float | None]:
    """Weights on the optimistic region: the largest, the sum of the others, and the sum of all."""
    argument = next((one for one in told.arguments if one.region == "optimistic"), None)
    if argument is None:
        return {}, 0.0, None
    largest = dict(list(argument.weights.items())[:most])
    others = sum(list(argument.weights.values())[most:])
    named = {name: rounded(weight) for name, weight in largest.items()}
    return named, rounded(others), rounded(argument.total)


# --- other kinds of GPU ------------------------------------------------------------------------------


def _other_gpus(
    scenario: Scenario, instance: Instance, tuned: SolveParams, deadline: Deadline
) -> Iterator[Saving]:
    """What it would save if all GPUs were of one kind: of those of the scenario, and of the catalogue.

    In GPUs, on the relaxed model of the conservative region, as the other savings are where no price counts.
    """
    problem = _in_gpus(instance)
    now = continuous_bound(problem)
    if not np.isfinite(now):
        return
    own = [device.name for device in scenario.devices]
    if len(own) > 1:
        for name in own:
            options = tuple(option for option in problem.options if option.device == name)
            then = continuous_bound(replace(problem, options=options)) if options else np.inf
            yield _saving(name, now, then)
    unknown: list[str] = []
    for gpu in gpus():
        if gpu.name not in own:
            found = None if deadline.reached else _bound_on(scenario, gpu.name, tuned, deadline)
            if found is None:
                unknown.append(gpu.name)
            else:
                yield _saving(gpu.name, now, found)
    if unknown:
        yield _not_known(unknown)


def _in_gpus(instance: Instance) -> PackingProblem:
    """The problem on the conservative region, with as many GPUs as are wanted, each at a price of 1."""
    return without_limits(instance.priced("gpus", instance.inner.n_items).inner)


def _bound_on(scenario: Scenario, device: str, tuned: SolveParams, deadline: Deadline) -> float | None:
    """The fewest GPUs of a kind, in fractions; infinite where none will do, None where that is not known."""
    there = scenario.model_copy(update={"devices": (Device(name=device),)})
    try:
        rows = known_rows(there, tuned, deadline, workers=1)
        if rows is None:
            return None
        return continuous_bound(_in_gpus(model_instance(rows, there, tuned))) if rows.starts else np.inf
    except InfeasibleError:
        return np.inf
    except LorapackError:  # no profile is to be had, or the time is over
        return None


def _saving(device: str, now: float, then: float) -> Saving:
    name = f"only {device}"
    if not np.isfinite(then):
        return Saving(name=name, text=f"{device} alone cannot serve this", saves=None)
    least = counted(int(np.ceil(then - 1e-6)), "GPU")
    change = (
        "no fewer"
        if abs(now - then) < LEAST
        else f"{abs(now - then):.2f} {'fewer' if then < now else 'more'}"
    )
    text = f"{device} alone: {then:.2f} of them in place of {now:.2f} GPUs, {change}, so at least {least}"
    return Saving(name=name, text=text, saves=now - then)


def _not_known(names: Sequence[str]) -> Saving:
    text = (
        f"what other GPUs would save is not known, as no regions of this scenario were learned for them: "
        f"{listed(names, NAMED)}; lorapack solve {SCENARIO_FILE} --set devices=NAME learns them, where its "
        "step times are known or can be derived"
    )
    return Saving(name="other GPUs", text=text, saves=None)
