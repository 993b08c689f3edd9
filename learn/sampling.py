"""Twin runs for learning: every random composition is loaded more and less until its boundary is bracketed.

The runs of one composition depend on the seed, its number and the rounds before, and on nothing else:
not on the number of workers, and not on where an interrupted sampling was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import delayed

from learn.boundary import BoundaryError, boundary_points, fit_boundary
from learn.boundary_search import BoundarySearch
from learn.design import SamplingPlan, compositions, plan_values
from learn.features import ADDITIVE
from learn.params import DEFAULTS, LearnParams, SearchParams
from learn.region import FORMAT
from learn.space import DesignSpace
from learn.storage.cache import content_key, remove_leftovers
from learn.storage.dataset import COLUMNS, Dataset, table_of
from learn.storage.rounds import Rounds
from scenarios import UNLIMITED, Deadline, Problem, ScenarioError
from scenarios.stopping.progress import Progress, silent
from twin.parallel import in_processes

SAMPLING = "sampling the twin"
"""What is being done, for progress."""


def sample(
    space: DesignSpace,
    plan: SamplingPlan,
    *,
    params: LearnParams = DEFAULTS,
    workers: int = 1,
    near: Dataset | None = None,
    directory: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
    deadline: Deadline = UNLIMITED,
) -> Dataset:
    """Run the twin over a design.

    Parameters
    ----------
    space
        What a GPU can be given.
    plan
        How much to sample.
    params
        How mixes are drawn and their boundaries searched.
    workers
        Processes; inside ``joblib.parallel_config(backend="ray")`` or ``"dask"`` the runs go to that
        cluster. The data are the same for any number.
    near
        Runs of the same mixes by another rule, near whose boundaries theirs are looked for.
    directory
        Where each finished round is kept, if it can be; a sampling that was interrupted goes on from there.
    cache
        Folder of a cache in which the rounds are kept instead, under a name of their content, and what is not
        as it should be is replaced.
    progress
        Called with progress.
    deadline
        When to stop.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before the last run.
    DatasetError
        If the directory holds rounds of another sampling, or cannot be made.
    BoundaryError
        If no load that can be tried starves a GPU.
    ScenarioError
        If there are no workers.
    """
    if workers < 1:
        raise ScenarioError([Problem("workers", f"is {workers}", "give 1 or more")], "sample")
    step = space.profile.step.model_dump(mode="json")
    metadata = {"space": space.describe(), "plan": plan_values(plan), "step": step}
    if params.of_runs():
        metadata["params"] = params.of_runs()
    folder = Path(directory) if directory is not None else None
    if cache is not None:
        remove_leftovers(cache)
        folder = cache / "samples" / _key(metadata)
    kept = Rounds(folder, metadata, cache)
    rounds: list[pd.DataFrame] = []
    progress(SAMPLING, 0, plan.compositions)
    for number, first in enumerate(range(0, plan.compositions, plan.round_size)):
        last = min(first + plan.round_size, plan.compositions)
        done = kept.read(number, first, last)
        if done is None:
            so_far = Dataset(pd.concat(rounds, ignore_index=True), metadata) if rounds else None
            mixes = compositions(space, first, last, plan.seed, params.design)
            searches = [BoundarySearch(space, plan, mix, params) for mix in mixes]
            expected = _expected(searches, so_far) if near is None else _known(searches, near)
            done = Dataset(table_of(_round(searches, expected, workers, progress, deadline)), metadata)
            kept.keep(done, number, first, last)
        else:
            progress(SAMPLING, last, plan.compositions)
        rounds.append(done.table)
        if not first:
            _check_starved(space, done, params.search)
    return Dataset(pd.concat(rounds, ignore_index=True), metadata)


def _key(metadata: Mapping[str, Any]) -> str:
    """Name of a sampling in the cache; the profile's digest stands for its step cost."""
    given = {name: value for name, value in metadata.items() if name != "step"}
    return content_key({"columns": COLUMNS, "format": FORMAT, **given})


def _check_starved(space: DesignSpace, runs: Dataset, params: SearchParams) -> None:
    """Refuse to go on where searches ended at the heaviest load that is tried, and nothing starved."""
    heaviest, seconds = float(runs.table["total_rate"].max()), space.run_s
    if runs.starved.any() or heaviest * seconds * math.exp(params.max_step) < params.max_requests:
        return
    # How long a run is that tells whether a load is sustained is no choice of the scenario's.
    shorter = (
        "lower workload.duration_s, so that more can be tried, or " if space.acceptance == "paper" else ""
    )
    raise BoundaryError(
        f"not even {heaviest:.4g} requests/s for {seconds:g} s starve a GPU, whatever the adapters; "
        f"{shorter}demand more by service_levels"
    )


def _round(
    searches: list[BoundarySearch],
    expected: list[float | None],
    workers: int,
    progress: Progress,
    deadline: Deadline,
) -> list[dict[str, float]]:
    """Runs of the searches, as rows."""
    jobs = [delayed(BoundarySearch.runs)(*job) for job in zip(searches, expected, strict=True)]
    rows: list[dict[str, float]] = []
    finished = in_processes(jobs, workers, deadline=deadline, work="the twin was sampled")
    for search, runs in zip(searches, finished, strict=True):
        rows.extend(runs)
        progress(SAMPLING, search.composition.index + 1, search.plan.compositions)
    return rows


def _known(searches: list[BoundarySearch], near: Dataset) -> list[float | None]:
    """The boundaries of compositions by the runs of a dataset; None where it has none."""
    points = boundary_points(near, searches[0].params.boundary)
    rates = dict(zip(points.composition.tolist(), points.middle[:, ADDITIVE.index("rate")], strict=True))
    return [rates.get(search.composition.index) for search in searches]


def _expected(searches: list[BoundarySearch], so_far: Dataset | None) -> list[float | None]:
    """Where the boundaries of compositions are expected; None where nothing is known yet."""
    if so_far is None:
        return [None] * len(searches)
    params = searches[0].params
    try:
        model = fit_boundary(so_far, params.boundary)
    except BoundaryError:
        return [None] * len(searches)
    max_rate = params.search.extrapolation * float(so_far.target("total_rate")[~so_far.starved].max())
    return [search.predict(model, max_rate) for search in searches]
