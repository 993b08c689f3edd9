"""Measuring a live server: stages of load within limits, kept one by one in a folder."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scenarios.stopping.deadline import Deadline
from scenarios.stopping.interrupts import noticed
from scenarios.stopping.progress import Progress, silent
from scenarios.text.formatting import counted, listed
from scenarios.text.tables import Column, Part, item, render, table
from twin.live import Drive, Limits, Timeouts, ask_servers, checked_url, play
from twin.measuring.folder import Measured, MeasurementFolder
from twin.measuring.outcome import Outcome, outcome_of
from twin.measuring.params import MeasureParams
from twin.measuring.stages import Stage, stages
from twin.measuring.step_times import FollowedLog, step_frame
from twin.measuring.subject import Subject, subject_of
from twin.measuring.tables import MOST_BUNCHED
from twin.measuring.watching import watched

LATE_MS = 50.0
"""Milliseconds by which a client may be late in sending before that is told."""

TOTAL_S = 900.0
"""Seconds that a measurement takes by default."""

OVERTIME, LEAST_S = 1.25, 15.0
"""How many times its seconds a measurement may take where the server is slower than thought, and seconds that
it may take in any case."""


@dataclass(frozen=True)
class Measurements:
    """What a measurement left.

    Parameters
    ----------
    folder
        Where it is, for `calibrate`.
    subject
        What was measured.
    outcomes
        Figures of the finished stages, in their order.
    stopped
        Why it ended before all stages; empty: it did not.
    """

    folder: Path
    subject: Subject
    outcomes: tuple[Outcome, ...]
    stopped: str

    def __repr__(self) -> str:
        return f"<Measurements: {self.folder}, {counted(len(self.outcomes), 'stage')}>"

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The stages with their figures, as text."""
        return render(*self.parts())

    def parts(self) -> list[Part]:
        """What `summary` says, for `scenarios.text.tables.render`."""
        columns: list[str | Column] = [
            "stage",
            ">requests",
            Column(">failed", 1),
            Column(">s", 2),
            ">tok/s",
            ">ITL ms",
            ">TTFT ms",
        ]
        rows = [
            (
                one.name,
                one.requests,
                sum(one.failures.values()),
                one.seconds,
                one.tokens_per_s,
                one.itl_ms,
                one.ttft_ms,
            )
            for one in self.outcomes
        ]
        late = max((one.lag_ms or 0.0 for one in self.outcomes), default=0.0)
        title = "what was sent, and what came back (ITL mean, TTFT median)"
        lines: list[Part] = [table(columns, rows, title=title)]
        if late > LATE_MS:
            lines.append(
                item(
                    f"the client sent up to {late:.0f} ms late: its machine is too busy, and latencies are "
                    "longer than the server's; measure from another one"
                )
            )
        timed = [one for one in self.outcomes if one.kind in ("alone", "batch", "run")]
        bunched = [one.name for one in timed if one.bunched >= MOST_BUNCHED]
        if bunched:
            lines.append(
                item(
                    f"half of the tokens of {listed(bunched, 5)} came together with the one before: the "
                    "host is too busy for its server; no step is taken from there"
                )
            )
        return lines


def measure(
    url: str,
    out: Path,
    about: Sequence[Path] = (),
    *,
    model: str | None = None,
    config: Path | None = None,
    device: str | None = None,
    gpu_memory_gib: float | None = None,
    overrides: Iterable[str] = (),
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
    url
        Server with an OpenAI-compatible API and LoRA adapters; nothing is sent to any other.
    out
        Folder to be written.
    about, model, config, device, gpu_memory_gib, overrides
        What the server does not tell, as in `subject_of`.
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
    ServerError
        If the server cannot be asked.
    StepLogError
        If the log cannot be read.
    SubjectError
        If something that must be known of it is told by nobody.
    FolderError
        If the folder holds something else.
    """
    subject = subject_to_measure(
        url,
        about,
        model=model,
        config=config,
        device=device,
        gpu_memory_gib=gpu_memory_gib,
        overrides=overrides,
    )
    return measure_subject(
        subject,
        out,
        config,
        total_s=total_s,
        params=params,
        seed=seed,
        step_log=step_log,
        progress=progress,
    )


def subject_to_measure(
    url: str,
    about: Sequence[Path] = (),
    *,
    model: str | None = None,
    config: Path | None = None,
    device: str | None = None,
    gpu_memory_gib: float | None = None,
    overrides: Iterable[str] = (),
) -> Subject:
    """Ask a server what it is; it is sent no request for tokens. Parameters and errors as in `measure`."""
    (told,) = ask_servers([checked_url(url)])
    return subject_of(
        told,
        about,
        model=model,
        config=config,
        device=device,
        gpu_memory_gib=gpu_memory_gib,
        overrides=overrides,
    )


def measure_subject(
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
    """Measure a server of which all is known. Parameters and errors as in `measure`."""
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
            stopped = _play_stage(stage, folder, params, deadline, log, progress)
            if stopped:
                break
            sent += folder.outcomes[stage.name].requests
    return Measurements(out, subject, folder.in_order(), stopped)


def _play_stage(
    stage: Stage,
    folder: MeasurementFolder,
    params: MeasureParams,
    deadline: Deadline,
    log: FollowedLog | None,
    progress: Progress,
) -> str:
    """Play a stage and keep it; why the measurement ends here, or nothing."""
    subject, seed = folder.measured.subject, folder.measured.seed
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
    outcome = outcome_of(
        stage.name,
        stage.kind,
        stage.batch,
        stage.distinct,
        stage.load,
        answers,
        gauges[0] if gauges else None,
    )
    if not outcome.completed and answers.faults:
        told = "; ".join(f"{kind}: {text}" for kind, text in answers.details.items())
        return f"no request of stage {stage.name} was answered: {told}"
    steps = log.steps() if log is not None and stage.kind == "batch" else []
    folder.add(stage, answers, outcome, step_frame(steps, answers))
    return ""
