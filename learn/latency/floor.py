"""Floors of latencies: what no GPU that the twin accepts is faster than, by sums over its adapters.

A step of time t serves what has come in by then, so the time of a step is a fixed point: the least t with
``cost(t) <= t``. What the batch costs that t leads to is bounded from below by expressions that for a given t
are linear in the additive features: rows that hold on every GPU whose steps take no longer. A latency is at
least a constant and so many steps, a line fitted to the twin's runs from below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np

from learn.bisection import bisect
from learn.features import ADDITIVE, REGIMES, RESIDENCE_S, BoolArray, FloatArray, Regime
from learn.latency.upper import fit_quantile
from learn.params import LatencyFloorParams
from learn.region import Floored, LatencyFloor
from learn.space import DesignSpace
from learn.storage.dataset import Dataset
from scenarios import EngineConfig, EngineOption
from twin import EngineProfile
from twin.step_cost import CostTerm

LONGEST_S = 4.0
"""Longest step that is told; no step of an engine that keeps up takes as long."""

SHORTEST_S = 1e-4
HALVINGS = 40

_COUNT = ADDITIVE.index("count")
_OUTPUT, _PROMPT, _RESIDENT = (ADDITIVE.index(f"{name}_rate") for name in ("output", "prompt", "resident"))
_ACTIVE = [ADDITIVE.index(f"active_{w:g}s") for w in RESIDENCE_S]


@dataclass(frozen=True, eq=False)
class StepFloor:
    """Least cost of the steps of one engine, in seconds.

    Parameters
    ----------
    bases, per_token_s
        The cost of tokens lies above each of these lines, shape (n,); every base is at least 0.
    per_adapter_s
        Cost of each distinct adapter in a batch, at least, up to as many as there are slots.
    per_held_s
        Cost of each adapter that the GPU serves, at least, beside ``bases``.
    slots
        Adapter slots.
    regime
        Whether adapters share the slots. Where they do not, plans give slots beyond the adapters back, and
        slots cost by the adapter.
    decode_s, prefill_s, context_s
        Cost of a request that is decoded, of a token of a prompt, and of a token of context.
    output_tokens
        Mean answer, of the shortest where they differ: as long does a request stay.
    """

    bases: FloatArray
    per_token_s: FloatArray
    per_adapter_s: float
    per_held_s: float
    slots: int
    regime: Regime
    decode_s: float
    prefill_s: float
    context_s: float
    output_tokens: float

    @classmethod
    def of(
        cls,
        profile: EngineProfile,
        option: EngineOption,
        regime: Regime,
        engine: EngineConfig,
        output_tokens: float,
    ) -> StepFloor:
        """The floor of an option's steps under a regime.

        With a slot for every adapter it is that of GPUs with more adapters than the next fewer slots hold:
        others are GPUs of the option with these.
        """
        slots, rank = option.max_loras, option.max_lora_rank
        fewest = max((s + 1 for s in engine.slot_choices if s < slots), default=1)
        fewest = slots if regime == "shared" else fewest
        terms = profile.step.terms
        tokens = np.arange(1, engine.max_num_batched_tokens + 1, dtype=np.float64)
        adapters = np.arange(1, slots + 1, dtype=np.float64)
        by_tokens, by_adapters = np.zeros_like(tokens), np.zeros_like(adapters)
        each = {"decode": 0.0, "prefill": 0.0, "context": 0.0}
        per_held = 0.0
        for term in terms:
            # Adapters served, waiting requests and prompts only add: one, none and none are the fewest.
            scale = min(term.scale(fewest, rank, 1), term.scale(slots, rank, 1))
            if term.per == "step" and term.adapters_power is None and term.tokens_above is None:
                slope = _per_slot(term, fewest, slots, rank)
                per_held += slope
                by_tokens += scale - fewest * slope
            elif term.per in each:
                each[term.per] += scale
            elif term.per == "step" and term.adapters_power is None:
                by_tokens += scale * term.of_tokens(tokens)
            elif term.per == "step":
                by_adapters += scale * term.of_adapters(adapters)
        bases, slopes = _lines_below(tokens, by_tokens)
        per_adapter = max(float((by_adapters / adapters).min()), 0.0)
        per_unit = each["decode"], each["prefill"], each["context"]
        of_adapters = per_adapter, per_held, slots, regime
        return cls(bases, slopes, *of_adapters, *per_unit, output_tokens)

    def rows(self, step_s: float, *, crowded: bool = False) -> tuple[FloatArray, FloatArray]:
        """Costs of steps that take a time, linear in the features; none is more than what a step costs.

        Parameters
        ----------
        step_s
            Time of a step in seconds.
        crowded
            Whether the batch has as many distinct adapters as slots, or one for each that has a request.

        Returns
        -------
        tuple
            Constants in seconds, shape (n,), and coefficients of at least 0, shape (n, K).
        """
        slopes = np.zeros((len(self.bases), len(ADDITIVE)))
        slopes[:, _OUTPUT] = step_s * (self.decode_s + self.per_token_s)
        slopes[:, _PROMPT] = step_s * (self.prefill_s + self.per_token_s)
        slopes[:, _RESIDENT] = step_s * self.context_s * 1e6
        slopes[:, _COUNT] = self.per_held_s
        if not crowded:
            slopes[:, _ACTIVE] += self.per_adapter_s * _weights(np.array([self.output_tokens * step_s]))
        return self.bases + crowded * self.per_adapter_s * self.slots, slopes

    def least_s(self, sums: FloatArray) -> FloatArray:
        """The least time of a step on GPUs with these feature sums, shape (m, K) to (m,)."""
        output, prompt = sums[:, _OUTPUT], sums[:, _PROMPT]
        load = self.decode_s * output + self.prefill_s * prompt + self.context_s * 1e6 * sums[:, _RESIDENT]

        def too_short(log_s: FloatArray) -> BoolArray:
            step_s = np.exp(log_s)
            tokens = self.bases + np.outer(step_s * (output + prompt), self.per_token_s)
            active = (sums[:, _ACTIVE] * _weights(self.output_tokens * step_s)).sum(axis=1)
            distinct = np.minimum(active, self.slots) if self.regime == "shared" else active
            cost = tokens.max(axis=1) + load * step_s + self.per_adapter_s * distinct
            cost += self.per_held_s * sums[:, _COUNT]
            return np.asarray(cost > step_s)

        ends = (np.full(len(sums), np.log(end)) for end in (SHORTEST_S, LONGEST_S))
        return np.asarray(np.exp(bisect(too_short, *ends, halvings=HALVINGS)[0]))


def _per_slot(term: CostTerm, fewest: int, slots: int, rank: int) -> float:
    """What each slot after the fewest adds to a term, at least, up to so many slots."""
    if slots <= fewest or term.seconds <= 0:
        return 0.0
    # Powers below 1 are concave, above the chord; those above 1 convex, and grow least at first.
    end = fewest + 1 if term.slots_power > 1 else slots
    return (term.scale(end, rank, 1) - term.scale(fewest, rank, 1)) / (end - fewest)


def _lines_below(tokens: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercepts and slopes of lines below a curve, the sides of its lower convex hull.

    Lines with an intercept below 0 are left out: the cost over the time of a step falls with the time then,
    and so a GPU has steps of at most a time if and only if such a step costs no more than it.
    """
    x, y, hull = tokens.tolist(), cost.tolist(), [0]
    for k in range(1, len(tokens)):
        while len(hull) > 1 and _left_of(x, y, hull[-2], hull[-1], k):
            hull.pop()
        hull.append(k)
    lines = []
    for a, b in pairwise(hull):
        slope = (cost[b] - cost[a]) / (tokens[b] - tokens[a])
        lines.append((cost[a] - slope * tokens[a], slope))
    kept = [(base, slope) for base, slope in lines if base >= 0 and slope >= 0]
    bases, slopes = zip(*(kept or [(max(float(cost.min()), 0.0), 0.0)]), strict=True)
    return np.array(bases), np.array(slopes)


