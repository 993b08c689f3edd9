"""What a result says to people: the outcome in a few lines, a table of its GPUs, notes, who goes where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.text import Text

from optimizer.packing.registry import METHODS
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.survival.nodes import together
from optimizer.survival.text import survival_parts
from scenarios import (
    AdapterSLO,
    LatencyLimits,
    PlacedGPU,
    ServiceLevelObjectives,
    criterion_in_words,
    visible,
)
from scenarios.text.formatting import choice, counted, listed, served
from scenarios.text.tables import Listing, Part, cell_text, marked
from twin.gpu_table import QUEUE_S, gpu_table, limits_note, only_device, verdict_word

if TYPE_CHECKING:
    from optimizer.result import Result
    from scenarios import Scenario
    from twin import GPUVerdict

NAMED = 5
"""Adapters that a note names."""

WORTH_TELLING_S = 2.0
"""Seconds of preparation from which on a summary tells them."""

_STOPPED = {
    "time_limit": ", stopped by the time limit",
    "gap_limit": ", stopped at the gap limit",
    "interrupted": ", interrupted",
}
"""What a search that did not come to its own end says of that."""


def result_parts(result: Result) -> list[Part]:
    """All of a result: the outcome, every GPU with its adapters in short, and last what should be noted."""
    return [
        *outcome_lines(result),
        *preparation_note([result]),
        *gpu_parts(result),
        *([] if result.survival is None else ["", *survival_parts(result.survival)]),
        *_adapters(result),
        *queue_note([result]),
        *step_costs_note([result]),
        *rejections(result),
    ]


def step_costs_note(results: Sequence[Result]) -> list[str]:
    """That step times are derived, once for all plans, with the GPUs at each end where they were found."""
    costs = [result.step_costs for result in results if result.step_costs is not None]
    if not costs:
        return []
    return ["", next((one for one in costs if one.gpus), costs[0]).sentence]


# --- the outcome -------------------------------------------------------------------------------------


def outcome_lines(result: Result) -> list[Text]:
    """The outcome in two or three lines, and what the twin notes."""
    lines = [Text(visible(f"{result.scenario.name}, {result.method}: {result.message}"))]
    if result.gpus is not None:
        base = len(result.scenario.base_names)
        adapters = served(result.scenario.n_adapters - base, base > 0) + only_device(result.placement)
        proof = "; ".join(filter(None, (_proof(result), *_later_values(result))))
        lines.append(Text(f"{counted(result.gpus, 'GPU')} for {adapters}; {proof}"))
    work = f"; {counted(result.iterations, 'round')}, {counted(result.cuts, 'cut')}"
    took = f", search {result.search_seconds:.1f} s{_STOPPED.get(result.stop_reason, '')}"
    lines.append(Text.assemble(f"twin ({result.acceptance}): ", _verdict(result), work, took))
    return [*lines, *(Text(f"note: {visible(note)}") for note in twin_notes(result))]


def twin_notes(result: Result) -> list[str]:
    """What the twin, and where the GPUs stand, give to note; what is derived stands under the tables."""
    judged = [] if result.validation is None else result.validation.model_copy(update={"derived": {}}).notes
    return [*judged, *_node_notes(result)]


def _node_notes(result: Result) -> list[str]:
    """That replicas which should be in distinct nodes are in one."""
    near = () if result.placement is None else together(result.placement, result.scenario)
    return [f"replicas in one node that should be apart: {listed(near, NAMED)}"] if near else []


def objective_text(name: str, value: float) -> str:
    """The value of an objective by its name, with its unit: ``cost 12.4 per hour``, ``latency 46.04 ms``."""
    if name == "gpus":
        return counted(round(value), "GPU")
    if name == "cost":
        return f"cost {cell_text(float(value))} per hour"
    objective = LATENCY_OBJECTIVES[name]
    figure = f"{value:.1%} of a GPU" if objective.figure is None else f"{cell_text(float(value))} ms"
    return f"{name} {figure}"


def objective_heading(name: str) -> str:
    """The heading of a column with values of an objective."""
    if name == "cost":
        return "cost/h"
    objective = LATENCY_OBJECTIVES.get(name)
    return name if objective is None or objective.figure is None else f"{name} ms"


def _proof(result: Result) -> str:
    """Value of the first objective, unless it is the number of GPUs, and what is proven of it."""
    first, value = result.objectives[0], result.objective
    parts = [] if value is None or first == "gpus" else [objective_text(first, value)]
    parts.append(why_no_bound(result) if result.bound is None else _bound_text(first, result.bound))
    parts += [] if result.gap is None else [f"gap {result.gap:.1%}"]
    return ", ".join(parts)


def _bound_text(name: str, value: float) -> str:
    return f"bound {cell_text(value)} ms" if name in LATENCY_OBJECTIVES else f"bound {value:g}"


def why_no_bound(result: Result) -> str:
    """Why nothing is proven, where the bound is null."""
    if result.no_bound:
        return f"no bound: {result.no_bound}"
    method = METHODS.get("exact" if result.method == "replan" else result.method)  # baselines are none
    if method is not None and method.exact and result.objectives[0] in LATENCY_OBJECTIVES:
        return "no bound: none was looked for"
    if method is not None and method.exact:
        return "no bound: the search ended before one was proven"
    return f"no bound: {result.method} proves none, exact does"


def _later_values(result: Result) -> list[str]:
    told = zip_longest(result.objectives, result.objective_values, result.objective_bounds)
    return [
        f"then {objective_text(name, value)}" + ("" if bound is None else f" ({_bound_text(name, bound)})")
        for k, (name, value, bound) in enumerate(told)
        if k and value is not None
    ]


def _verdict(result: Result) -> Text:
    return marked("no plan to judge", None) if result.validation is None else verdict_word(result.accepted)


def preparation_note(results: Sequence[Result]) -> list[str]:
    """How long compiling and learning took, if it is worth telling; no search is slower for it."""
    seconds = sum(result.preparation_seconds for result in results)
    if seconds < WORTH_TELLING_S:
        return []
    return [f"before the search: {seconds:.0f} s of compiling and learning, kept for the next time"]


# --- the GPUs ----------------------------------------------------------------------------------------


def gpu_parts(result: Result) -> list[Part]:
    """A table of the GPUs in the order of their numbers, and the limits behind it."""
    if result.placement is None:
        return []
    verdicts = result.validation.gpus if result.validation else ()
    levels = result.scenario.service_levels
    return [
        gpu_table(
            verdicts,
            result.placement,
            levels,
            queueing=not limits_ttft(result.scenario),
            base=result.scenario.base_names,
        ),
        criterion_in_words(result.scenario),
        *limits_note(levels, verdicts),
    ]


def rejections(result: Result) -> list[Text]:
    """Why GPUs are rejected."""
    rejected = result.validation.rejected if result.validation else ()
    return [marked(f"GPU {v.gpu} rejected: {'; '.join(v.reasons)}", "bad") for v in rejected]


def gpu_ranges(result: Result) -> str:
    """The GPUs of a large plan in one sentence: their figures from the least to the largest."""
    verdicts = result.validation.gpus if result.validation else ()
    assert result.placement is not None
    parts = [f"{_range([adapters_on(result, gpu) for gpu in result.placement.gpus], '{:d}')} adapters each"]
    for form, values in (
        ("mean ITL {} ms", [v.itl_ms for v in verdicts]),
        ("mean TTFT {} ms", [v.ttft_ms for v in verdicts]),
    ):
        known = [value for value in values if value is not None]
        parts += [form.format(_range(known))] if known else []
    if verdicts:
        parts.append(_least_served(verdicts))
    return f"its {counted(len(result.placement.gpus), 'GPU')}: {', '.join(parts)}"


def _least_served(verdicts: Sequence[GPUVerdict]) -> str:
    """How well the adapters of several GPUs are served, by the criterion's own measure."""
    figures = [v.sustained for v in verdicts if v.sustained is not None]
    if figures:
        return f"late requests {_range([f.late_share or 0.0 for f in figures], '{:.2%}')}"
    return f"worst adapter served {_range([v.worst_served_share for v in verdicts], '{:.1%}')}"


