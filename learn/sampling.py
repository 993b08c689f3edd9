"""Twin runs for learning: every random composition is loaded more and less until its boundary is bracketed.

The runs of one composition depend on the seed, its number and the rounds before, and on nothing else:
not on the number of workers, and not on where an interrupted sampling was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import delayed

from learn.boundaries.boundary import BoundaryError, boundary_points, fit_boundary
from learn.boundaries.boundary_search import BoundarySearch
from learn.design import Composition, SamplingPlan, compositions, plan_values
from learn.features import ADDITIVE
from learn.params import DEFAULTS, LearnParams, SearchParams
from learn.region import FORMAT
from learn.space import DesignSpace
from learn.storage.cache import clear_up, content_key
from learn.storage.dataset import COLUMNS, Dataset, table_of
from learn.storage.rounds import Rounds
from scenarios import UNLIMITED, Deadline, Problem, ScenarioError
from scenarios.stopping.progress import Progress, silent
from twin.parallel import in_processes

SAMPLING, OVERLOADING = "sampling the twin", "overloading the twin"
"""What is being done, for progress: the search for boundaries, or the runs far beyond them."""


def sample(
    space: DesignSpace,
    plan: SamplingPlan,
    *,
    params: LearnParams = DEFAULTS,
    workers: int = 1,
    near: Dataset | None = None,
    overloads: bool = True,
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
        Processes; within `twin.on_cluster` the runs go to that cluster. The data are the same for any
        number.
    near
        Runs of the same mixes by another rule, near whose boundaries theirs are looked for.
    overloads
        Whether to run each mix at random heavier loads, too. Regions need none; the rounds are the same.
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
    sampling = _Sampling.of(space, plan, params, workers, progress, deadline)
    dataset = sampling.boundaries(sampling.kept(directory, cache), near)
    return sampling.with_overloads(dataset, directory, cache) if overloads else dataset


def add_overloads(
    dataset: Dataset,
    space: DesignSpace,
    plan: SamplingPlan,
    *,
    params: LearnParams = DEFAULTS,
    workers: int = 1,
    directory: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
    deadline: Deadline = UNLIMITED,
) -> Dataset:
    """What `sample` gives with overloads, from what it gave without; arguments and errors are its own."""
    sampling = _Sampling.of(space, plan, params, workers, progress, deadline)
    return sampling.with_overloads(dataset, directory, cache)


def _joined(one: Dataset, other: Dataset) -> Dataset:
    """The runs of both by composition, as one search makes them."""
    table = pd.concat([one.table, other.table]).sort_values(["composition", "run"], ignore_index=True)
    return replace(one, table=table)


_Jobs = Callable[[list[BoundarySearch], Dataset | None], list[Any]]
"""What to run for the compositions of a round, of which one gives the rows of one, and after which runs."""


@dataclass(frozen=True)
class _Sampling:
    """How the twin is sampled, round after round; the arguments of `sample`."""

    space: DesignSpace
    plan: SamplingPlan
    params: LearnParams
    workers: int
    progress: Progress
    deadline: Deadline
    metadata: dict[str, Any]

    @classmethod
    def of(
        cls,
        space: DesignSpace,
        plan: SamplingPlan,
        params: LearnParams,
        workers: int,
        progress: Progress,
        deadline: Deadline,
    ) -> _Sampling:
        if workers < 1:
            raise ScenarioError([Problem("workers", f"is {workers}", "give 1 or more")], "sample")
        step = space.profile.step.model_dump(mode="json")
        metadata = {"space": space.describe(), "plan": plan_values(plan), "step": step}
        if params.of_runs():
            metadata["params"] = params.of_runs()
        return cls(space, plan, params, workers, progress, deadline, metadata)

    def kept(self, directory: str | Path | None, cache: Path | None, part: str = "") -> Rounds:
        """Where the rounds are kept; those of a part of the runs in a folder of its own."""
        folder = Path(directory) if directory is not None else None
        if cache is not None:
            clear_up(cache)
            folder = cache / "samples" / _key(self.metadata)
        if not part:
            return Rounds(folder, self.metadata, cache)
        return Rounds(folder and folder / part, {**self.metadata, "part": part}, cache)

    def with_overloads(self, dataset: Dataset, directory: str | Path | None, cache: Path | None) -> Dataset:
        """The runs, and those at heavier loads than the boundaries that they tell."""
        if not self.plan.spread:
            return dataset
        return _joined(dataset, self.overloads(self.kept(directory, cache, "overloads"), dataset))

    def boundaries(self, kept: Rounds, near: Dataset | None) -> Dataset:
        """The search for the boundary of every composition, with the runs at lighter loads."""

        def jobs(searches: list[BoundarySearch], so_far: Dataset | None) -> list[Any]:
            expected = _expected(searches, so_far) if near is None else _known(searches, near)
            return [delayed(BoundarySearch.runs)(*job) for job in zip(searches, expected, strict=True)]

        rounds: list[Dataset] = []
        for done in self._rounds(kept, jobs, SAMPLING):
            if not rounds:
                _check_starved(self.space, done, self.params.search)
            rounds.append(done)
        return self._whole(rounds)

    def overloads(self, kept: Rounds, bracketed: Dataset) -> Dataset:
        """Runs at heavier loads than the boundary of every composition."""
        needed = bracketed.table[["composition", "run", "total_rate", "margin", "starved"]]
        runs = dict(list(needed.groupby("composition")))

        def jobs(searches: list[BoundarySearch], _: Dataset | None) -> list[Any]:
            known = [runs[search.composition.index].to_dict("records") for search in searches]
            return [delayed(BoundarySearch.overloads)(*job) for job in zip(searches, known, strict=True)]

        return self._whole(list(self._rounds(kept, jobs, OVERLOADING)))

    def _rounds(self, kept: Rounds, jobs: _Jobs, label: str) -> Iterator[Dataset]:
        """The rounds: those that are kept, and the others anew."""
        before: list[Dataset] = []
        total = self.plan.compositions
        self.progress(label, 0, total)
        for number, first in enumerate(range(0, total, self.plan.round_size)):
            last = min(first + self.plan.round_size, total)
            done = kept.read(number, first, last)
            if done is None:
                mixes = compositions(self.space, first, last, self.plan.seed, self.params.design)
                searches = [self._search(mix) for mix in mixes]
                wanted = jobs(searches, self._whole(before) if before else None)
                done = Dataset(table_of(self._run(searches, wanted, label)), kept.metadata)
                kept.keep(done, number, first, last)
            else:
                self.progress(label, last, total)
            before.append(done)
            yield done

    def _search(self, mix: Composition) -> BoundarySearch:
        return BoundarySearch(self.space.labelled(shared=mix.shared), self.plan, mix, self.params)

    def _whole(self, rounds: list[Dataset]) -> Dataset:
        return Dataset(pd.concat([done.table for done in rounds], ignore_index=True), self.metadata)

    def _run(self, searches: list[BoundarySearch], jobs: list[Any], label: str) -> list[dict[str, float]]:
        """Runs of the searches, as rows."""
        rows: list[dict[str, float]] = []
        finished = in_processes(jobs, self.workers, deadline=self.deadline, work="the twin was sampled")
        for search, runs in zip(searches, finished, strict=True):
            rows.extend(runs)
            self.progress(label, search.composition.index + 1, self.plan.compositions)
        return rows


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
