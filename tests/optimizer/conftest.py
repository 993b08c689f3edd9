"""Random packing problems and their optima by brute force; `benchmarks/packing_agreement.py` uses both."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from optimizer.cli import main
from optimizer.packing.model.checker import matches
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem
from scenarios import EngineOption


def _patterns(problem: PackingProblem) -> list[tuple[tuple[int, ...], int]]:
    """Every allowed bin: counts and option."""
    return [
        (counts, o)
        for o, option in enumerate(problem.options)
        for counts in itertools.product(*(range(int(n) + 1) for n in problem.counts))
        if any(counts) and _allowed(problem, option, o, np.array(counts))
    ]


def _allowed(problem: PackingProblem, option: PackingOption, o: int, held: np.ndarray) -> bool:
    return (
        not (held[~option.fits_class] > 0).any()
        and bool((option.usage @ held <= option.capacity + 1e-9).all())
        and not any(o in cut.options and matches(cut, held, problem.dominance) for cut in problem.cuts)
    )


def _keeps_limits(problem: PackingProblem, used: tuple[int, ...]) -> bool:
    """Whether so many bins of each option keep all limits."""
    devices: dict[str, int] = {}
    for option, n in zip(problem.options, used, strict=True):
        devices[option.device] = devices.get(option.device, 0) + n
    return (
        all(o.limit is None or n <= o.limit for o, n in zip(problem.options, used, strict=True))
        and all(devices.get(device, 0) <= limit for device, limit in problem.device_limits.items())
        and (problem.max_bins is None or sum(used) <= problem.max_bins)
        and (problem.budget is None or float(problem.prices @ np.array(used)) <= problem.budget + 1e-9)
    )


def _optimum(problem: PackingProblem) -> float:
    """Least value over all packings, by trying all; infinite if there is none."""
    worst, price = problem.objective == "worst", problem.objective == "price"
    idle = problem.idle_latency if problem.objective == "mean" else 0.0
    bins = [
        (
            counts,
            o,
            problem.options[o].price if price else problem.options[o].latency(np.array(counts)) - idle,
        )
        for counts, o in _patterns(problem)
    ]

    @cache
    def least(left: tuple[int, ...], used: tuple[int, ...]) -> float:
        if not any(left):
            return 0.0
        first = next(c for c, n in enumerate(left) if n)
        best = float("inf")
        for counts, o, value in bins:
            if not counts[first] or any(b > a for a, b in zip(left, counts, strict=True)):
                continue
            more = tuple(n + (k == o) for k, n in enumerate(used))
            if _keeps_limits(problem, more):
                rest = least(tuple(a - b for a, b in zip(left, counts, strict=True)), more)
                best = min(best, max(value, rest) if worst else value + rest)
        return best

    total = least(tuple(int(n) for n in problem.counts), (0,) * len(problem.options))
    return total / problem.max_bins + idle if problem.objective == "mean" and problem.max_bins else total


def _random_dominance(rng: np.random.Generator, n: int) -> np.ndarray:
    """Measures of n classes: from one, a chain over some, to three, by which hardly any pair compares."""
    return rng.integers(0, 4, (n, int(rng.integers(1, 4)))).astype(float)


def _random_option(rng: np.random.Generator, n: int, o: int) -> PackingOption:
    m = int(rng.integers(1, 4))
    integer = rng.random() < 0.5
    return PackingOption(
        f"option-{o}",
        usage=rng.integers(0, 8, (m, n)).astype(float) if integer else rng.random((m, n)) * 0.6,
        capacity=np.full(m, 10.0 if integer else 1.0),
        allowed=np.ones(n, bool) if o == 0 else rng.random(n) < 0.8,
        price=float(rng.choice([1.0, 1.5, 2.0, np.sqrt(2)])),
        limit=None if rng.random() < 0.7 else int(rng.integers(0, 4)),
        option=EngineOption(str(rng.choice(["a", "b"])), 1, 0),
        latency_usage=rng.integers(0, 5, (2, n)).astype(float),
        latency_offset=rng.integers(0, 5, 2).astype(float),
    )


def _random_problem(seed: int, *, cuts: bool = False, objective: str = "price") -> PackingProblem:
    """Up to eight items in up to four classes and three options, with limits, prices and cuts at times."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    counts = rng.integers(1, 4, n)
    while counts.sum() > 8:
        counts[counts.argmax()] -= 1
    options = tuple(_random_option(rng, n, o) for o in range(int(rng.integers(1, 4))))
    limits = {"b": int(rng.integers(0, 3))} if rng.random() < 0.3 else {}
    devices = {option.device for option in options}
    problem = PackingProblem(
        counts,
        options,
        device_limits={device: limit for device, limit in limits.items() if device in devices},
        max_bins=int(rng.integers(1, 5)) if objective != "price" or rng.random() < 0.2 else None,
        budget=float(rng.integers(2, 9)) if rng.random() < 0.2 else None,
        objective=objective,
    )
    if not cuts:
        return problem
    made = tuple(
        NoGoodCut(
            tuple(np.flatnonzero(rng.random(len(options)) < 0.7).tolist()) or (0,),
            np.maximum(rng.integers(0, 3, n), np.eye(n, dtype=int)[int(rng.integers(n))] * 2),
        )
        for _ in range(2)
    )
    return replace(problem, cuts=made, dominance=_random_dominance(rng, n))


@pytest.fixture(scope="session")
def optimum() -> Callable[[PackingProblem], float]:
    """The least value of a small problem by brute force; infinite if there is no packing."""
    return _optimum


@pytest.fixture(scope="session")
def random_problem() -> Callable[..., PackingProblem]:
    """A small random problem by seed."""
    return _random_problem


@pytest.fixture
def press_ctrl_c() -> Iterator[Callable[[float], None]]:
    """Presses Ctrl-C in so many seconds, unless the test is over by then."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    timers: list[threading.Timer] = []

    def press(after_s: float) -> None:
        timers.append(threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()

    yield press
    for timer in timers:
        timer.cancel()


@pytest.fixture
def lorapack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; its exit code, what it printed, and what it said on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lorapack", *arguments])
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return int(str(code or 0)), captured.out, captured.err

    return run
