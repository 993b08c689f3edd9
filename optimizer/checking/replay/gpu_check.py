"""One GPU of a plan: what the twin foretold of its run, what was measured, and why they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from optimizer.checking.readings import MetricsReading
from optimizer.checking.replay.check_params import CheckParams
from optimizer.checking.replay.check_report import CheckedGPU, CheckedServer
from optimizer.checking.replay.check_text import worse_in_words
from optimizer.checking.replay.comparison import Comparison
from optimizer.checking.replay.planned_runs import PlannedRun
from optimizer.checking.replay.run_figures import figures_of
from optimizer.checking.replay.suggestions import suggestions_of
from scenarios import Scenario
from twin import GPULoad
from twin.live import Answers


def checked_gpu(
    run: PlannedRun,
    server: CheckedServer,
    names: Sequence[str],
    answers: Answers,
    counts: MetricsReading | None,
    scenario: Scenario,
    params: CheckParams,
) -> CheckedGPU:
    """Foretold beside measured of one GPU, for as long as its run went.

    Parameters
    ----------
    run
        What it was to be sent.
    server
        What its server said of itself.
    names
        Names by which it was asked for the adapters, in the order of the run's load.
    answers
        What came back.
    counts
        What the server counted meanwhile; None: it does not tell.
    scenario
        By what it is held to keep up.
    params
        Tolerances.
    """
    expected, quick, slow = (
        figures_of(records, run.frontend_s, run.load, scenario) for records in run.foretold(answers.horizon_s)
    )
    measured = figures_of(answers.records(), 0.0, run.load, scenario)
    patient = scenario.acceptance == "sustained"
    limit = scenario.service_levels.late_share if patient else None
    comparison = Comparison((expected, quick, slow), measured, params, limit)
    faults = answers.faults
    gpu = CheckedGPU(
        gpu=run.gpu.gpu,
        url=run.url,
        server=server,
        requests=measured.requests,
        completed=measured.completed,
        failed={str(kind): number for kind, number in faults.items()},
        failure_details={str(kind): answers.details[kind] for kind in faults},
        client_lag_s=client_lag_s(answers),
        preemptions_foretold=expected.preemptions,
        preemptions=None if counts is None or counts.preemptions is None else round(counts.preemptions),
        foreign_requests=_foreign(counts, answers),
        misses_foretold=tuple(one.sentence for one in expected.violations),
        misses=tuple(one.sentence for one in measured.violations),
        figures=tuple(comparison.figures(faults.total())),
        adapters=tuple(comparison.adapters(run.load.names, names, _failed_of(answers, run.load))),
    )
    gpu = gpu.model_copy(update={"faults": tuple(_faults(gpu, comparison))})
    return gpu.model_copy(update={"suggestions": tuple(suggestions_of(gpu, params))})


def client_lag_s(answers: Answers) -> float | None:
    """By how much the client was late in sending, 99th percentile; None where nothing was to be sent.

    A request that waits for no other and was not sent by the end is as late as it was due before that.
    """
    n = answers.requests.n_independent
    arrival = answers.requests.arrival_s
    unsent = np.isnan(answers.sent_s[:n]) & (arrival[:n] < answers.end_s)
    sent = ~np.isnan(answers.sent_s)
    lags = np.append((answers.sent_s - answers.due_s)[sent], answers.end_s - arrival[:n][unsent])
    return float(np.percentile(lags, 99)) if len(lags) else None


def _faults(gpu: CheckedGPU, comparison: Comparison) -> Iterator[str]:
    """Why a GPU is not as foretold."""
    for one in comparison.missed():
        yield f"misses what it was foretold to keep: {one.sentence}"
    for figure in gpu.figures:
        if figure.differs == "worse":
            yield worse_in_words(figure)


def _foreign(counts: MetricsReading | None, answers: Answers) -> int | None:
    """Requests that a server answered and that were not ours, at least.

    Of ours it may have answered all that were sent, those too whose end the client did not wait for.
    """
    sent = int(np.count_nonzero(~np.isnan(answers.sent_s)))
    return None if counts is None or counts.answered is None else max(round(counts.answered) - sent, 0)


def _failed_of(answers: Answers, load: GPULoad) -> list[int]:
    """Failed requests of each adapter."""
    faults = answers.faults
    failed = [k for k, one in enumerate(answers.failures) if one in faults]
    of = Counter(answers.requests.adapter[failed].tolist())
    return [of[k] for k in range(len(load.names))]
