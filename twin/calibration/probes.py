"""Probes of parts of the engine: single steps, fixed batches and single requests."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scenarios.errors import Problem, ScenarioError
from twin.calibration.cost_terms import Steps

SLOWEST_MS = 400.0
"""Logged steps above this are compilations of a kernel for a new shape, which happen once."""

BLOCKS_OF_STEPS = (32, 8)
"""Logged steps are grouped by this many tokens and distinct adapters."""

FEWEST_STEPS = 8
"""Smaller groups of logged steps are left out."""


@dataclass(frozen=True)
class Probe:
    """A step of known composition, how long it took in seconds, and its weight in the fit."""

    steps: Steps
    seconds: float
    weight: float


def read_table(folder: Path, name: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    """A table of measurements with at least these columns of text and of numbers.

    Raises
    ------
    ScenarioError
        If it cannot be read, lacks a column, or has something else where a number should be.
    """
    path = folder / name
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        remedy = "name a folder of measurements that has it"
        raise ScenarioError([Problem("file", f"cannot be read ({error})", remedy)], str(path)) from error
    check_columns(table, texts, numbers, str(path))
    return table


def check_columns(table: pd.DataFrame, texts: Sequence[str], numbers: Sequence[str], source: str) -> None:
    """Check that a table has columns; turn columns of numbers into numbers, where they are not yet.

    Raises
    ------
    ScenarioError
        If a column is missing, or a cell is neither empty nor a number.
    """
    missing = [column for column in (*texts, *numbers) if column not in table.columns]
    if missing:
        remedy = "add it; found: " + ", ".join(map(str, table.columns[:12]))
        raise ScenarioError([Problem(f"column {c}", "is missing", remedy) for c in missing], source)
    problems = []
    for column in numbers:
        values = pd.to_numeric(table[column], errors="coerce")
        wrong = table.index[values.isna() & table[column].notna()]
        if len(wrong):
            cell = table.at[wrong[0], column]
            problems.append(Problem(f"row {wrong[0] + 2}, {column}", f"is {cell!r}", "give a number"))
        table[column] = values
    if problems:
        raise ScenarioError(problems, source)


def _one(
    tokens: float,
    decodes: float,
    context: float,
    adapters: float,
    max_loras: int,
    max_lora_rank: int,
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


def read_probes(folder: Path, model: str) -> list[Probe]:
    """All probes of a model in a folder of measurements."""
    return [
        *_single_requests(folder, model),
        *_fixed_batches(folder, model),
        *_prefills(folder, model),
        *_logged_steps(folder, model),
    ]


def _single_requests(folder: Path, model: str) -> list[Probe]:
    numbers = ("max_loras", "max_lora_rank", "single_req_itl_ms", "single_req_output_tokens")
    table = read_table(folder, "memory_probes.csv", ("model",), numbers)
    table = table[(table["model"] == model) & table["single_req_itl_ms"].notna()]
    probes = []
    for row in table.to_dict(orient="records"):
        context = float(row.get("single_req_input_tokens", 13)) + float(row["single_req_output_tokens"]) / 2
        step = _one(1, 1, context, 1, int(row["max_loras"]), int(row["max_lora_rank"]))
        probes.append(Probe(step, float(row["single_req_itl_ms"]) / 1e3, 0.5))
    return probes


def _fixed_batches(folder: Path, model: str) -> list[Probe]:
    """Decodes of a full batch without adapters."""
    numbers = ("max_num_seqs", "prompt_tokens", "set_output_len", "itl_median_ms")
    table = read_table(folder, "fixed_batch_without_lora.csv", ("model", "family"), numbers)
    table = table[(table["model"] == model) & (table["family"] == "default_output")]
    if "preemptions" in table.columns:
        table = table[~(table["preemptions"] > 0)]
    probes = []
    for row in table.to_dict(orient="records"):
        batch = float(row["max_num_seqs"])
        context = batch * (float(row["prompt_tokens"]) + float(row["set_output_len"]) / 2)
        probes.append(Probe(_one(batch, batch, context, 0, 0, 0), float(row["itl_median_ms"]) / 1e3, 1.0))
    return probes


def _prefills(folder: Path, model: str) -> list[Probe]:
    """Steps full of prompts without adapters: one output token, so the token budget is always used up."""
    numbers = ("step_median_ms", "n_steps_window")
    table = read_table(folder, "fixed_batch_without_lora.csv", ("model", "family"), numbers)
    table = table[(table["model"] == model) & (table["family"] == "default_input")]
    table = table[table["n_steps_window"] > 100]
    if table.empty:
        return []
    budget = 2048.0
    return [Probe(_one(budget, 0, 0, 0, 0, 0), float(table["step_median_ms"].median()) / 1e3, 3.0)]


def _logged_steps(folder: Path, model: str) -> list[Probe]:
    """Medians of logged steps of one composition, with 300 slots of rank 8 or without LoRA."""
    numbers = ("unique_adapters", "batched_tokens", "dt_next_ms")
    table = read_table(folder, "engine_steps.csv.gz", ("model", "family", "run"), numbers)
    table = table[(table["model"] == model) & (table["batched_tokens"] > 0)]
    table = table[table["dt_next_ms"] < SLOWEST_MS]
    families = ("overhead_small", "initial_points_small", "find_max_batch_small")
    table = table[table["family"].isin(families)].copy()
    # A run is named _<sequences>_<slots>_<rank>__<prompt words>_<output tokens>_<adapters>.
    table["batch"] = table["run"].str.extract(r"^_(\d+)_\d+_\d+__|^_(\d+)__").bfill(axis=1)[0].astype(float)
    table["batch"] = table["batch"].fillna(256.0)
    words = table["run"].str.extract(r"__(\d+)_(\d+)").astype(float)
    # One word repeated: 4 tokens of template and the word, 200 words are 407 tokens.
    table["prompt"] = np.where(words[0] > 50, 407.0, 4.0)
    table["output"] = words[1]
    table["lora"] = table["family"] != "initial_points_small"
    by_tokens, by_adapters = BLOCKS_OF_STEPS
    table["tokens_block"] = table["batched_tokens"] // by_tokens
    table["adapters_block"] = table["unique_adapters"] // by_adapters
    keys = ["lora", "output", "prompt", "batch", "tokens_block", "adapters_block"]
    groups = table.groupby(keys).agg(
        tokens=("batched_tokens", "mean"),
        adapters=("unique_adapters", "mean"),
        seconds=("dt_next_ms", lambda ms: ms.median() / 1e3),
        count=("dt_next_ms", "size"),
    )
    probes = []
    for row in groups[groups["count"] >= FEWEST_STEPS].reset_index().to_dict(orient="records"):
        tokens, batch = float(row["tokens"]), float(row["batch"])
        # Above the batch size, prompts of the next wave share the step with what is left of the last.
        decoding = min(tokens, batch) if tokens <= 1.02 * batch else 0.7 * batch
        context = decoding * (float(row["prompt"]) + float(row["output"]) / 2)
        slots, rank = (300, 8) if row["lora"] else (0, 0)
        step = _one(tokens, decoding, context, float(row["adapters"]), slots, rank)
        probes.append(Probe(step, float(row["seconds"]), 0.3 * min(1.0, float(row["count"]) / 30)))
    return probes
