"""One tile for each GPU of a plan, and the table of its adapters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optimizer.explanation.explain import TightRow, sum_in_words
from optimizer.reporting.contents import COLUMNS, AdapterTable, Tile
from optimizer.reporting.numbers import known, rounded
from optimizer.reporting.runs import AdapterFigures, PlacedContent, Runs
from optimizer.result import Result
from scenarios import AdapterClass, Placement, Scenario
from twin import GPUVerdict, LatencyFigures
from twin.gpu_table import headroom, limited_latencies

LEAST_PART = 0.005
"""Share of a fill below which what a sum adds is not told."""


def tiles_of(result: Result, runs: Runs, rows: Mapping[int, TightRow]) -> tuple[Tile, ...]:
    """The GPUs of a plan in the order of their numbers.

    What is said of the verdict is over all runs of the twin; the use of the KV cache is of one run.

    Parameters
    ----------
    result
        The plan, with its verdicts.
    runs
        Its GPUs simulated again.
    rows
        The row that each GPU fills most, by number, where the regions are known.
    """
    verdicts = verdicts_of(result)
    return tuple(
        _tile(result.scenario, one, verdicts.get(number), rows.get(number), runs)
        for number, one in runs.placed.items()
    )


def verdicts_of(result: Result) -> dict[int, GPUVerdict]:
    """The twin's verdicts by the number of the GPU."""
    return {v.gpu: v for v in result.validation.gpus} if result.validation else {}


def _tile(
    scenario: Scenario, one: PlacedContent, verdict: GPUVerdict | None, tight: TightRow | None, runs: Runs
) -> Tile:
    gpu, figures = one.gpu, runs.of(one.gpu.gpu)
    return Tile(
        gpu=gpu.gpu,
        device=gpu.device,
        node=None if gpu.node is None else str(gpu.node),
        adapters=sum(name not in scenario.base_names for name in gpu.adapters),
        max_loras=gpu.max_loras,
        max_lora_rank=gpu.max_lora_rank,
        max_cpu_loras=gpu.max_cpu_loras,
        kv_use_mean=None if figures is None else figures.kv_use_mean,
        kv_use_peak=None if figures is None else figures.kv_use_peak,
        like=one.like,
        **_of_row(tight),
        **({} if verdict is None else _of_verdict(verdict, scenario)),
    )


def _of_row(tight: TightRow | None) -> dict[str, Any]:
    if tight is None or tight.fill is None:
        return {}
    parts = {sum_in_words(name): rounded(part) for name, part in tight.parts.items() if part >= LEAST_PART}
    return {"fill": rounded(tight.fill), "tight_row": tight.row, "made_of": parts}


def _of_verdict(verdict: GPUVerdict, scenario: Scenario) -> dict[str, Any]:
    sustained = verdict.sustained
    share = headroom(verdict, limited_latencies(scenario.service_levels))
    return {
        "accepted": verdict.accepted,
        "reasons": verdict.reasons,
        "offered_tok_per_s": rounded(verdict.offered_tok_per_s),
        "served_tok_per_s": rounded(verdict.served_tok_per_s),
        "kv_cache_tokens": verdict.kv_cache_tokens,
        "late_share": None if sustained is None else known(sustained.late_share),
        "margin": None if verdict.margin is None else known(verdict.signed_margin),
        "headroom": None if share is None or math.isinf(share) else rounded(share),
        "first_to_suffer": verdict.first_to_suffer,
        "itl": _figures(verdict.latencies.itl),
        "ttft": _figures(verdict.latencies.ttft),
    }


def _figures(figures: LatencyFigures) -> LatencyFigures:
    return LatencyFigures(**{name: known(value) for name, value in figures.model_dump().items()})


# --- adapters ----------------------------------------------------------------------------------------


def adapters_of(result: Result, runs: Runs, most: int) -> AdapterTable:
    """The adapters of a plan, GPU by GPU, each with its share of the GPU's tokens and the run's figures.

    Of more rows than ``most`` those with the largest shares are kept.
    """
    classes = {name: one for one in result.scenario.classes for name in one.names}
    assert result.placement is not None
    rows: list[dict[str, Any]] = []
    for one in runs.placed.values():
        figures = runs.of(one.gpu.gpu)
        rows += _rows(one, classes, result.placement, None if figures is None else figures.adapters)
    kept = sorted(range(len(rows)), key=lambda k: (-rows[k]["load_share"], k))[:most]
    columns = {name: tuple(rows[k][name] for k in sorted(kept)) for name in COLUMNS}
    return AdapterTable(**columns, left_out=len(rows) - len(kept))


def _rows(
    one: PlacedContent,
    classes: Mapping[str, AdapterClass],
    placement: Placement,
    figures: AdapterFigures | None,
) -> list[dict[str, Any]]:
    gpu = one.gpu
    rates = [classes[name].rate * gpu.share(name) for name in one.names]
    tokens = [classes[name].tokens_per_s * gpu.share(name) for name in one.names]
    total = sum(tokens)
    return [
        {
            "name": name,
            "served_name": placement.served_name(name),
            "gpu": gpu.gpu,
            "rank": classes[name].rank,
            "rate": rounded(rates[k]),
            "load_share": rounded(tokens[k] / total),
            **_measured(figures, k),
        }
        for k, name in enumerate(one.names)
    ]


def _measured(figures: AdapterFigures | None, k: int) -> dict[str, object]:
    """What a run says of the k-th adapter of a GPU."""
    names = AdapterFigures.__dataclass_fields__
    return {name: None if figures is None else getattr(figures, name)[k] for name in names}


def fills_of(rows: Sequence[TightRow]) -> dict[int, float]:
    """How full each GPU is by the regions, where that is known."""
    return {row.gpu: row.fill for row in rows if row.fill is not None}
