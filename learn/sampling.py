"""Twin runs for learning: every random composition is loaded more and less until its boundary is bracketed.

The runs of one composition depend on the seed, its number and the rounds before, and on nothing else:
not on the number of workers, and not on where an interrupted sampling was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from learn.boundary import BoundaryModel, fit_boundary
from learn.dataset import Dataset, DatasetError, read_dataset, table_of
from learn.design import Composition, Space, compositions
from learn.features import FEATURES, Engines, candidate_features
from twin.validation import judge

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

FIRST_GUESS_PER_S = 16.0
"""Total rate in requests/s at which the searches of the first round start."""

BLIND_REACH = 1.5
"""Factor by which searches of the first round change the load first."""

MAX_STEP = 4.0
"""Largest factor by which the load changes between two runs of a search."""

LEAST_RATE_PER_S = 1e-3
"""Total rate below which a search gives up: the composition starves at any load."""


@dataclass(frozen=True)
class Plan:
    """How much to sample.

    Parameters
    ----------
    compositions
        Random mixes of adapters.
    round_size
        Mixes per round; the first round searches from one load for all, later rounds start where the
        rounds before put the boundary.
    max_runs
        Most runs to bracket the boundary of one mix.
    width
        Ratio of the bracket's ends at which the search stops.
    spread
        Runs of each mix at random loads away from its boundary, as many below as above over all mixes.
    seed
        Seed of the design and of the twin.
    """

    compositions: int = 640
    round_size: int = 64
    max_runs: int = 7
    width: float = 1.03
    spread: int = 1
    seed: int = 0


def sample(
    space: Space,
    plan: Plan,
    *,
    workers: int = 1,
    directory: str | Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Run the twin over a design.

    Parameters
    ----------
    space
        What a GPU can be given.
    plan
        How much to sample.
    workers
        Processes; inside ``joblib.parallel_config(backend="ray")`` or ``"dask"`` the runs go to that
        cluster. The data are the same for any number.
    directory
        Where each finished round is kept; a sampling that was interrupted goes on from there.
    progress
        Called after every composition.

    Raises
    ------
    DatasetError
        If the directory holds rounds of another sampling.
    """
    metadata = {"space": space.describe(), "plan": asdict(plan)}
    folder = Path(directory) if directory is not None else None
    rounds: list[pd.DataFrame] = []
    for first in range(0, plan.compositions, plan.round_size):
        so_far = Dataset(pd.concat(rounds, ignore_index=True), metadata) if rounds else None
        path = folder / f"round-{first // plan.round_size:04d}.csv" if folder is not None else None
        if path is not None and path.exists():
            done = _resumed(path, metadata)
        else:
            done = _round(space, plan, first, so_far, metadata, workers, progress)
            if path is not None:
                done.save(path)
        rounds.append(done.table)
    return Dataset(pd.concat(rounds, ignore_index=True), metadata)


def _resumed(path: Path, metadata: dict[str, Any]) -> Dataset:
    done = read_dataset(path)
    if done.metadata != metadata:
        raise DatasetError(f"{path}: holds runs of another sampling; name another directory or delete it")
    return done


def _round(
    space: Space,
    plan: Plan,
    first: int,
    so_far: Dataset | None,
    metadata: dict[str, Any],
    workers: int,
    progress: Progress | None,
) -> Dataset:
    last = min(first + plan.round_size, plan.compositions)
    model = fit_boundary(so_far) if so_far is not None else None
    reach = BLIND_REACH if model is None else plan.width
    jobs = [
        delayed(search)(space, plan, one, _guess(space, one, model), reach)
        for one in compositions(space, first, last, plan.seed)
    ]
    rows: list[dict[str, float]] = []
    searches = Parallel(n_jobs=workers, batch_size=1, return_as="generator")(jobs)
    for done, found in enumerate(searches, start=first + 1):
        rows.extend(found)
        if progress is not None:
            progress("sampling the twin", done, plan.compositions)
    return Dataset(table_of(rows), metadata)


def _guess(space: Space, composition: Composition, model: BoundaryModel | None) -> float:
    """Total rate in requests/s at which a search starts."""
    if model is None:
        return FIRST_GUESS_PER_S
    low, high = math.log(LEAST_RATE_PER_S), math.log(1e4)
    for _ in range(40):
        middle = (low + high) / 2
        sums = composition.sums(space, math.exp(middle))
        low, high = (middle, high) if model.fill(sums[None, :], *composition.engine)[0] < 1 else (low, middle)
    return math.exp(low)


def search(
    space: Space, plan: Plan, composition: Composition, guess: float, reach: float
) -> list[dict[str, float]]:
    """Runs of one composition: the bracket of its boundary, then a few at random loads around it.

    Parameters
    ----------
    guess
        Total rate in requests/s to start from.
    reach
        Factor by which the load changes first; later changes are larger until the boundary is bracketed.
    """
    rows: list[dict[str, float]] = []
    half = math.sqrt(plan.width)
    accepted, starved, rate = 0.0, math.inf, guess * half
    while len(rows) < plan.max_runs and starved > accepted * plan.width * 1.001 and rate > LEAST_RATE_PER_S:
        rows.append(observe(space, composition, rate, len(rows), plan.seed))
        if rows[-1]["starved"]:
            starved = min(starved, rate)
            margin = rows[-1]["served_share"] / space.service_levels.served_share
            rate = starved * min(max(margin, 1 / MAX_STEP) / half, 1 / reach)
        else:
            accepted = max(accepted, rate)
            rate = accepted * reach
        if rate <= accepted or rate >= starved:
            rate = math.sqrt(accepted * starved)
        if len(rows) > 1:
            reach = min(reach**1.7, MAX_STEP)
    boundary = math.sqrt(accepted * starved) if accepted > 0 and starved < math.inf else rate
    rng = np.random.default_rng((plan.seed, 4, composition.index))
    for k in range(plan.spread):
        below = (composition.index // 2 + k) % 2 == 0
        factor = rng.uniform(0.1, 1.0) if below else rng.uniform(1.0, 1.5)
        rows.append(observe(space, composition, boundary * factor, len(rows), plan.seed))
    return rows


def observe(
    space: Space, composition: Composition, total_rate: float, run: int, seed: int
) -> dict[str, float]:
    """One twin run as a row of a dataset; all runs of a composition share their random numbers."""
    option, load = composition.option, composition.load(space, total_rate)
    verdict = judge(
        load,
        space.workload,
        space.engine,
        space.profile,
        max_loras=option.max_loras,
        max_lora_rank=option.max_lora_rank,
        service_levels=space.service_levels,
        gpu_memory_gib=space.memory_gib,
        seed=seed * 1_000_003 + composition.index,
        replications=1,
    )
    tokens = space.mean_tokens[composition.pair]
    engines = Engines(*(np.array([float(value)]) for value in composition.engine))
    features = candidate_features(
        load.rate, load.rank, tokens[:, 0], tokens[:, 1], np.ones((1, len(load.rate))), engines
    )[0]
    offered = verdict.offered_tok_per_s
    return {
        "composition": composition.index,
        "run": run,
        "total_rate": total_rate,
        **dict(zip((f.name for f in FEATURES), features.tolist(), strict=True)),
        "throughput_tok_per_s": verdict.served_tok_per_s,
        "itl_ms": _number(verdict.itl_ms),
        "ttft_ms": _number(verdict.ttft_ms),
        "served_share": min(verdict.served_tok_per_s / offered, 1.0) if offered > 0 else 1.0,
        "worst_served_share": verdict.worst_served_share,
        "starved": int(not verdict.accepted),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value
