"""Why not fewer GPUs, and what would save some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

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
from scenarios import Deadline, Device, LorapackError, Scenario, Stopped, gpus
from scenarios.stopping.progress import Progress
from scenarios.text.formatting import counted, listed

LEAST = 0.005
"""Fraction of a GPU below which a difference is told as none."""

Unsaid = Literal["not learned", "too small", "no step times", "no time"]
"""Why it is not told what a kind of GPU would save."""

WHY: dict[Unsaid, str] = {
    "not learned": "what they would save is not known here, as no regions of this scenario were learned for "
    f"them; lorapack solve {SCENARIO_FILE} --set devices=NAME learns them",
    "too small": "no engine of this scenario starts in their memory, or an adapter fits none",
    "no step times": "their step times are not known, nor can they be derived",
    "no time": "they were not looked at in the time",
}
"""The same for a reader."""

LOOKING = "looking at other GPUs"
"""What is being done, for progress."""

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
    other_gpus: Sequence[Saving],
    params: ReportParams,
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
    other_gpus
        What other kinds of GPU would save, which all plans of the scenario have in common.
    params
        How much is shown.
    """
    if instance is None:
        return Explained(Reasons(why=(why_none,)))
    told = explain(result, instance)
    weights, others, total = _weights(told, params.weights)
    savings = [Saving(name=one.name, text=one.text, saves=one.saves) for one in told.what_ifs]
    reasons = Reasons(
        why=told.why,
        weights=weights,
        other_weights=others,
        total=total,
        unit="GPUs" if _all_cost_one(instance) else "price",
        savings=tuple(
            one if one.saves is None else one.model_copy(update={"saves": rounded(one.saves)})
            for one in (*savings, *other_gpus)
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


def other_gpus(
    scenario: Scenario,
    instance: Instance,
    most: int,
    tuned: SolveParams,
    progress: Progress,
    deadline: Deadline,
) -> Iterator[Saving]:
    """What it would save if all GPUs were of one kind: of those of the scenario, and of the catalogue.

    In GPUs, on the relaxed model of the conservative region, as the other savings are where no price counts;
    where one does, nothing, as the catalogue has no prices.

    Parameters
    ----------
    scenario, instance
        The scenario, and as the placers see it.
    most
        How many kinds of the catalogue are asked about.
    tuned
        Parameters of the search.
    progress
        Called with progress.
    deadline
        When to stop asking.
    """
    if not _all_cost_one(instance):
        return
    problem = _in_gpus(instance)
    now = continuous_bound(problem)
    if not np.isfinite(now):
        return
    own, unsaid = [device.name for device in scenario.devices], dict[Unsaid, list[str]]()
    if len(own) > 1:
        for name in own:
            options = tuple(option for option in problem.options if option.device == name)
            then = continuous_bound(replace(problem, options=options)) if options else np.inf
            if np.isfinite(then):
                yield _saving(name, now, then)
            else:
                unsaid.setdefault("too small", []).append(name)
    others = [gpu.name for gpu in gpus() if gpu.name not in own][:most]
    if others:
        progress(LOOKING, 0, len(others))
    for done, name in enumerate(others, start=1):
        found = _bound_on(scenario, name, tuned, deadline)
        if isinstance(found, float):
            yield _saving(name, now, found)
        else:
            unsaid.setdefault(found, []).append(name)
        progress(LOOKING, done, len(others))
    for why, names in unsaid.items():
        yield Saving(name=f"other GPUs: {why}", text=f"{listed(names, NAMED)}: {WHY[why]}", saves=None)


def _in_gpus(instance: Instance) -> PackingProblem:
    """The problem on the conservative region, with as many GPUs as are wanted, each at a price of 1."""
    return without_limits(instance.priced("gpus", instance.inner.n_items).inner)


def _bound_on(scenario: Scenario, device: str, tuned: SolveParams, deadline: Deadline) -> float | Unsaid:
    """The fewest GPUs of a kind, in fractions, or why that is not told."""
    there = scenario.model_copy(update={"devices": (Device(name=device),)})
    try:
        rows = known_rows(there, tuned, deadline, workers=1)
        if rows is None:
            return "not learned"
        if not rows.starts:
            return "too small"
        bound = continuous_bound(_in_gpus(model_instance(rows, there, tuned)))
    except InfeasibleError:
        return "too small"
    except Stopped:
        return "no time"
    except LorapackError:
        return "no step times"
    return float(bound) if np.isfinite(bound) else "too small"


def _saving(device: str, now: float, then: float) -> Saving:
    name = f"only {device}"
    least = counted(int(np.ceil(then - 1e-6)), "GPU")
    change = (
        "no fewer"
        if abs(now - then) < LEAST
        else f"{abs(now - then):.2f} {'fewer' if then < now else 'more'}"
    )
    text = f"{device} alone: {then:.2f} of them in place of {now:.2f} GPUs, {change}, so at least {least}"
    return Saving(name=name, text=text, saves=now - then)
