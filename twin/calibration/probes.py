"""Probes of parts of the engine: single steps, fixed batches and single requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from twin.calibration.cost_terms import Steps
from twin.calibration.params import ProbeParams


@dataclass(frozen=True)
class Probe:
    """A step of known composition, how long it took in seconds, and its weight in the fit."""

    steps: Steps
    seconds: float
    weight: float


def find_probes(tables: Mapping[str, pd.DataFrame], params: ProbeParams) -> list[Probe]:
    """All probes in the tables of one model's measurements."""
    return [
        *_fixed_batches(tables["fixed_batches"], params),
        *_prefills(tables["prefill_steps"], params),
        *_logged_steps(tables["engine_steps"], params),
    ]


def _steps(
    tokens: float,
    decodes: float,
    context: float,
    adapters: float = 0,
    max_loras: int = 0,
    max_lora_rank: int = 0,
) -> Steps:
    return Steps(
        weight=np.ones(1),
        tokens=np.array([tokens], dtype=np.float64),
        decodes=np.array([decodes], dtype=np.float64),
        context=np.array([context], dtype=np.float64),
        adapters=np.array([adapters], dtype=np.float64),
        waiting=np.zeros(1),
        max_loras=max_loras,
        max_lora_rank=max_lora_rank,
        served=round(adapters),
    )


def _fixed_batches(table: pd.DataFrame, params: ProbeParams) -> list[Probe]:
    probes = []
    for row in table.to_dict(orient="records"):
        batch = row["batch_size"]
        # Answers are half done on the average.
        context = batch * (row["prompt_tokens"] + row["output_tokens"] / 2)
        steps = _steps(batch, batch, context, row["n_adapters"], row["max_loras"], row["max_lora_rank"])
        weight = params.single_request_weight if batch == 1 else params.batch_weight
        probes.append(Probe(steps, row["itl_ms"] / 1e3, weight))
    return probes


def _prefills(table: pd.DataFrame, params: ProbeParams) -> list[Probe]:
    medians = table.groupby("max_num_batched_tokens", as_index=False)[["step_ms"]].median()
    return [
        Probe(_steps(row["max_num_batched_tokens"], 0, 0), row["step_ms"] / 1e3, params.prefill_weight)
        for row in medians.to_dict(orient="records")
    ]


def _logged_steps(table: pd.DataFrame, params: ProbeParams) -> list[Probe]:
    """Medians of logged steps of one composition."""
    table = table[table["step_ms"] < params.slowest_step_ms]
    engine = ["max_loras", "max_lora_rank", "output_tokens", "prompt_tokens", "max_num_seqs"]
    blocks = {
        "tokens_block": table["batched_tokens"] // params.tokens_per_group,
        "adapters_block": table["n_adapters"] // params.adapters_per_group,
    }
    medians = (
        table.assign(**blocks)
        .groupby([*engine, *blocks], as_index=False)
        .agg(
            tokens=("batched_tokens", "mean"),
            adapters=("n_adapters", "mean"),
            step_ms=("step_ms", "median"),
            steps=("step_ms", "size"),
        )
    )
    probes = []
    for row in medians[medians["steps"] >= params.min_group].to_dict(orient="records"):
        tokens, batch = row["tokens"], row["max_num_seqs"]
        # Above the batch size, prompts of the next wave share the step with what is left of the last.
        decodes = min(tokens, batch) if tokens <= 1.02 * batch else params.mixed_decode_share * batch
        context = decodes * (row["prompt_tokens"] + row["output_tokens"] / 2)
        steps = _steps(tokens, decodes, context, row["adapters"], row["max_loras"], row["max_lora_rank"])
        weight = params.step_weight * min(1.0, row["steps"] / params.full_group)
        probes.append(Probe(steps, row["step_ms"] / 1e3, weight))
    return probes
