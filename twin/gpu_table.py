"""A table of judged GPUs: engines, figures, what is limited and how far away the limit is."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from scenarios import PlacedGPU, Placement, ServiceLevelObjectives, visible
from scenarios.text.formatting import choice
from scenarios.text.tables import Column, Mark, Table, marked, table
from twin.violations import LATENCIES, Criterion

if TYPE_CHECKING:
    from twin.verdict import GPUVerdict, SustainedFigures

CLOSE = 0.05
"""Distance to a limit, as a share of it, below which a figure is close to it."""

QUEUE_S = 3.0
"""Mean time to first token of a GPU, in seconds, from which on requests wait rather than are served."""


def verdict_word(accepted: bool | None) -> Text:
    """What the twin says of a GPU or a plan."""
    if accepted is None:
        return marked(None, None)
    return marked("accepted", "good") if accepted else marked("REJECTED", "bad")


def limited_latencies(levels: ServiceLevelObjectives | None) -> dict[Criterion, float]:
    """The latencies that service levels limit, with their limits in ms."""
    if levels is None:
        return {}
    return {code: limit for code in LATENCIES if (limit := code.limit_ms(levels)) is not None}


def headroom(verdict: GPUVerdict, limits: Mapping[Criterion, float]) -> float | None:
    """How far the nearest of some limits, or of entries' own, is, as a share of it.

    None where one was not measured, infinite where nothing is limited.
    """
    margins = [verdict.margins.get(code) for code in limits]
    margins += [one.margin for one in verdict.adapter_latencies]
    return None if None in margins else min((m for m in margins if m is not None), default=math.inf)


def headroom_cell(share: float | None) -> Text:
    """A headroom in percent, rounded down, so that what is missed never looks met."""
    if share is None or math.isinf(share):
        return marked(None, None)
    return marked(f"{math.floor(share * 100 + 1e-9)}%", distance_mark(share))


def entry_latencies(verdicts: Sequence[GPUVerdict]) -> list[Criterion]:
    """The latencies that levels of single entries limit on some GPU."""
    limited = {one.code for verdict in verdicts for one in verdict.adapter_latencies}
    return [code for code in LATENCIES if code in limited]


def distance_mark(share: float | None) -> Mark | None:
    """Whether a limit is missed or close."""
    if share is None or share >= CLOSE:
        return None
    return "bad" if share < 0 else "close"


def gpu_table(
    verdicts: Sequence[GPUVerdict],
    placement: Placement | None = None,
    levels: ServiceLevelObjectives | None = None,
    *,
    queueing: bool = False,
    base: Container[str] = (),
) -> Table:
    """A table of GPUs in the order of their numbers.

    Parameters
    ----------
    verdicts
        On the GPUs; those of a placement that have none are shown without figures.
    placement
        What was judged, whose engines are then shown; a device that all have is left to `only_device`.
    levels
        What it was held to; the latencies that they limit are then shown, with their headroom.
    queueing
        Whether to mark mean times to first token at which requests queue.
    base
        Names under which the base model is served, which is no LoRA adapter.
    """
    limits = limited_latencies(levels)
    plain = [f for f in ("itl", "ttft") if not any((c.metric, c.statistic) == (f, "mean") for c in limits)]
    engine = _engine_columns(placement)
    sustained = any(v.sustained is not None for v in verdicts)
    if sustained and not any(c.metric == "ttft" and c.statistic != "mean" for c in limits):
        plain.append("ttft p99")
    grows = [Column(">grows", 3)] if any(v.growth_factor is not None for v in verdicts) else []
    cornered = any(v.corner is not None for v in verdicts)
    own = entry_latencies(verdicts)
    columns = [
        Column(">GPU"), *engine, Column("twin"), *([Column("corner", 2)] if cornered else []),
        Column(">offered", 8), Column(">served", 5), Column(">late" if sustained else ">worst", 3),
        *(Column(f">{code.metric.upper()} {code.statistic} ms", 1) for code in limits),
        *(Column(f">entry {code.metric.upper()} {code.statistic} ms", 1) for code in own),
        *([Column(">headroom")] if limits or own else []),
        *(Column(f">{_heading(figure)} ms", 2) for figure in plain),
        *grows,
    ]  # fmt: skip
    cells = {v.gpu: _verdict_cells(v, limits, own, plain, queueing) for v in verdicts}
    for v in verdicts:
        if cornered:
            cells[v.gpu].insert(1, None if v.corner is None else str(v.corner))
        if grows:
            cells[v.gpu].append(_growth_cell(v.growth_factor))
    engines = {v.gpu: [] for v in verdicts} if placement is None else _engines(placement, engine, base)
    missing: list[object] = [None] * (len(columns) - len(engine) - 1)
    return table(columns, [[gpu, *engines[gpu], *cells.get(gpu, missing)] for gpu in sorted(engines)])


def _heading(figure: str) -> str:
    """A latency as a table calls it: ITL, TTFT, TTFT p99."""
    metric, _, statistic = figure.partition(" ")
    return f"{metric.upper()} {statistic}".strip()


def _engine_columns(placement: Placement | None) -> list[Column]:
    """What is shown of engines: a device that not all have, and ``max_cpu_loras`` where it is no default."""
    if placement is None:
        return []
    device = [] if only_device(placement) else [Column("device", 5)]
    default = all(gpu.max_cpu_loras in (None, gpu.max_loras) for gpu in placement.gpus)
    cpu = [] if default else [Column(">CPU", 7)]
    return [*device, Column(">LoRAs", 4), Column(">slots", 6), Column(">rank", 7), *cpu]


def _engines(placement: Placement, shown: Sequence[Column], base: Container[str]) -> dict[int, list[object]]:
    """What is shown of the engine of each GPU."""
    found: dict[int, list[object]] = {}
    for gpu in placement.gpus:
        cells = {
            "device": gpu.device,
            "LoRAs": _held(gpu, base),
            "slots": gpu.max_loras,
            "rank": gpu.max_lora_rank,
            "CPU": gpu.max_cpu_loras,
        }
        found[gpu.gpu] = [cells[column.heading] for column in shown]
    return found


def _held(gpu: PlacedGPU, base: Container[str]) -> str:
    """How many adapters a GPU serves, and that it serves the base model too."""
    return held(sum(name not in base for name in gpu.adapters), len(gpu.adapters))


def held(adapters: int, names: int) -> str:
    """So many adapters among the names that a GPU serves; the others are the base model: ``12 + base``."""
    if adapters == names:
        return f"{adapters:,}"
    return f"{adapters:,} + base" if adapters else "base"


def only_device(placement: Placement | None) -> str:
    """The device of all GPUs, as `` on H100``; empty where they have several, which a table shows then."""
    devices = {gpu.device for gpu in placement.gpus} if placement else set()
    return f" on {visible(devices.pop())}" if len(devices) == 1 else ""


def _verdict_cells(
    verdict: GPUVerdict,
    limits: Mapping[Criterion, float],
    own: Sequence[Criterion],
    plain: Sequence[str],
    queueing: bool,
) -> list[object]:
    share = verdict.margins.get(Criterion.ADAPTER_SERVED_SHARE)
    worst = marked(f"{verdict.worst_served_share:.1%}", distance_mark(share))
    if verdict.sustained is not None:
        worst = _late(verdict.sustained, verdict.accepted)
    margins = [(verdict.margins.get(code), limit) for code, limit in limits.items()]
    slow = queueing and (verdict.ttft_ms or 0.0) > 1e3 * QUEUE_S
    values = {
        "itl": verdict.itl_ms,
        "ttft": marked(verdict.ttft_ms, "close" if slow else None),
        "ttft p99": verdict.ttft_p99_ms,
    }
    return [
        verdict_word(verdict.accepted), verdict.offered_tok_per_s, verdict.served_tok_per_s,
        worst,
        *(None if m is None else marked((1 - m) * limit, distance_mark(m)) for m, limit in margins),
        *(_entry_cell(verdict, code) for code in own),
        *([headroom_cell(headroom(verdict, limits))] if limits or own else []),
        *(values[figure] for figure in plain),
    ]  # fmt: skip


def _entry_cell(verdict: GPUVerdict, code: Criterion) -> Text:
    """A latency that entries limit, of the one on the GPU that is nearest to its limit."""
    limited = [one for one in verdict.adapter_latencies if one.code == code]
    worst = min(limited, key=lambda one: -math.inf if one.margin is None else one.margin, default=None)
    return marked(None, None) if worst is None else marked(worst.value, distance_mark(worst.margin))


def _growth_cell(factor: float | None) -> Text:
    """How many times its load a GPU could have; less than once is too little."""
    mark: Mark | None = "bad" if factor is None or factor < 1 else None
    return marked("none" if factor is None else f"{factor:.2f}x", mark)


def _late(figures: SustainedFigures, accepted: bool) -> Text:
    """The share of late requests; marked where it is too large, or chance might have made it so."""
    mark: Mark | None = "close" if figures.close else None
    if not accepted and (figures.late_share is None or figures.late_share > 0):
        mark = "bad"
    return marked(None if figures.late_share is None else f"{figures.late_share:.2%}", mark)


def limits_note(levels: ServiceLevelObjectives | None, verdicts: Sequence[GPUVerdict]) -> list[str]:
    """The limits behind a table, and what its headroom is; nothing where no latency is limited."""
    limits = [(code, [limit]) for code, limit in limited_latencies(levels).items()]
    own = [(code, sorted(_entry_limits(verdicts, code))) for code in entry_latencies(verdicts)]
    said = [
        f"limits of {whose}: {choice([_limit_in_words(*one) for one in limited], 'and')}"
        for whose, limited in (("a GPU", limits), ("single entries", own))
        if limited
    ]
    return [f"{'; '.join(said)}; headroom: distance to the nearest, as a share of it"] if said else []


def _entry_limits(verdicts: Sequence[GPUVerdict], code: Criterion) -> set[float]:
    return {one.limit for verdict in verdicts for one in verdict.adapter_latencies if one.code == code}


def _limit_in_words(code: Criterion, limits: Sequence[float]) -> str:
    """Such as ``TTFT p90 500 or 800 ms``."""
    return f"{code.metric.upper()} {code.statistic} {choice([f'{limit:,g}' for limit in limits], 'or')} ms"
