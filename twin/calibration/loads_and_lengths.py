"""Parts of a profile that follow from one table each: copies of adapters, lengths of requests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import bisect

from scenarios import HistogramLengths, Problem, ScenarioError, params_from
from twin.measured.replayed import draw_served_lengths
from twin.profile import ServedLengths
from twin.step_cost import LoadCost

LIKELIEST_STOP = 0.01
"""Largest chance at every token that an answer ends early; answers of 100 tokens would be the mean."""

DRAWS = 40_000
"""Requests that are drawn to compare lengths."""

STRONGEST_CORRELATION = 0.9


def fit_loads(table: pd.DataFrame) -> LoadCost:
    """Time to copy an adapter to a slot, and to read it from disk, from single copies.

    Parameters
    ----------
    table
        Rows of `twin.calibration.measurements.AdapterLoad`, at least one.
    """
    own = table["adapter_rank"] == table["max_lora_rank"]
    exact = float(table.loc[own if own.any() else ~own, "cpu_to_gpu_ms"].mean())
    padded = float(table.loc[~own, "cpu_to_gpu_ms"].mean()) if (~own).any() else exact
    rank = table["adapter_rank"].to_numpy(dtype=np.float64)
    # A line needs two ranks; with one, all of the time counts as independent of it.
    line = np.polyfit(rank, table["disk_to_cpu_ms"].to_numpy(dtype=np.float64), int(np.ptp(rank) > 0))
    return LoadCost(
        gpu_s=exact / 1e3,
        gpu_padding_s=max(padded - exact, 0.0) / 1e3,
        disk_s=max(float(line[-1]), 0.0) / 1e3,
        disk_rank_s=max(float(line[0]), 0.0) / 1e3 if len(line) > 1 else 0.0,
    )


@dataclass(frozen=True)
class OfferedLengths:
    """Requests as they were offered, from which lengths as they were served are fitted.

    Parameters
    ----------
    lengths
        Shapes of prompts and answers, independent of each other, without an early end.
    prompt_tokens, output_tokens
        Means of the prompts, and of the lengths asked of the answers.
    served_tokens
        Mean of the answers served.
    block_size
        Tokens of a KV block.
    """

    lengths: ServedLengths
    prompt_tokens: float
    output_tokens: float
    served_tokens: float
    block_size: int

    def served(self, tokens_held: float) -> ServedLengths:
        """Lengths with the chance of an early end and the correlation with which requests are as measured.

        The chance to end early gives the mean tokens served. The correlation gives the mean KV tokens of a
        running request, which every run has measured: long answers run longest, so that a prompt that goes
        with a short answer is seldom in the batch.

        Parameters
        ----------
        tokens_held
            Mean KV tokens of a running request, in whole blocks; nan leaves the lengths uncorrelated.
        """

        def too_long(stop: float) -> float:
            return self._moments(_with(self.lengths, stop, 0.0))[0] - self.served_tokens

        stop = crossing(too_long, 0.0, LIKELIEST_STOP, LIKELIEST_STOP / 2**20)

        def too_many(opposed: float) -> float:
            return self._moments(_with(self.lengths, stop, -opposed))[1] - tokens_held

        opposed = 0.0
        if not math.isnan(tokens_held):
            opposed = crossing(too_many, 0.0, STRONGEST_CORRELATION, STRONGEST_CORRELATION / 2**20)
        return _with(self.lengths, round(stop, 7), round(-opposed, 3))

    def tokens_held(self, lengths: ServedLengths) -> float:
        """Mean KV tokens of a running request with other lengths, as drawn, in whole blocks."""
        own_means = replace(
            self, prompt_tokens=lengths.prompt.mean_tokens, output_tokens=lengths.output.mean_tokens
        )
        return own_means._moments(lengths)[1]

    def _moments(self, lengths: ServedLengths) -> tuple[float, float]:
        """Mean tokens served, and mean KV tokens in blocks of a running request."""
        rng = np.random.default_rng(0)
        prompt, output = draw_served_lengths(lengths, DRAWS, self.prompt_tokens, self.output_tokens, rng)
        steps = output.astype(np.float64)
        # An answer is half done on the average, and the last of its blocks half full.
        held = prompt + steps / 2 + self.block_size / 2
        return float(steps.mean()), float((held * steps).sum() / steps.sum())


def offered_lengths(bins: pd.DataFrame, means: pd.DataFrame, block_size: int, source: str) -> OfferedLengths:
    """Lengths as offered, from their tables.

    Parameters
    ----------
    bins, means
        Rows of `twin.calibration.measurements.LengthBin` and ``LengthMeans``.
    block_size
        Tokens of a KV block.
    source
        What messages call the measurements.

    Raises
    ------
    ScenarioError
        If there is not one row of means, or no histogram of a kind.
    """
    if len(means) != 1:
        problem = Problem("length_means", f"has {len(means)} rows of the model", "give one")
        raise ScenarioError([problem], source)
    row = means.to_dict(orient="records")[0]
    lengths = ServedLengths(
        prompt=_rescaled(bins, "prompt", row["prompt_tokens"], source),
        output=_rescaled(bins, "output", row["output_tokens"], source),
        max_total_tokens=row["max_total_tokens"],
    )
    return OfferedLengths(
        lengths=lengths,
        prompt_tokens=row["prompt_tokens"],
        output_tokens=row["output_tokens"],
        served_tokens=row["served_tokens"],
        block_size=block_size,
    )


def _rescaled(bins: pd.DataFrame, kind: str, mean: float, source: str) -> HistogramLengths:
    part = bins[bins["kind"] == kind]
    low, high = part["bin_lo"].to_list(), part["bin_hi"].to_list()
    path = f"length_histograms of kind {kind}"
    if low[1:] != high[:-1]:
        problem = Problem(path, "have a gap between two bins", "give every bin, in order")
        raise ScenarioError([problem], source)
    histogram: dict[str, object] = {"edges": low + high[-1:], "weights": part["count"].to_list()}
    shape = params_from(histogram, HistogramLengths, f"{source}: {path}")
    factor = mean / shape.mean_tokens
    edges = tuple(max(1.0 + 1e-6 * k, round(edge * factor, 4)) for k, edge in enumerate(shape.edges))
    scaled: dict[str, object] = {"edges": edges, "weights": shape.weights}
    return params_from(scaled, HistogramLengths, f"{source}: {path}, scaled to a mean of {mean:g}")


def _with(lengths: ServedLengths, stop: float, correlation: float) -> ServedLengths:
    return lengths.model_copy(update={"stop_per_token": stop, "rank_correlation": correlation})


def crossing(value: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a function that rises or falls from ``low`` to ``high`` crosses 0; the nearer end if it does not.

    Parameters
    ----------
    value
        The function; it may be a step function, so it is bisected.
    low, high
        Ends of the interval.
    tolerance
        Width of the interval at which its middle is good enough.
    """
    at_low, at_high = value(low), value(high)
    if at_low * at_high >= 0:
        return low if abs(at_low) <= abs(at_high) else high
    # scipy stops where half the width is below xtol, and returns the middle.
    return float(bisect(value, low, high, xtol=0.75 * tolerance))
