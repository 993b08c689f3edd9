"""Playing requests against live servers, at their instants or one after another, within limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field

import numpy as np

from scenarios.stopping.deadline import UNLIMITED, Deadline
from scenarios.stopping.interrupts import interrupted, noticed
from scenarios.stopping.progress import Progress, silent
from twin.engine.requests import FloatArray, Requests
from twin.live.answers import Answers
from twin.live.client import Client, Streamed, Timeouts, connected, run_async
from twin.live.failures import CENSORED, AnswerError, Failure, of_error
from twin.live.prompts import Prompts

TICK_S = 0.1
"""Seconds between two looks at the limits."""

GRACE_S = 0.02
"""Seconds before the instant of the first request, for the loop to come to rest."""


@dataclass(frozen=True)
class Drive:
    """What one server is sent.

    Parameters
    ----------
    url
        The server, as `checked_url` gives it.
    requests
        What is sent, and when.
    models
        Names by which the server knows the adapters, by their index.
    horizon_s
        When the run is cut; infinite: after the last answer.
    seed
        Of the prompts.
    """

    url: str
    requests: Requests
    models: tuple[str, ...]
    horizon_s: float = math.inf
    seed: int = 0


@dataclass(frozen=True)
class Limits:
    """When a run against live servers is broken off.

    Parameters
    ----------
    error_share
        Share of the answers that may be failures.
    enough
        Answers from which on the share counts.
    timeouts
        How long the client waits.
    deadline
        When everything ends.
    """

    error_share: float = 0.1
    enough: int = 20
    timeouts: Timeouts = field(default_factory=Timeouts)
    deadline: Deadline = UNLIMITED


def play(
    drives: Sequence[Drive], limits: Limits | None = None, progress: Progress = silent, label: str = "sending"
) -> list[Answers]:
    """Send all drives at the same time, from a common instant on, and gather what comes back.

    A request of which another is the follower is followed also where it failed, as a user goes on.

    Parameters
    ----------
    drives
        What each server is sent.
    limits
        When to break off; absent: the defaults.
    progress, label
        Told how many of all requests are done.

    Returns
    -------
    list of Answers
        In the order of the drives; what was broken off says so in ``stopped``.
    """
    with noticed():
        return run_async(_play(drives, limits or Limits(), progress, label))


async def _play(drives: Sequence[Drive], limits: Limits, progress: Progress, label: str) -> list[Answers]:
    async with connected(limits.timeouts) as client:
        begin = asyncio.get_running_loop().time() + GRACE_S
        runs = [_Run(drive, client, begin) for drive in drives]
        ends = [asyncio.create_task(run.play()) for run in runs]
        total = sum(len(drive.requests) for drive in drives)
        stopped = ""
        while True:
            done, pending = await asyncio.wait(ends, timeout=TICK_S)
            progress(label, sum(run.done for run in runs), total)
            stopped = stopped or _why_stop(runs, limits)
            if stopped:
                for run in runs:
                    run.stop()
            if not pending:
                break
        for end in done:
            end.result()  # an error of our own is no fault of a server
        return [run.answers(stopped) for run in runs]


def _why_stop(runs: Sequence[_Run], limits: Limits) -> str:
    if limits.deadline.reached:
        return "interrupted" if interrupted() else "time limit"
    for run in runs:
        answered, faults = run.done, run.faults.total()
        if answered >= limits.enough and faults > limits.error_share * answered:
            kind, count = run.faults.most_common(1)[0]
            said = f": {run.details[kind]}" if run.details.get(kind) else ""
            return f"{faults} of {answered} requests to {run.url} failed; {kind}, {count} times{said}"
    return ""


class _Run:
    """One drive, while it is played."""

    def __init__(self, drive: Drive, client: Client, begin: float) -> None:
        n = len(drive.requests)
        self.url, self.done, self.faults = drive.url, 0, Counter[Failure]()
        self.details: dict[Failure, str] = {}
        self._drive, self._client, self._begin = drive, client, begin
        self._prompts = Prompts(drive.requests, drive.seed)
        self._follower = _followers(drive.requests)
        self._due, self._sent, self._first, self._finish = (np.full(n, np.nan) for _ in range(4))
        self._prompt = drive.requests.prompt_tokens.copy()
        self._generated = np.zeros(n, dtype=np.int32)
        self._gaps: list[FloatArray] = []
        self._failures: list[Failure | None] = [Failure.NOT_SENT] * n
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._unix = time.time() - (asyncio.get_running_loop().time() - begin)

    def stop(self) -> None:
        """Break off what is under way, and send no more."""
        self._stop.set()

    async def play(self) -> None:
        """Send everything at its instant, and wait for the answers until the horizon or the stop."""
        sending = self._spawn(self._send_all())
        stop = asyncio.create_task(self._stop.wait())
        end = self._begin + self._drive.horizon_s
        try:
            while self._tasks:
                left = end - asyncio.get_running_loop().time()
                if left <= 0 or self._stop.is_set():
                    break
                await asyncio.wait(
                    {stop, *self._tasks},
                    timeout=None if math.isinf(left) else left,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            for task in (*self._tasks, sending, stop):
                task.cancel()
            await asyncio.gather(*self._tasks, sending, stop, return_exceptions=True)
            self._end = self._now()

    def answers(self, stopped: str) -> Answers:
        """What came of it."""
        drive = self._drive
        return Answers(
            requests=drive.requests,
            horizon_s=drive.horizon_s if not stopped else min(drive.horizon_s, self._end),
            end_s=min(self._end, drive.horizon_s),
            started_unix_s=self._unix,
            due_s=self._due,
            sent_s=self._sent,
            first_token_s=self._first,
            finish_s=self._finish,
            prompt_tokens=self._prompt,
            generated_tokens=self._generated,
            gaps_s=np.concatenate([np.empty(0), *self._gaps]),
            failures=tuple(self._failures),
            details=self.details,
            stopped=stopped,
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begin

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send_all(self) -> None:
        requests = self._drive.requests
        for k in range(requests.n_independent):
            await self._until(float(requests.arrival_s[k]))
            self._spawn(self._answer(k, float(requests.arrival_s[k])))

    async def _until(self, at_s: float) -> None:
        left = at_s - self._now()
        if left > 0:
            await asyncio.sleep(left)

    async def _answer(self, k: int, due_s: float) -> None:
        """Send request k, then the one that follows it."""
        while True:
            await self._until(due_s)
            self._due[k] = due_s
            await self._ask(k)
            k, before = self._follower[k], k
            if k < 0:
                return
            ended = self._finish[before] if np.isfinite(self._finish[before]) else self._now()
            due_s = float(ended) + float(self._drive.requests.arrival_s[k])

    async def _ask(self, k: int) -> None:
        requests, answer = self._drive.requests, Streamed(self._now())
        model, wanted = self._drive.models[requests.adapter[k]], int(requests.output_tokens[k])
        awaited = self._prompts.awaits_answer(k)
        prompt = self._prompts.of(k)
        self._sent[k] = answer.sent_s = self._now()
        self._failures[k] = Failure.CUT  # if it is cancelled
        try:
            await self._client.complete(self.url, model, prompt, wanted, answer, with_ids=awaited)
        except AnswerError as error:
            self._failed(k, error)
        except Exception as error:
            self._failed(k, of_error(error))
        else:
            self._failures[k] = None
            self._prompts.answered(k, answer.ids)
            self._finish[k] = answer.token_s[-1] - self._begin
        self._note(k, answer)

    def _failed(self, k: int, error: AnswerError) -> None:
        self._failures[k] = error.failure
        self.faults[error.failure] += error.failure not in CENSORED
        self.details.setdefault(error.failure, error.detail)

    def _note(self, k: int, answer: Streamed) -> None:
        self.done += 1
        if answer.token_s:
            self._first[k] = answer.token_s[0] - self._begin
            self._gaps.append(np.diff(answer.token_s))
        if answer.prompt_tokens:
            self._prompt[k] = answer.prompt_tokens
        counted = answer.generated_tokens
        self._generated[k] = len(answer.token_s) if counted is None else counted


def _followers(requests: Requests) -> list[int]:
    """The request that follows each one, or -1."""
    followers = [-1] * len(requests)
    if requests.follows is not None:
        for k, before in enumerate(requests.follows.tolist()):
            if before >= 0:
                followers[before] = k
    return followers