def _left_of(x: Sequence[float], y: Sequence[float], a: int, b: int, c: int) -> bool:
    """Whether point b lies on or above the line from a to c."""
    return (y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a])


def _weights(residence_s: FloatArray) -> FloatArray:
    """Weights of the features of adapters with a request in a time that add up to those in another.

    Between two of the features' times on the chord, which lies below: the expected number is concave.

    Parameters
    ----------
    residence_s
        Times in seconds, shape (m,).

    Returns
    -------
    numpy.ndarray
        Shape (m, residences).
    """
    ends = np.array([0.0, *RESIDENCE_S])
    within = np.clip(residence_s, 0.0, ends[-1])
    right = np.clip(np.searchsorted(ends, within), 1, len(ends) - 1)
    part = (within - ends[right - 1]) / (ends[right] - ends[right - 1])
    weights = np.zeros((len(within), len(ends)))
    row = np.arange(len(within))
    weights[row, right - 1] = 1.0 - part
    weights[row, right] = part
    return weights[:, 1:]  # nobody has a request in no time


def fit_floors(
    dataset: Dataset, confirmed: Dataset | None, space: DesignSpace, params: LatencyFloorParams
) -> tuple[LatencyFloor, ...]:
    """The floors of the latencies under both regimes, where there are accepted runs enough to tell.

    Parameters
    ----------
    dataset
        Twin runs of the space.
    confirmed
        Runs of some of its mixes by the whole rule; no fit sees them, and floors lie below them too.

    Notes
    -----
    There are none where rates change in the course of time: then chance decides what load a run had. Nor
    are there where the engine speculates: `StepFloor` knows steps that give a request one token.
    """
    if not space.steady or space.engine.speculation is not None:
        return ()
    steps = {regime: _Runs.of(dataset, space, regime) for regime in REGIMES}
    again = {r: None if confirmed is None else _Runs.of(confirmed, space, r) for r in REGIMES}
    found = (_fitted(name, r, steps[r], again[r], params) for r in REGIMES for name in get_args(Floored))
    return tuple(floor for floor in found if floor is not None)


