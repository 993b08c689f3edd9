"""`report`: plans on one page for people who read no tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimizer.reporting.collect import collect
from optimizer.reporting.contents import PlanReport, ReportContents
from optimizer.reporting.params import ReportParams
from optimizer.result import Result
from optimizer.result_file import read_result
from scenarios import Deadline, Problem, ScenarioError, noticed, visible, write_whole
from scenarios.arguments import several
from scenarios.stopping.progress import Progress, interruptible, silent
from scenarios.text.formatting import counted

DEFAULTS = ReportParams()


@dataclass(frozen=True, repr=False)
class Report:
    """Plans, explained and simulated again, as data and as a page.

    Parameters
    ----------
    contents
        All that the page shows.
    """

    contents: ReportContents

    def to_html(self) -> str:
        """The page: one HTML file that needs no network.

        Raises
        ------
        optimizer.reporting.page.MissingExtraError
            If the packages of the extra ``report`` are not installed.
        """
        from optimizer.reporting.page import render_page

        return render_page(self.contents)

    def to_json(self) -> str:
        """All that the page shows, as JSON."""
        return self.contents.model_dump_json(indent=2)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Raises
        ------
        optimizer.reporting.page.MissingExtraError
            If the packages of the extra ``report`` are not installed.
        OutputFileError
            If the file cannot be written.
        """
        write_whole(Path(path), self.to_html())

    @property
    def headline(self) -> str:
        """Whose plans they are, and how many GPUs each has."""
        plans = [_in_words(plan) for plan in self.contents.plans]
        return visible("; ".join(plans))

    def __repr__(self) -> str:
        return f"<Report: {visible(self.contents.title)}, {counted(len(self.contents.plans), 'plan')}>"


def _in_words(plan: PlanReport) -> str:
    answer = plan.answer
    if answer.gpus is None:
        return f"{plan.name}, {answer.method}: no plan"
    verdict = f"{'accepted' if answer.accepted else 'rejected'} ({answer.acceptance})"
    return f"{plan.name}, {answer.method}: {counted(answer.gpus, 'GPU')}, {verdict}"


def report(
    results: Result | str | os.PathLike[str] | Sequence[Result | str | os.PathLike[str]],
    *,
    what_if: bool = True,
    total_limit_s: float | None = None,
    workers: int = 1,
    progress: Progress = silent,
    params: ReportParams = DEFAULTS,
) -> Report:
    """Explain plans, simulate their GPUs again, and ask the model about other loads.

    Parameters
    ----------
    results
        One result or several, or files of results, which are shown in this order.
    what_if
        Whether GPUs at other loads and patiences are computed, for a minute at most.
    total_limit_s
        Seconds for all of it; what is not there by then is left out, and said to be. None: no such limit
        beside those of ``params``.
    workers
        Threads. The contents do not depend on it, unless a limit strikes.
    progress
        Called with progress.
    params
        How much is shown.

    Returns
    -------
    Report
        Also after Ctrl-C, with what was there by then.

    Raises
    ------
    ScenarioError
        If there is no result, or a file holds none.
    twin.UnknownProfileError, twin.ProfileError
        If an engine profile of a result's scenario is not to be had.
    """
    given = [results] if isinstance(results, Result | str | os.PathLike) else several(results)
    if not given:
        raise ScenarioError([Problem("results", "is empty", "give at least one")], "report")
    read = [(one, None) if isinstance(one, Result) else (read_result(one), Path(one)) for one in given]
    with noticed():
        return Report(
            collect(
                read,
                params=params,
                what_if=what_if,
                workers=workers,
                progress=interruptible(progress),
                deadline=Deadline.of(total_limit_s),
            )
        )
