"""Contents of reports for tests of the page: of any size, with figures that no twin was asked for."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from optimizer.reporting.contents import (
    AdapterTable,
    Answer,
    GPURun,
    Origin,
    PlanReport,
    Reasons,
    Reference,
    ReportContents,
    Saving,
    Tile,
    WhatIfCell,
    WhatIfGrid,
)
from twin import LatencyFigures

RANKS = (8, 16, 32)
QUANTILES = tuple(k / 20 for k in range(21))
PARTS = 120
MARKUP = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '"><svg onload="window.hacked = 1">',
    "<!--<script>",
    "&lt;b&gt; &amp;",
    "]]></style></title></noscript><b>",
    "javascript:window.hacked=1",
)
"""Texts that a page which forgets to escape takes for markup or code."""


def report_contents(plans: Sequence[PlanReport], title: str = "fleet") -> ReportContents:
    return ReportContents(title=title, made_at="2026-01-01 00:00 UTC", plans=tuple(plans))


def plan_report(
    adapters: int = 24,
    gpus: int = 3,
    *,
    names: Sequence[str] = (),
    text: str = "A sentence.",
    method: str = "exact",
    name: str = "fleet",
    accepted: bool = True,
    grid: WhatIfGrid | None = None,
    **changes: object,
) -> PlanReport:
    """A plan of adapters dealt to GPUs; ``names`` name the first ones, ``text`` stands wherever text may."""
    table = adapter_table(adapters, gpus, names, random.Random(1))
    per_gpu = [sum(gpu == g for gpu in table.gpu) for g in range(gpus)]
    plan = PlanReport(
        name=name,
        description=text,
        answer=answer(adapters, gpus, method, text, accepted),
        tiles=tuple(tile(g, per_gpu[g], text, accepted or g > 0) for g in range(gpus)),
        adapters=table,
        runs=tuple(gpu_run(g) for g in range(gpus)),
        reasons=reasons(gpus, text),
        what_if=grid,
        no_what_if="" if grid else text,
        origin=origin(text),
    )
    return plan.model_copy(update=changes)


def answer(adapters: int, gpus: int, method: str, text: str, accepted: bool = True) -> Answer:
    return Answer(
        status="optimal",
        message=text,
        method=method,
        objectives=("gpus", "worst_ttft_p99"),
        accepted=accepted,
        gpus=gpus,
        devices={"H100-64GB": gpus},
        adapters=adapters,
        bound=float(gpus),
        bound_of="gpus",
        cost_per_month=2190.0 * gpus,
        greedy_cost_per_month=2190.0 * (gpus + 2),
        cost_unit=text,
        acceptance="sustained",
        criterion=f"At most 1 % of the requests wait over 10 s for the first token. {text}",
        sureness="measured",
        sureness_text=text,
        greedy=Reference(method="greedy", gpus=gpus + 2, accepted=True, message=text),
        offered_tok_per_s=2000.0 * gpus,
        served_tok_per_s=1990.0 * gpus,
        notes=(text,),
        seconds=12.3,
    )


def adapter_table(adapters: int, gpus: int, names: Sequence[str], rng: random.Random) -> AdapterTable:
    rates = [round(4 / (k + 1) ** 0.8, 4) for k in range(adapters)]
    gpu = [k % gpus for k in range(adapters)]
    totals = [sum(rates[g::gpus]) for g in range(gpus)]
    slow = [round(rng.uniform(60, 400), 1) for _ in range(adapters)]
    name = [names[k] if k < len(names) else f"adapter-{k:04d}" for k in range(adapters)]
    return AdapterTable(
        name=tuple(name),
        served_name=tuple(name),
        gpu=tuple(gpu),
        rank=tuple(RANKS[k % len(RANKS)] for k in range(adapters)),
        rate=tuple(rates),
        load_share=tuple(round(rate / totals[g], 4) for rate, g in zip(rates, gpu, strict=True)),
        served_share=tuple(None if k == 0 else 0.999 for k in range(adapters)),
        ttft_p50_ms=tuple(None if k == 0 else value for k, value in enumerate(slow)),
        ttft_p99_ms=tuple(None if k == 0 else 3 * value for k, value in enumerate(slow)),
        itl_ms=tuple(None if k == 0 else 38.0 + k % 5 for k in range(adapters)),
        loads=tuple(None if k == 1 else k % 7 for k in range(adapters)),
    )


def tile(gpu: int, adapters: int, text: str, accepted: bool = True) -> Tile:
    return Tile(
        gpu=gpu,
        device="H100-64GB",
        accepted=accepted,
        reasons=() if accepted else (text,),
        adapters=adapters,
        max_loras=min(adapters, 32),
        max_lora_rank=32,
        max_cpu_loras=64,
        fill=max(0.4, 0.98 - 0.02 * gpu),
        tight_row=text,
        made_of={"tokens of prompts": 0.5, text: 0.3},
        offered_tok_per_s=2000.0,
        served_tok_per_s=1990.0,
        kv_cache_tokens=180_000,
        kv_use_mean=0.4,
        kv_use_peak=0.7 - 0.01 * (gpu % 30),
        late_share=0.001,
        margin=0.12,
        headroom=0.94,
        first_to_suffer=text,
        itl=LatencyFigures(mean=39.0, p50=38.0, p90=45.0, p95=48.0, p99=60.0),
        ttft=LatencyFigures(mean=80.0, p50=70.0, p90=130.0, p95=150.0, p99=200.0 + 7 * ((gpu * 5) % 11)),
        like=gpu,
    )


def gpu_run(gpu: int) -> GPURun:
    """A run with waves and, as no simulation is smooth, noise in every part of every series."""
    rng = random.Random(gpu)

    def series(mean: float, swing: float) -> tuple[float, ...]:
        values = (mean + swing * (math.sin(k / 9 + gpu) + rng.uniform(-0.3, 0.3)) for k in range(PARTS))
        return tuple(float(f"{max(0.0, value):.4g}") for value in values)

    return GPURun(
        gpu=gpu,
        seed=gpu,
        load_factor=1.05,
        start_s=tuple(30.0 * k for k in range(PARTS)),
        width_s=30.0,
        running=series(40, 15),
        waiting=series(0, 6),
        kv_use=series(0.5, 0.2),
        slots_used=series(20, 4),
        loads_per_min=series(9, 3),
        offered_tok_per_s=series(2000, 300),
        served_tok_per_s=series(1990, 290),
        quantiles=QUANTILES,
        ttft_ms=tuple(round(40 * math.exp(2 * q), 2) for q in QUANTILES),
        itl_ms=tuple(round(30 * math.exp(q), 2) for q in QUANTILES),
        e2e_ms=tuple(round(2000 * math.exp(2 * q), 1) for q in QUANTILES),
    )


def reasons(gpus: int, text: str) -> Reasons:
    return Reasons(
        why=(f"{gpus - 1} GPUs are too few.", text),
        weights={"hot": 0.6 * gpus, text: 0.3 * gpus},
        other_weights=0.1 * gpus - 0.2,
        total=gpus - 0.2,
        savings=(
            Saving(name="one more slot", text=text, saves=0.4),
            Saving(name="another GPU type", text="It is not known.", saves=None),
        ),
    )


def what_if_grid(gpus: int = 3, loads: int = 31, patience_s: Sequence[float] = (2, 5, 10, 30)) -> WhatIfGrid:
    """A grid in which every cell differs from its neighbours in load, with cells of each state."""
    lines = range(max(1, len(patience_s)))
    exact = [[_exact_cell(gpus, p, k) for k in range(loads)] for p in lines]
    greedy = [
        [WhatIfCell(state="solved", gpus=max(1, 2 * gpus + 2 * k - p)) for k in range(loads)] for p in lines
    ]
    exact[0][loads - 1] = WhatIfCell(state="not_computed")
    greedy[0][loads - 1] = WhatIfCell(state="no_plan")
    return WhatIfGrid(
        load_factors=tuple(round(0.5 + 0.05 * k, 2) for k in range(loads)),
        patience_s=tuple(patience_s),
        planned_patience_s=10.0 if 10 in patience_s else None,
        gpus_available=64,
        exact=tuple(map(tuple, exact)),
        greedy=tuple(map(tuple, greedy)),
        cost_of_gpu_per_month=2190.0,
        command="lorapack solve fleet.yaml --load {load} --set acceptance.patience_s={patience}",
        seconds=20.0,
        complete=False,
    )


def _exact_cell(gpus: int, p: int, k: int) -> WhatIfCell:
    least = gpus + k + (3 - p)
    if k % 5 == 4:
        return WhatIfCell(state="open", gpus=least + 1, bound=least - 1)
    return WhatIfCell(state="solved", gpus=least, bound=least)


def origin(text: str) -> Origin:
    return Origin(
        scenario_yaml=f"name: fleet\nmodel: llama-3.1-8b-instruct\n# {text}\n",
        scenario_sha256="ab" * 32,
        result_file=text,
        result_sha256="cd" * 32,
        seed=1,
        params_toml=f"# {text}",
        version="0.1",
        reported_with={"lorapack": "0.1", "python": "3.11"},
        profiles={"H100-64GB": text},
        regions={"H100-64GB": "ef" * 32},
        command=f"lorapack solve fleet.yaml # {text}",
    )
