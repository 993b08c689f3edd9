"""A check as text: the outcome, a table of the GPUs, what differs, and what that suggests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from scenarios.text.formatting import counted, listed
from scenarios.text.tables import Column, Mark, Part, Table, cell_text, item, marked, table

if TYPE_CHECKING:
    from optimizer.checking.replay.check_report import (
        CheckedAdapter,
        CheckedFigure,
        CheckedGPU,
        CheckReport,
        ServerArgument,
    )

MOST_DETAILED = 3
"""GPUs of which all figures are shown; of more only those that differ."""

SHOWN_ADAPTERS = 10
"""Adapters of a GPU that are shown, those that differ the most."""

NAMED = 5
"""Names in a sentence."""

LABELS = {
    "throughput_tok_per_s": "throughput, tok/s",
    "served_share": "served, %",
    "late_share": "late, %",
    "failed_share": "failed, %",
    "ttft_mean_ms": "TTFT mean, ms",
    "ttft_p50_ms": "TTFT p50, ms",
    "ttft_p99_ms": "TTFT p99, ms",
    "itl_mean_ms": "ITL mean, ms",
    "itl_p99_ms": "ITL p99, ms",
    "tpot_mean_ms": "TPOT mean, ms",
}
"""What the figures are called."""

_MARKS: dict[str, Mark | None] = {"": None, "worse": "bad", "better": "good"}


def worse_in_words(figure: CheckedFigure) -> str:
    """A sentence on a figure that is worse than foretold."""
    name, unit = LABELS[figure.name].split(", ")
    if figure.measured is None:
        return f"{name}: nothing to measure, where {_shown(figure, figure.foretold)} {unit} was foretold"
    least = figure.low is not None and figure.measured < figure.low
    limit, side = (figure.low, "least") if least else (figure.high, "most")
    measured, known = _shown(figure, figure.measured), _shown(figure, limit)
    return f"{name} is {measured} {unit}; at the {side} {known} {unit} is as foretold"


def argument_in_words(argument: ServerArgument) -> str:
    """A sentence on an argument of a server that is not the plan's."""
    return f"{argument.name} is {_argument(argument.told)}, planned {_argument(argument.planned)}"


def headline_of(report: CheckReport) -> Text:
    """The outcome in a line."""
    wrong = [str(one.gpu) for one in report.gpus if not one.holds]
    if report.stopped in ("time limit", "interrupted"):
        sent = f"after {report.seconds:,.0f} of {report.planned_seconds:,.0f} s"
        return marked(f"NO ANSWER: cut short {sent} ({report.stopped}), which proves nothing", "close")
    if not wrong:
        return marked(f"as foretold: {counted(len(report.gpus), 'GPU')}", "good")
    where = f"{len(wrong)} of {counted(len(report.gpus), 'GPU')} ({listed(wrong, NAMED)})"
    if not report.trusted:
        return marked(f"NO ANSWER: {where} differ, but the client was too late to be trusted", "close")
    return marked(f"NOT AS FORETOLD: {where}", "bad")


def check_parts(report: CheckReport) -> list[Part]:
    """The whole report in parts."""
    parts: list[Part] = [_title(report), headline_of(report)]
    if report.stopped not in ("", "time limit", "interrupted"):
        parts.append(f"broken off after {report.seconds:,.0f} s: {report.stopped}")
    if report.seconds:
        parts += ["", _overview(report), report.criterion]
    few = len(report.gpus) <= MOST_DETAILED
    for gpu in report.gpus:
        if few or not gpu.holds:
            parts += ["", *_gpu_parts(gpu)]
    if report.notes:
        parts += ["", *(item(note) for note in report.notes)]
    return parts


def _title(report: CheckReport) -> str:
    if not report.seconds:
        return f"check of {report.scenario}: nothing was sent"
    load = "" if report.load_factor == 1 else f" at {report.load_factor:g} times the load"
    return f"check of {report.scenario}: {report.seconds:,.0f} s{load}, seed {report.seed}"


def _overview(report: CheckReport) -> Table:
    """A row per GPU: measured figures, and what they are of those foretold."""
    columns: list[str | Column] = [
        ">GPU",
        Column(">requests", 1),
        Column(">failed", 2),
        ">tok/s",
        ">of",
        ">TTFT ms",
        ">of",
        ">ITL ms",
        ">of",
        Column(">late", 1),
        "verdict",
    ]
    return table(columns, [_overview_row(gpu) for gpu in report.gpus])


def _overview_row(gpu: CheckedGPU) -> list[object]:
    cells: list[object] = [gpu.gpu, gpu.requests, sum(gpu.failed.values())]
    for name in ("throughput_tok_per_s", "ttft_mean_ms", "itl_mean_ms"):
        figure = gpu.figure(name)
        cells += [figure.measured, marked(ratio_text(figure), _MARKS[figure.differs])]
    late = gpu.figure("late_share").measured
    cells.append("–" if late is None else _percent(late))
    return [*cells, _verdict(gpu)]


