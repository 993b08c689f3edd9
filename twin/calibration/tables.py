"""Parts of a profile that follow from one table each: copies of adapters, lengths of requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scenarios.errors import Problem, ScenarioError
from scenarios.lengths import HistogramLengths
from twin.calibration.probes import read_table
from twin.measured.runs import draw_served_lengths
from twin.profile import ServedLengths
from twin.step_cost import LoadCost

MOST_TOKENS = 2048
"""Prompt and answer together: how the measured requests were filtered."""

DRAWS = 40_000
BLOCK_TOKENS = 16


def fit_loads(folder: Path, model: str) -> LoadCost:
    """Time to copy an adapter to a slot, and to read it from disk, from single copies."""
    numbers = ("adapter_rank", "max_lora_rank", "cpu_to_gpu_mean_ms", "disk_to_cpu_median_ms")
    table = read_table(folder, "adapter_loads.csv", ("model",), numbers)
    table = table[table["model"] == model]
    if table.empty:
        problem = Problem("model", f'"{model}" has no rows', "measure copies of adapters for it")
        raise ScenarioError([problem], str(folder / "adapter_loads.csv"))
    own = table["adapter_rank"] == table["max_lora_rank"]
    exact = float(table.loc[own, "cpu_to_gpu_mean_ms"].mean()) if own.any() else 0.0
    padded = float(table.loc[~own, "cpu_to_gpu_mean_ms"].mean()) if (~own).any() else exact
    exact = exact if own.any() else padded
    rank = table["adapter_rank"].to_numpy(dtype=np.float64)
    slope, start = np.polyfit(rank, table["disk_to_cpu_median_ms"].to_numpy(dtype=np.float64), 1)
    return LoadCost(
        gpu_s=exact / 1e3,
        gpu_padding_s=max(padded - exact, 0.0) / 1e3,
        disk_s=max(float(start), 0.0) / 1e3,
        disk_rank_s=max(float(slope), 0.0) / 1e3,
    )


def fit_lengths(folder: Path, model: str, tokens_held: float) -> ServedLengths:
    """Shapes of prompts and answers, their correlation, and how often an answer ends early.

    The shapes are histograms. The chance to end early gives the mean tokens served; the correlation of
    prompt and answer gives the mean KV tokens of a running request, which every run has measured.

    Parameters
    ----------
    folder
        Folder of the measurements.
    model
        Base model.
    tokens_held
        Mean KV tokens of a running request, in whole blocks.
    """
    table = read_table(folder, "length_histograms.csv", ("kind",), ("bin_lo", "bin_hi", "count"))
    asked_in, asked, served = _length_stats(folder, model)
    base = ServedLengths(
        prompt=_rescaled(table, "input", asked_in),
        output=_rescaled(table, "output", asked),
        max_total_tokens=MOST_TOKENS,
    )

    def served_with(stop: float) -> float:
        return _moments(base, 0.0, stop, asked_in, asked)[0]

    stop = _solve(served_with, 0.0, 0.01, served)

    def held_with(opposed: float) -> float:
        return _moments(base, -opposed, stop, asked_in, asked)[1]

    opposed = _solve(held_with, 0.0, 0.9, tokens_held)
    return base.model_copy(update={"stop_per_token": round(stop, 7), "rank_correlation": round(-opposed, 3)})


def drawn_tokens_held(lengths: ServedLengths) -> float:
    """Mean KV tokens of a running request, as drawn, in whole blocks."""
    return _moments(
        lengths,
        lengths.rank_correlation,
        lengths.stop_per_token,
        lengths.prompt.mean_tokens,
        lengths.output.mean_tokens,
    )[1]


def _length_stats(folder: Path, model: str) -> list[float]:
    """Mean tokens of the prompts, of the answers asked for, and of the answers served."""
    stats = read_table(folder, "length_stats.csv", ("scope", "stat"), ("value",))
    known = stats[stats["scope"] == model].set_index("stat")["value"].to_dict()
    asked = [f"pool_mean_{kind}_largest_pool" for kind in ("input", "output")]
    names = [*asked, "completed_mean_output_unstarved"]
    missing = f'is missing for scope "{model}"'
    problems = [Problem(f"stat {name}", missing, "add it") for name in names if name not in known]
    if problems:
        raise ScenarioError(problems, str(folder / "length_stats.csv"))
    return [float(known[name]) for name in names]


def _rescaled(table: pd.DataFrame, kind: str, mean: float) -> HistogramLengths:
    part = table[table["kind"] == kind]
    edges = [*part["bin_lo"], float(part["bin_hi"].iloc[-1])]
    shape = HistogramLengths(edges=tuple(edges), weights=tuple(part["count"].astype(float)))
    factor = mean / shape.mean_tokens
    return HistogramLengths(
        edges=tuple(max(1.0 + 1e-6 * k, round(edge * factor, 4)) for k, edge in enumerate(edges)),
        weights=shape.weights,
    )


def _moments(
    lengths: ServedLengths, rho: float, stop: float, mean_prompt: float, mean_output: float
) -> tuple[float, float]:
    """Mean tokens served, and mean KV tokens in blocks of a running request."""
    drawn = lengths.model_copy(update={"rank_correlation": rho, "stop_per_token": stop})
    rng = np.random.default_rng(0)
    prompt, output = draw_served_lengths(drawn, DRAWS, mean_prompt, mean_output, rng)
    steps = output.astype(np.float64)
    held = prompt + steps / 2 + BLOCK_TOKENS / 2
    return float(steps.mean()), float((held * steps).sum() / steps.sum())


def _solve(value: Callable[[float], float], low: float, high: float, target: float) -> float:
    """Where a function that falls from ``low`` to ``high`` takes a value, by bisection."""
    for _ in range(20):
        middle = (low + high) / 2
        if value(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
