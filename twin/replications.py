"""Several seeds of one simulation, with confidence intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import delayed
from scipy.special import stdtrit

from scenarios.engine import EngineConfig
from scenarios.workload import Workload
from twin.load import GPULoad
from twin.metrics import GPUMetrics
from twin.parallel import in_processes
from twin.profile import EngineProfile
from twin.result import SimulationResult
from twin.simulate import simulate

_FIGURES: dict[str, Callable[[GPUMetrics], float]] = {
    "offered_tok_per_s": lambda g: g.offered_tok_per_s,
    "served_tok_per_s": lambda g: g.served_tok_per_s,
    "input_tok_per_s": lambda g: g.input_tok_per_s,
    "output_tok_per_s": lambda g: g.output_tok_per_s,
    "served_share": lambda g: g.served_share,
    "ttft_mean_s": lambda g: g.ttft.mean_s,
    "ttft_p99_s": lambda g: g.ttft.p99_s,
    "itl_mean_s": lambda g: g.itl.mean_s,
    "itl_p99_s": lambda g: g.itl.p99_s,
    "tpot_mean_s": lambda g: g.tpot.mean_s,
    "e2e_mean_s": lambda g: g.e2e.mean_s,
    "queueing_mean_s": lambda g: g.queueing.mean_s,
    "preemptions": lambda g: float(g.preemptions),
    "gpu_loads": lambda g: float(g.gpu_loads),
    "running": lambda g: g.running,
    "waiting": lambda g: g.waiting,
    "adapters": lambda g: g.adapters,
    "kv_use": lambda g: g.kv_use,
}

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Interval:
    """Mean of a figure over runs, with a confidence interval of Student's t; nan if there is none."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray[Any, np.dtype[np.float64]], confidence: float) -> Interval:
    """Confidence interval of the mean of independent values; those that are nan are left out."""
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return Interval(float(known.mean()) if len(known) else math.nan, math.nan, math.nan)
    mean = float(known.mean())
    quantile = stdtrit(len(known) - 1, (1 + confidence) / 2)
    half = float(quantile * known.std(ddof=1) / math.sqrt(len(known)))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Replications:
    """Independent runs of one GPU.

    Parameters
    ----------
    runs
        One result per seed, in the order of the seeds.
    confidence
        Of the intervals.
    """

    runs: tuple[SimulationResult, ...]
    confidence: float = 0.95

    @cached_property
    def figures(self) -> dict[str, Interval]:
        """Mean and interval of each of the GPU's figures."""
        return {
            name: interval(np.array([figure(run.gpu) for run in self.runs]), self.confidence)
            for name, figure in _FIGURES.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per figure."""
        import pandas as pd

        rows = [(name, i.mean, i.low, i.high) for name, i in self.figures.items()]
        return pd.DataFrame(rows, columns=["figure", "mean", "low", "high"])

    def to_json(self, indent: int | None = 2) -> str:
        """Figures as JSON text; null where there is no interval."""
        figures = {
            name: {k: v if math.isfinite(v) else None for k, v in vars(i).items()}
            for name, i in self.figures.items()
        }
        document = {"runs": len(self.runs), "confidence": self.confidence, "figures": figures}
        return json.dumps(document, indent=indent, allow_nan=False)

    def summary(self) -> str:
        """One line per figure, for a terminal."""
        head = f"{len(self.runs)} runs, {100 * self.confidence:g} % confidence"
        lines = [
            f"{name:<22}{i.mean:14,.4g}  [{i.low:,.4g}, {i.high:,.4g}]" for name, i in self.figures.items()
        ]
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return html


def replicate(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    seed: int = 0,
    replications: int = 5,
    workers: int = 1,
    confidence: float = 0.95,
    gpu_memory_gib: float | None = None,
    kv_cache_tokens: int | None = None,
    max_inflight: int = 0,
) -> Replications:
    """Simulate one GPU with several seeds.

    Parameters
    ----------
    load, workload, engine, profile, max_loras, max_lora_rank
        As in ``simulate``.
    seed
        The seeds of the runs are spawned from it.
    replications
        Runs.
    workers
        Processes; the result does not depend on it.
    confidence
        Of the intervals.
    gpu_memory_gib, kv_cache_tokens, max_inflight
        As in ``simulate``.

    Raises
    ------
    MemoryFailure
        If the engine does not start.
    """
    seeds = np.random.SeedSequence(seed).spawn(replications)
    jobs = (
        delayed(simulate)(
            load,
            workload,
            engine,
            profile,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            seed=child,
            gpu_memory_gib=gpu_memory_gib,
            kv_cache_tokens=kv_cache_tokens,
            max_inflight=max_inflight,
        )
        for child in seeds
    )
    return Replications(tuple(in_processes(jobs, max(min(workers, replications), 1))), confidence)