def as_run(space: DesignSpace, option: EngineOption) -> StepFloor:
    """The floor of the steps of an option as a space runs it, with all of its slots."""
    shortest = float(space.figures.output.min())
    return StepFloor.of(space.profile, option, "shared", space.engine, shortest)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Accepted runs of one regime.

    Parameters
    ----------
    runs
        The runs.
    step_ms
        The least time of a step of each, shape (n,).
    """

    runs: Dataset
    step_ms: FloatArray

    @classmethod
    def of(cls, dataset: Dataset, space: DesignSpace, regime: Regime) -> _Runs:
        runs = dataset.where(~dataset.starved & (dataset.shared == (regime == "shared")))
        step_ms = np.zeros(len(runs))
        for option in space.options:
            own = (runs.engines == option.numbers).all(axis=1)
            if own.any():
                step_ms[own] = as_run(space, option).least_s(runs.sums[own]) * 1e3
        return cls(runs, step_ms)


def _fitted(
    name: Floored, regime: Regime, known: _Runs, again: _Runs | None, params: LatencyFloorParams
) -> LatencyFloor | None:
    """The floor of one latency: a constant and so many steps, lowered until few runs lie below.

    Runs are held against what was fitted to runs of other mixes.
    """
    y = known.runs.target(name)
    told = np.isfinite(y) & (y > 0)
    y, step_ms = y[told], known.step_ms[told]
    mixes, fold = np.unique(known.runs.groups[told], return_inverse=True)
    fold %= params.folds
    if len(y) < params.least_runs or len(mixes) < params.folds:
        return None
    held_out = np.empty(len(y))
    for k in range(params.folds):
        base, steps = _line(step_ms[fold != k], y[fold != k], params.share_below)
        held_out[fold == k] = y[fold == k] / (base + steps * step_ms[fold == k])
    base, steps = _line(step_ms, y, params.share_below)
    ratios = held_out
    if again is not None:
        whole = again.runs.target(name)
        seen = np.isfinite(whole) & (whole > 0)
        ratios = np.concatenate([held_out, whole[seen] / (base + steps * again.step_ms[seen])])
    lowest = float(np.quantile(ratios, params.held_out_below, method="lower"))
    margin = params.percentile_margin if name == "ttft_p99_ms" else params.margin
    lowered = min(1.0, margin * lowest)
    return LatencyFloor(
        latency=name,
        regime=regime,
        base_ms=_short(lowered * base),
        steps=_short(lowered * steps),
        runs=len(ratios),
        below=_short((ratios < lowered).mean()),
    )


def _line(step_ms: FloatArray, y: FloatArray, share_below: float) -> tuple[float, float]:
    """Constant and slope, at least 0, of the line above which all but a share of the runs lie."""
    columns = np.column_stack([np.ones(len(y)), step_ms])
    base, steps = fit_quantile(columns, y, y, share_below)
    return float(base), float(steps)


def _short(value: float) -> float:
    """A number with six significant digits."""
    return float(f"{value:.6g}")