def _range(values: Sequence[float], form: str = "") -> str:
    ends = [form.format(value) if form else cell_text(value) for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


# --- notes -------------------------------------------------------------------------------------------


def limits_ttft(scenario: Scenario) -> bool:
    """Whether any service level of a scenario limits the time to first token, or to the last."""
    own = [group.levels for group in scenario.classes if group.levels is not None]
    held: list[ServiceLevelObjectives | AdapterSLO] = [scenario.service_levels, *own]
    return any(limits != LatencyLimits() for levels in held for limits in (levels.ttft_ms, levels.e2e_ms))


def queue_note(results: Sequence[Result]) -> list[Text]:
    """That requests queue in plans of one scenario which no service level on latencies keeps from it."""
    if not results or limits_ttft(results[0].scenario):
        return []
    worst = [(result.method, _worst_ttft_s(result)) for result in results]
    slow = [
        f"{seconds:.3g} s ({method})" if len(results) > 1 else f"{seconds:.3g} s"
        for method, seconds in worst
        if seconds > QUEUE_S
    ]
    if not slow:
        return []
    paper = results[0].acceptance == "paper"
    why, remedy = (", as no service level limits that", "") if paper else ("", "patience_s: 3 or ")
    text = (
        f"note: requests queue{why}: mean TTFT of a GPU is up to {choice(slow, 'and')}; "
        f"give service_levels, such as {remedy}ttft_ms: {{p99: 2000}}"
    )
    return [marked(text, "close")]


def _worst_ttft_s(result: Result) -> float:
    """The largest mean TTFT of a GPU; *sustained* rejects GPUs by waits, which is told then."""
    gpus = result.validation.gpus if result.validation else ()
    judged = [gpu for gpu in gpus if gpu.accepted or result.acceptance == "paper"]
    return max((gpu.ttft_ms for gpu in judged if gpu.ttft_ms is not None), default=0.0) / 1e3


# --- who goes where ----------------------------------------------------------------------------------


def adapters_on(result: Result, gpu: PlacedGPU) -> int:
    """How many LoRA adapters a GPU of a plan serves."""
    return sum(name not in result.scenario.base_names for name in gpu.adapters)


def _adapters(result: Result) -> Iterator[Part]:
    """The adapters of each GPU in short, and where all of them are to be had."""
    if result.placement is None:
        return
    yield ""
    for gpu in sorted(result.placement.gpus, key=lambda gpu: gpu.gpu):
        names = [f"{name} ({gpu.share(name):.0%})" if name in gpu.shares else name for name in gpu.adapters]
        node = "" if gpu.node is None else f" in node {gpu.node}"
        adapters = adapters_on(result, gpu)
        yield Listing(f"GPU {gpu.gpu}{node}  {served(adapters, adapters < len(names))}", names)
    yield "all adapters: --placement FILE or --json FILE; in Python result.placement"
    yield ""
