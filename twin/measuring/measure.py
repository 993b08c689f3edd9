"""Measuring a live server: stages of load within limits, kept one by one in a folder."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from pathlib import Path

from scenarios.stopping.deadline import Deadline
from scenarios.stopping.interrupts import noticed
from scenarios.stopping.progress import Progress, silent
from twin.live import Drive, Limits, Timeouts, play
from twin.measuring.folder import Measured, MeasurementFolder
from twin.measuring.measurements import Measurements
from twin.measuring.outcome import outcome_of
from twin.measuring.params import MeasureParams
from twin.measuring.stage import Stage
from twin.measuring.stages import stages
from twin.measuring.step_times import FollowedLog, step_frame
from twin.measuring.subject import Subject
from twin.measuring.watching import watched

TOTAL_S = 900.0
"""Seconds that a measurement takes by default."""

OVERTIME, LEAST_S = 1.25, 15.0
"""How many times its seconds a measurement may take where the server is slower than thought, and seconds that
it may take in any case."""

LOGGED = ("alone", "prefill", "batch")
"""Stages whose logged steps are kept: those whose steps have a known composition."""


def measure(
    subject: Subject,
    out: Path,
    config: Path | None = None,
    *,
    total_s: float = TOTAL_S,
    params: MeasureParams | None = None,
    seed: int = 0,
    step_log: Path | None = None,
    progress: Progress = silent,
) -> Measurements:
    """Send a live server a designed load and keep what came back, in the form that `calibrate` reads.

    A folder of a measurement of the same server that was broken off is gone on with.

    Parameters
    ----------
    subject
        The server, as `ask_subject` knows it; nothing is sent to any other.
    out
        Folder to be written.
    config
        The model's ``config.json``, which `calibrate` needs of one that is not well known.
    total_s
        Seconds of the whole; runs get most of them.
    params
        What is sent; absent: the defaults.
    seed
        Seed of what is sent.
    step_log
        What the server prints, if it logs its steps (``--enable-logging-iteration-details``).
    progress
        Called with progress.

    Raises
    ------
    StepLogError
        If the log cannot be read.
    FolderError
        If the folder holds something else.
    """
    params = params or MeasureParams()
    planned = Measured(subject=subject, params=params, total_s=total_s, seed=seed)
    log = None if step_log is None else FollowedLog(step_log)
    folder = MeasurementFolder.begun(out, planned, config)
    deadline = Deadline.after(LEAST_S + total_s * OVERTIME)
    sent, stopped = sum(one.requests for one in folder.outcomes.values()), ""
    with noticed():
        for stage in stages(subject, folder.outcomes, params, total_s, seed):
            if stage.name in folder.outcomes:
                continue
            if sent + len(stage.requests) > params.max_requests:
                stopped = f"{params.max_requests:,} requests are the limit (max_requests)"
                break
            stopped = _play_stage(stage, subject, folder, deadline, log, progress)
            if stopped:
                break
            sent += folder.outcomes[stage.name].requests
    return Measurements(out, subject, folder.in_order(), stopped)


def _play_stage(
    stage: Stage,
    subject: Subject,
    folder: MeasurementFolder,
    deadline: Deadline,
    log: FollowedLog | None,
    progress: Progress,
) -> str:
    """Play a stage and keep it; why the measurement ends here, or nothing."""
    params, seed = folder.measured.params, folder.measured.seed
    drive = Drive(
        subject.url,
        stage.requests,
        subject.names,
        stage.horizon_s,
        seed=zlib.crc32(f"{seed} {stage.name}".encode()),
    )
    limits = Limits(
        error_share=params.max_error_share,
        timeouts=Timeouts(answer_s=params.answer_timeout_s),
        deadline=deadline,
    )
    if log is not None:
        log.begin()
    with ExitStack() as stack:
        gauges = stack.enter_context(watched(subject.url, params.watch_s)) if stage.kind == "run" else []
        (answers,) = play([drive], limits, progress, stage.name)
    if answers.stopped:
        return answers.stopped
    outcome = outcome_of(stage, answers, gauges[0] if gauges else None)
    if not outcome.completed and answers.faults:
        told = "; ".join(f"{kind}: {text}" for kind, text in answers.details.items())
        return f"no request of stage {stage.name} was answered: {told}"
    steps = log.steps() if log is not None and stage.kind in LOGGED else []
    folder.add(stage, answers, outcome, step_frame(steps, answers))
    return ""
