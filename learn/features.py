"""What a model may know of the adapters on one GPU; every feature is defined here and nowhere else.

A feature is *additive* when the value of a GPU is the sum over its adapters. Only additive features
can become linear rows Σ_i φ_k(i) ≤ b of an exact model; the surrogates may use the others too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learn.traffic.kinds import WAIT_S, TrafficFigures
from scenarios import AdapterClass
from scenarios.engine import Regime as Regime
from twin.workload.lengths import mean_square_tokens

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

REGIMES: tuple[Regime, ...] = get_args(Regime)

RESIDENCE_S = (1.0, 4.0, 16.0, 64.0, 256.0)
"""Residence times W of the features 1 − e^(−λW), in seconds: from one answer to a long queue."""

HOLD_MS_PER_TOKEN = (20.0, 40.0, 80.0, 160.0)
"""Times per output token in ms: from light load to an engine at its limit."""

VARIANCE = "output_variance"
"""Name of the feature of rates that wander; a surrogate has the concentration of the rates in its place."""


@dataclass(frozen=True)
class Feature:
    """One feature of the adapters on a GPU, or of the engine that serves them.

    Parameters
    ----------
    name
        Column name.
    unit
        Unit of the value.
    additive
        Whether a GPU's value is the sum over its adapters.
    meaning
        What it measures.
    """

    name: str
    unit: str
    additive: bool
    meaning: str


_SUMS = (
    Feature("count", "adapters", True, "adapters on the GPU, without the base model"),
    Feature("rate", "requests/s", True, "requests per second"),
    Feature("prompt_rate", "tokens/s", True, "rate times mean prompt length, of what no prefix cache has"),
    Feature("output_rate", "tokens/s", True, "rate times mean output length"),
    Feature("resident_rate", "10^6 tokens²/s", True, "rate times contexts: E[prompt · output + output²/2]"),
    Feature("sqrt_rate", "(requests/s)^0.5", True, "square roots of the rates"),
    *(
        Feature(f"active_{w:g}s", "adapters", True, f"adapters with a request in {w:g} s: 1 − e^(−λW)")
        for w in RESIDENCE_S
    ),
    *(
        Feature(f"held_{ms:g}ms", "slots", True, f"share of the time with a slot, at {ms:g} ms a token")
        for ms in HOLD_MS_PER_TOKEN
    ),
    Feature(
        VARIANCE, "10^6 (tokens/s)²", True, "variance of the output tokens per second, where rates wander"
    ),
)

_OTHERS = (
    Feature("rate_std", "requests/s", False, "standard deviation of the adapters' rates"),
    Feature("rate_max", "requests/s", False, "largest rate of an adapter"),
    Feature("rate_concentration", "1", False, "Σλ² / (Σλ)²: 1 when one adapter has all the load"),
    Feature("rank_mean", "1", False, "mean rank of the adapters"),
    Feature("rank_max", "1", False, "largest rank of an adapter"),
    Feature("rank_std", "1", False, "standard deviation of the ranks"),
    Feature("prompt_mean", "tokens", False, "mean prompt of a request"),
    Feature("output_mean", "tokens", False, "mean output of a request"),
    Feature("max_loras", "slots", False, "adapter slots of the engine"),
    Feature("max_lora_rank", "1", False, "rank that every slot is padded to"),
    Feature("kv_cache_tokens", "tokens", False, "capacity of the KV cache"),
    Feature("slot_demand", "1", False, "adapters per slot, at most 1 counts"),
    Feature("slot_pressure", "1", False, "adapters with a request in 16 s per slot"),
    Feature("token_rate", "tokens/s", False, "prompt and output tokens per second"),
    Feature("kv_pressure", "s", False, "resident tokens² per second and token of KV cache"),
)

FEATURES = (*_SUMS, *_OTHERS)
"""All features, the additive ones first."""

ADDITIVE = tuple(feature.name for feature in FEATURES if feature.additive)
"""Names of the additive features: the columns of `additive_features`."""


def additive_columns(
    rate: ArrayLike,
    prompt: ArrayLike,
    output: ArrayLike,
    output_square: ArrayLike,
    wait_s: ArrayLike = WAIT_S,
    wander: ArrayLike = 0.0,
    *,
    context: ArrayLike | None = None,
    bursts: ArrayLike = 0.0,
    adapter: ArrayLike = 1.0,
) -> FloatArray:
    """Additive features of single adapters, and of traffic of the base model.

    Parameters
    ----------
    rate
        Requests per second, shape (n,).
    prompt, output, output_square
        Mean prompt and output tokens, and mean square of the output tokens, shape (n,).
    wait_s
        Seconds that an adapter may wait for a slot.
    wander
        Variance of an adapter's rate over the square of its mean; 0 unless rates wander.
    context
        Mean tokens of a whole prompt, where ``prompt`` is only what is computed of it; None: all of it is.
    bursts
        Variance of the requests per second over their mean, beyond that of Poisson arrivals, in 1/s.
    adapter
        1 for an adapter, 0 for traffic of the base model, which takes no slot and can be cut anywhere.

    Returns
    -------
    numpy.ndarray
        Shape (n, K), columns as in `ADDITIVE`.
    """
    held = prompt if context is None else context
    given = rate, prompt, output, output_square, held, adapter
    lam, p, o, o2, c, one = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in given))
    # Tokens per second add up over adapters; so does, as expectations do, the number of those with a request
    # in a time, whatever their arrivals have to do with each other. Roots of rates tell many cold adapters
    # from few hot ones of the same total rate. The base model's traffic has none of these, so that parts of
    # it add up to the whole.
    columns = [one, lam, lam * p, lam * o, lam * (c * o + o2 / 2) / 1e6, one * np.sqrt(lam)]
    columns += [one * -np.expm1(-lam * w) for w in RESIDENCE_S]
    columns += [one * _held(lam, o * ms / 1e3, np.asarray(wait_s)) for ms in HOLD_MS_PER_TOKEN]
    # Walks are independent, so their variances add up: of the same mean load, few hot adapters peak higher.
    columns += [(np.asarray(wander) * (lam * o) ** 2 + np.asarray(bursts) * lam * o**2) / 1e6]
    return np.stack(columns, axis=1)


def figure_columns(rate: ArrayLike, adapter: ArrayLike, figures: TrafficFigures) -> FloatArray:
    """Additive features of adapters whose traffic has these figures; arguments as of `additive_columns`."""
    return additive_columns(
        rate,
        figures.prompt,
        figures.output,
        figures.output_square,
        figures.wait_s,
        figures.wander,
        context=figures.context,
        bursts=figures.bursts,
        adapter=adapter,
    )


def _held(rate: FloatArray, residence_s: FloatArray, wait_s: FloatArray) -> FloatArray:
    """Share of the time that adapters hold a slot for which they wait whenever they have given it back.

    An adapter keeps its slot as long as it has a request in the batch: the busy period of an M/G/∞ queue,
    (e^(λW) − 1)/λ on average (Takács, Introduction to the Theory of Queues, 1962). Then it is idle for 1/λ
    and waits. So cold adapters hold little, and those with λW well above 1 never let go.
    """
    x = rate * residence_s
    return np.asarray(-np.expm1(-x) / (1.0 + rate * wait_s * np.exp(-x)))


def shares_slots(adapters: ArrayLike, slots: ArrayLike) -> BoolArray:
    """Whether GPUs are in the shared regime, in the shape of the arguments.

    Numbers of adapters may be rounded sums and means of equal ones, so half an adapter counts as none.
    """
    return np.asarray(np.asarray(adapters) > np.asarray(slots) + 0.5)


def additive_features(
    classes: Sequence[AdapterClass], *, load: float = 1.0, wait_s: float = WAIT_S, wander: float = 0.0
) -> FloatArray:
    """Additive features of one adapter of each class, as far as lengths tell them.

    Parameters
    ----------
    load
        By what the rates are multiplied.
    wait_s
        Seconds that an adapter may wait for a slot.
    wander
        Variance of an adapter's rate over the square of its mean; 0 unless rates wander.

    Returns
    -------
    numpy.ndarray
        Shape (n_classes, K), columns as in `ADDITIVE`; ``counts @ additive_features(classes)`` are the
        sums of a GPU with ``counts`` adapters of each class.
    """
    return additive_columns(
        [load * c.rate for c in classes],
        [c.prompt.mean_tokens for c in classes],
        [c.output.mean_tokens for c in classes],
        [mean_square_tokens(c.output) for c in classes],
        wait_s,
        wander,
        adapter=[float(c.rank > 0) for c in classes],
    )


@dataclass(frozen=True)
class Engines:
    """Engines of candidates, one entry per candidate: arrays of shape (m,).

    Parameters
    ----------
    max_loras, max_lora_rank
        Slots and the rank of every slot.
    kv_cache_tokens
        Capacity of the KV cache in tokens.
    """

    max_loras: FloatArray
    max_lora_rank: FloatArray
    kv_cache_tokens: FloatArray


def candidate_features(
    rate: ArrayLike,
    rank: ArrayLike,
    prompt: ArrayLike,
    output: ArrayLike,
    output_square: ArrayLike,
    counts: ArrayLike,
    engines: Engines,
    wait_s: ArrayLike = WAIT_S,
    wander: ArrayLike = 0.0,
    *,
    context: ArrayLike | None = None,
    bursts: ArrayLike = 0.0,
) -> FloatArray:
    """All features of m candidates: how many adapters of each of n classes, on which engine.

    Parameters
    ----------
    rate, rank, prompt, output, output_square
        Requests per second, LoRA rank (0: the base model), mean prompt and output tokens and mean square of
        the output tokens of one adapter of each class, shape (n,).
    counts
        Adapters of each class in each candidate, shape (m, n).
    engines
        The candidates' engines, arrays of shape (m,).
    wait_s, wander, context, bursts
        As of `additive_columns`.

    Returns
    -------
    numpy.ndarray
        Shape (m, len(FEATURES)), columns as in `FEATURES`.
    """
    lam, s, p, o = (np.asarray(a, dtype=np.float64) for a in (rate, rank, prompt, output))
    n, adapter = np.asarray(counts, dtype=np.float64), (s > 0).astype(np.float64)
    sums = n @ additive_columns(
        lam, p, o, output_square, wait_s, wander, context=context, bursts=bursts, adapter=adapter
    )
    # Spreads of rates and ranks are of the adapters; a class of the base model counts as none.
    of_adapters = sums[:, 1] - n @ (lam * (1.0 - adapter))
    lam, n = lam * adapter, n * adapter
    present = n > 0
    size = np.maximum(sums[:, 0], 1.0)
    total = np.maximum(sums[:, 1], 1e-12)
    squares = n @ lam**2
    active = sums[:, ADDITIVE.index("active_16s")]
    others = [
        np.sqrt(np.maximum(squares / size - (of_adapters / size) ** 2, 0.0)),
        np.where(present, lam, 0.0).max(axis=1),
        squares / total**2,
        n @ s / size,
        np.where(present, s, 0.0).max(axis=1),
        np.sqrt(np.maximum(n @ s**2 / size - (n @ s / size) ** 2, 0.0)),
        sums[:, 2] / total,
        sums[:, 3] / total,
        engines.max_loras,
        engines.max_lora_rank,
        engines.kv_cache_tokens,
        np.minimum(sums[:, 0] / engines.max_loras, 1.0),
        active / engines.max_loras,
        sums[:, 2] + sums[:, 3],
        sums[:, 4] * 1e6 / engines.kv_cache_tokens,
    ]
    return np.hstack([sums, np.stack(others, axis=1)])
