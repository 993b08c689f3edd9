"""Waiting requests in one line, for engines in which those that are passed over do not keep their places.

vLLM takes requests whose adapter gets no slot off the line while it scans, and puts them back afterwards:
from 0.9.2 to 0.13 in reversed order, which starves some adapters; from 0.18 to 0.30 into a queue of their
own, which is scanned before all others, so that preempted requests come behind them. Here the same is done,
request by request.
"""

from __future__ import annotations

from twin.engine.compilation import apart, compiled
from twin.engine.state import NOBODY, Engine, State


@apart
def append_to_line(state: State, r: int) -> None:
    """Add a new request to the end of the line."""
    now = state.now
    state.request[r].follower = NOBODY
    if now.line_last >= 0:
        state.request[now.line_last].follower = r
    else:
        now.line_first = r
    now.line_last = r


@apart
def prepend_to_line(state: State, r: int) -> None:
    """Put a preempted request before all that wait, but for those in a queue of their own."""
    now = state.now
    state.request[r].follower = now.line_first
    if now.line_first < 0:
        now.line_last = r
    now.line_first = r


@compiled
def first_in_line(state: State) -> int:
    """The request that is scanned next, or -1."""
    now = state.now
    return int(now.passed_first if now.passed_first >= 0 else now.line_first)


@apart
def take_off_line(state: State) -> int:
    """Take the request that is scanned next off its queue."""
    now = state.now
    if now.passed_first >= 0:
        r = now.passed_first
        now.passed_first = state.request[r].follower
        return int(r)
    r = now.line_first
    now.line_first = state.request[r].follower
    if now.line_first < 0:
        now.line_last = NOBODY
    return int(r)


@apart
def pass_over(engine: Engine, state: State) -> None:
    """Take the request that is scanned next aside, until the scan is done."""
    now, r = state.now, take_off_line(state)
    if engine.reverses_passed or now.aside_first < 0:
        state.request[r].follower = now.aside_first
        if now.aside_first < 0:
            now.aside_last = r
        now.aside_first = r
    else:
        state.request[r].follower = NOBODY
        state.request[now.aside_last].follower = r
        now.aside_last = r


@apart
def put_back(engine: Engine, state: State) -> None:
    """Put what was taken aside before all others: of the line, or of the queue of those passed over."""
    now = state.now
    if now.aside_first < 0:
        return
    if engine.reverses_passed:
        state.request[now.aside_last].follower = now.line_first
        if now.line_first < 0:
            now.line_last = now.aside_last
        now.line_first = now.aside_first
    else:
        state.request[now.aside_last].follower = now.passed_first
        now.passed_first = now.aside_first
    now.aside_first = now.aside_last = NOBODY
