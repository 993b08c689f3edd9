"""Problems whose items all differ: comparing classes takes no memory for every pair, and means the same."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing import pack
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.checker import check
from optimizer.packing.model.cuts import at_least
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem
from optimizer.search.instance import _dominance
from scenarios import AdapterClass, FixedLengths

MANY = 20_000


def all_differ(n: int) -> PackingProblem:
    """So many items, each a class of its own, with ranks, rates and a multiset that starves a bin."""
    rng = np.random.default_rng(1)
    rate, rank = np.sort(rng.uniform(0.1, 1.0, n)), rng.choice([8.0, 16.0, 32.0], n)
    usage = np.vstack([rate, rate * (1 + rank / 64)])
    options = tuple(
        PackingOption(f"rank-{r}", usage, np.array([200.0, 260.0 - r]), allowed=rank <= r)
        for r in (8, 16, 32)
    )
    cut = NoGoodCut((0, 1, 2), np.bincount([n // 2, n // 3], minlength=n) * 300)
    return PackingProblem(
        np.ones(n, dtype=np.int64), options, cuts=(cut,), dominance=np.array([rank, rate]).T
    )


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that Python and NumPy held while they worked."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_problem_of_many_classes_is_built_in_little_memory() -> None:
    """Less than a bit for a pair of classes."""
    assert peak_bytes(lambda: all_differ(MANY)) < MANY * MANY / 8


def test_best_fit_packs_many_classes() -> None:
    problem = all_differ(MANY // 4)
    result = pack(problem, "bfd", time_limit_s=300)
    assert result.packing is not None
    assert check(problem, result.packing) == []
    assert len(result.packing) <= 1.1 * float((problem.options[2].usage[0] / 200).sum()) + 3


def test_exchanges_of_many_classes_take_little_memory() -> None:
    problem = all_differ(6_000)
    filler = BinFiller(problem)
    dual_optimal_inequalities(BinFiller(all_differ(30)), 3)  # compiles
    assert peak_bytes(lambda: dual_optimal_inequalities(filler, 3)) < 6_000 * 6_000 / 8


def transitive(rng: np.random.Generator, n: int) -> np.ndarray:
    """Any reflexive and transitive relation."""
    order = np.eye(n, dtype=bool) | (rng.random((n, n)) < rng.choice([0.05, 0.2]))
    for k in range(n):
        order |= order[:, [k]] & order[[k], :]
    return order


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_measures_can_say_whatever_a_relation_can(seed: int) -> None:
    """The rows of a relation are measures: whoever stands for a stands for all that a stands for."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    order, light = transitive(rng, n), rng.permutation(n)[: int(rng.integers(1, n + 1))]
    assert (at_least(order.astype(float), light) == order[:, light]).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_adapters_are_as_heavy_as_rank_and_rate_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = [
        AdapterClass(
            names=(f"a{k}",),
            rank=int(rng.choice([8, 16, 32])),
            rate=float(rng.choice([0.1, 0.2, 0.4])),
            prompt=FixedLengths(tokens=int(rng.choice([100, 200]))),
            output=FixedLengths(tokens=int(rng.choice([10, 20]))),
        )
        for k in range(int(rng.integers(1, 12)))
    ]
    found = at_least(_dominance(classes), np.arange(len(classes)))
    for a, heavy in enumerate(classes):
        for b, light in enumerate(classes):
            alike = (heavy.prompt, heavy.output, heavy.levels) == (light.prompt, light.output, light.levels)
            assert found[a, b] == (alike and heavy.rank >= light.rank and heavy.rate >= light.rate)


def by_pairs(problem: PackingProblem) -> set[tuple[int, int]]:
    """`dual_optimal_inequalities` by its definition, on the matrix of all pairs."""
    n, filler = problem.n_classes, BinFiller(problem)
    order = np.ones((n, n), dtype=bool)
    for o in filler.options:
        rows = problem.rows[o]
        admitted = rows.most > 0
        order &= ~admitted[:, None] | admitted[None, :]
        for usage in rows.usage:
            order &= ~admitted[:, None] | (usage[:, None] >= usage[None, :])
    if problem.cuts:
        order &= at_least(problem.measures, np.arange(n))
    used = problem.counts > 0
    order &= used[:, None] & used[None, :]
    order &= ~(order.T & (np.arange(n)[:, None] >= np.arange(n)[None, :]))
    direct = order & ~((order.astype(int) @ order.astype(int)) > 0)
    below = order.sum(axis=1)
    pairs = set()
    for a in range(n):
        lower = np.flatnonzero(direct[a])
        pairs |= {(a, int(b)) for b in lower[np.argsort(-below[lower], kind="stable")[:3]]}
    return pairs


@pytest.mark.parametrize("seed", range(40))
def test_exchanges_are_those_of_the_definition(
    seed: int, random_problem: Callable[..., PackingProblem]
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 40))
    usage = rng.integers(0, 6, (int(rng.integers(1, 4)), n)).astype(float)
    options = tuple(
        PackingOption(f"o{o}", usage + o, np.full(len(usage), 12.0), allowed=rng.random(n) < 0.9, price=1 + o)
        for o in range(int(rng.integers(1, 3)))
    )
    counts = np.maximum(rng.integers(0, 3, n), np.eye(1, n, dtype=int)[0])
    plain = PackingProblem(counts, options)
    cut = NoGoodCut((0,), rng.integers(0, 2, n) + np.eye(1, n, 1, dtype=int)[0])
    heavy = replace(plain, cuts=(cut,), dominance=rng.integers(0, 4, (n, 2)))
    for problem in (plain, replace(plain, cuts=(cut,)), heavy, random_problem(seed, cuts=True)):
        assert set(dual_optimal_inequalities(BinFiller(problem), 3)) == by_pairs(problem)