def _verdict(gpu: CheckedGPU) -> Text:
    kept = "keeps up" if gpu.keeps_up else "late" if gpu.requests else "not sent"
    if gpu.misses_foretold and not gpu.keeps_up:
        kept = "late, as foretold"
    return marked(kept if gpu.holds else f"{kept}; DIFFERS", "good" if gpu.holds else "bad")


def ratio_text(figure: CheckedFigure) -> str:
    """Measured over foretold in percent, a dash where there is none."""
    return "–" if figure.ratio is None else f"{100 * figure.ratio:,.0f}%"


def _percent(share: float) -> str:
    """A share in percent, rounded up, so that what is above a limit never looks like it."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:g}%"


def _gpu_parts(gpu: CheckedGPU) -> Iterator[Part]:
    yield marked(f"GPU {gpu.gpu}, {gpu.url}", "good" if gpu.holds else "bad")
    in_table = {worse_in_words(figure) for figure in gpu.figures if figure.differs == "worse"}
    yield from (item(fault) for fault in gpu.faults if fault not in in_table)
    if gpu.figures:
        yield _figures(gpu)
    yield from _counts(gpu)
    yield from _server(gpu)
    differing = [one for one in gpu.adapters if any(figure.differs for figure in one.figures)]
    if differing:
        yield _adapters(differing[:SHOWN_ADAPTERS], len(gpu.adapters))
    if gpu.suggestions:
        yield "what that suggests:"
        yield from (item(one) for one in gpu.suggestions)


def _figures(gpu: CheckedGPU) -> Table:
    rows = [
        (
            LABELS[one.name],
            _shown(one, one.foretold),
            _allowed(one),
            _shown(one, one.measured),
            ratio_text(one),
            marked(one.differs, _MARKS[one.differs]),
        )
        for one in gpu.figures
    ]
    return table(["figure", ">foretold", Column(">as foretold is", 1), ">measured", ">of it", ""], rows)


def _shown(figure: CheckedFigure, value: float | None) -> str:
    if value is not None and figure.name.endswith("_share"):
        return f"{100 * value:.4g}"
    return cell_text(value)


def _allowed(figure: CheckedFigure) -> str:
    if figure.low is None or figure.high is None:
        return "–"
    return f"{_shown(figure, figure.low)} to {_shown(figure, figure.high)}"


def _counts(gpu: CheckedGPU) -> Iterator[Part]:
    """What happened to the requests, in a line, and failures by kind."""
    if not gpu.requests:
        return
    told = [f"{gpu.completed:,} of {counted(gpu.requests, 'request')} answered whole by the end"]
    if gpu.preemptions is not None:
        told.append(f"{counted(gpu.preemptions, 'preemption')} ({gpu.preemptions_foretold or 0:,} foretold)")
    if gpu.client_lag_s is not None:
        told.append(f"client late by {1e3 * gpu.client_lag_s:.3g} ms (p99)")
    yield "; ".join(told)
    for kind, number in gpu.failed.items():
        said = gpu.failure_details.get(kind, "")
        yield item(f"{number:,} times {kind}" + (f": {said}" if said else ""))


def _server(gpu: CheckedGPU) -> Iterator[Part]:
    """Arguments that differ or are not told, and adapters that are served beside."""
    for one in gpu.server.differing:
        yield item(argument_in_words(one))
    if gpu.server.untold:
        yield f"not told by the server: {', '.join(gpu.server.untold)}"
    if gpu.server.further:
        names = listed(gpu.server.further, NAMED)
        yield f"serves beside the plan: {names}"


def _argument(value: float | str | bool | None) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell_text(value)


def _adapters(adapters: list[CheckedAdapter], of: int) -> Table:
    columns: list[str | Column] = [
        "adapter",
        ">requests",
        Column(">failed", 1),
        ">late",
        Column(">foretold late", 1),
        ">TTFT ms",
        ">of",
        ">ITL ms",
        ">of",
    ]
    rows = []
    for one in adapters:
        late, ttft, itl = one.figures
        rows.append(
            (
                one.adapter,
                one.requests,
                one.failed,
                "–" if late.measured is None else _percent(late.measured),
                "–" if late.foretold is None else _percent(late.foretold),
                ttft.measured,
                marked(ratio_text(ttft), _MARKS[ttft.differs]),
                itl.measured,
                marked(ratio_text(itl), _MARKS[itl.differs]),
            )
        )
    return table(columns, rows, title=f"adapters that differ the most, of {of}")
