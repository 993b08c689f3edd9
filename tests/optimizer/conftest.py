"""Random packing problems and their optima by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from optimizer.checker import matches
from optimizer.problem import Cut, PackingOption, PackingProblem


def _patterns(problem: PackingProblem) -> list[tuple[float, tuple[int, ...], int]]:
    """Every allowed bin: price, counts, option."""
    found = []
    for o, option in enumerate(problem.options):
        for counts in itertools.product(*(range(int(n) + 1) for n in problem.counts)):
            held = np.array(counts)
            if (
                held.any()
                and not (held[~option.fits_class] > 0).any()
                and (option.usage @ held <= option.capacity + 1e-9).all()
                and not any(o in cut.options and matches(cut, held, problem.heavier) for cut in problem.cuts)
            ):
                found.append((option.price, counts, o))
    return found


def _optimum(problem: PackingProblem) -> float:
    """Least value over all packings, by depth-first search; infinite if there is none."""
    patterns = _patterns(problem)
    if problem.objective != "price":
        return _least_latency(problem, patterns)
    tail = tuple(-1 if option.limit is None else option.limit for option in problem.options)
    memo: dict[tuple[tuple[int, ...], tuple[int, ...], int], float] = {}

    def least(left: tuple[int, ...], limits: tuple[int, ...], bins: int) -> float:
        if not any(left):
            return 0.0
        if bins == 0:
            return float("inf")
        key = (left, limits, bins)
        if key not in memo:
            first = next(c for c, n in enumerate(left) if n)
            memo[key] = min(
                (
                    price
                    + least(
                        tuple(a - b for a, b in zip(left, counts, strict=True)),
                        tuple(n - 1 if k == o and n > 0 else n for k, n in enumerate(limits)),
                        bins - 1,
                    )
                    for price, counts, o in patterns
                    if counts[first] > 0
                    and limits[o] != 0
                    and all(b <= a for a, b in zip(left, counts, strict=True))
                ),
                default=float("inf"),
            )
        return memo[key]

    bins = problem.n_items if problem.max_bins is None else problem.max_bins
    return least(tuple(int(n) for n in problem.counts), tail, bins)


def _least_latency(problem: PackingProblem, patterns: list[tuple[float, tuple[int, ...], int]]) -> float:
    best: dict[tuple[int, ...], float] = {}
    for _, counts, o in patterns:
        latency = problem.options[o].latency(np.array(counts))
        best[counts] = min(latency, best.get(counts, float("inf")))
    assert problem.max_bins is not None
    worst = problem.objective == "worst"
    idle = 0.0 if worst else problem.idle_latency
    memo: dict[tuple[tuple[int, ...], int], float] = {}

    def least(left: tuple[int, ...], bins: int) -> float:
        if not any(left):
            return bins * idle
        if bins == 0:
            return float("inf")
        if (left, bins) not in memo:
            first = next(c for c, n in enumerate(left) if n)
            values = [float("inf")]
            for counts, latency in best.items():
                if counts[first] and all(b <= a for a, b in zip(left, counts, strict=True)):
                    rest = least(tuple(a - b for a, b in zip(left, counts, strict=True)), bins - 1)
                    values.append(max(latency, rest) if worst else latency + rest)
            memo[(left, bins)] = min(values)
        return memo[(left, bins)]

    total = least(tuple(int(n) for n in problem.counts), problem.max_bins)
    return total if worst else total / problem.max_bins


def _random_order(rng: np.random.Generator, n: int) -> np.ndarray:
    """A partial order on n classes: from a chain over some (1 dimension) to hardly any pair (3)."""
    values = rng.integers(0, 4, (n, int(rng.integers(1, 4))))
    return np.asarray((values[:, None] >= values[None]).all(axis=-1))


def _random_problem(seed: int, *, cuts: bool = False, objective: str = "price") -> PackingProblem:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    counts = rng.integers(1, 4, n)
    while counts.sum() > 8:
        counts[counts.argmax()] -= 1
    options = []
    for o in range(int(rng.integers(1, 4))):
        m = int(rng.integers(1, 4))
        integer = rng.random() < 0.5
        usage = rng.integers(0, 8, (m, n)).astype(float) if integer else rng.random((m, n)) * 0.6
        capacity = np.full(m, 10.0 if integer else 1.0)
        allowed = np.ones(n, bool) if o == 0 else rng.random(n) < 0.8
        options.append(
            PackingOption(
                f"option-{o}",
                usage,
                capacity,
                allowed=allowed,
                price=float(rng.choice([1.0, 1.5, 2.0])),
                limit=None if rng.random() < 0.7 else int(rng.integers(0, 4)),
                latency_usage=rng.integers(0, 5, (2, n)).astype(float),
                latency_offset=rng.integers(0, 5, 2).astype(float),
            )
        )
    made: tuple[Cut, ...] = ()
    heavier = None
    if cuts:
        heavier = _random_order(rng, n)
        made = tuple(
            Cut(
                tuple(np.flatnonzero(rng.random(len(options)) < 0.7).tolist()) or (0,),
                np.maximum(rng.integers(0, 3, n), np.eye(n, dtype=int)[int(rng.integers(n))] * 2),
            )
            for _ in range(2)
        )
    if objective == "price":
        return PackingProblem(counts, tuple(options), cuts=made, heavier=heavier)
    return PackingProblem(
        counts,
        tuple(options),
        cuts=made,
        heavier=heavier,
        objective=objective,
        max_bins=int(rng.integers(1, 5)),
    )


@pytest.fixture(scope="session")
def optimum() -> Callable[[PackingProblem], float]:
    """The least value of a small problem by brute force; infinite if there is no packing."""
    return _optimum


@pytest.fixture(scope="session")
def random_problem() -> Callable[..., PackingProblem]:
    """A small random problem by seed."""
    return _random_problem
