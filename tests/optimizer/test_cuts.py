"""A cut means the same bins to the checker, to the compiled kernels and to every placer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing import methods, pack
from optimizer.packing.assignment.formulation import assignment_model
from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.checker import check, matches
from optimizer.packing.model.cuts import cut_shape, needed_cuts
from optimizer.packing.model.matching import room_by_cut
from optimizer.packing.model.problem import (
    Bin,
    FloatArray,
    IntArray,
    NoGoodCut,
    Packing,
    PackingOption,
    PackingProblem,
)
from optimizer.packing.model.search_state import Status
from tests.slow import slow

EXACT = ("exact", "cpsat", "milp", "cbc")
Optimum = Callable[[PackingProblem], float]
Random = Callable[..., PackingProblem]


def random_dominance(rng: np.random.Generator, n: int) -> FloatArray | None:
    """From a total order (one dimension) to classes hardly any of which compare (four)."""
    dimensions = int(rng.integers(0, 5))
    if dimensions == 0:
        return None
    return rng.integers(0, 6, (n, dimensions)).astype(np.float64)


def random_counts(rng: np.random.Generator, n: int) -> IntArray:
    """Mostly zeros at times, so that multisets of one class and of all occur."""
    counts = rng.integers(0, 4, n) * (rng.random(n) < rng.random())
    counts[int(rng.integers(n))] += 1
    return np.asarray(counts, dtype=np.int64)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_kernels_and_checker_mean_the_same_bins(seed: int) -> None:
    mean_the_same(np.random.default_rng(seed))


@pytest.mark.slow
def test_kernels_and_checker_mean_the_same_many_bins() -> None:
    for seed in range(400):
        mean_the_same(np.random.default_rng(seed))


def mean_the_same(rng: np.random.Generator) -> None:
    n = int(rng.integers(1, 40))
    dominance = random_dominance(rng, n)
    cut, held = NoGoodCut((0,), random_counts(rng, n)), random_counts(rng, n)
    option = PackingOption("x", np.ones((1, n)), np.array([1000.0]))
    shape = cut_shape(cut.counts, PackingProblem(held, (option,), dominance=dominance).measures)
    assert int(shape.requirements.sum()) == int(cut.counts.sum())
    dominated = matches(cut, held, dominance)
    assert shape.dominated_by(held) == dominated
    if dominated:
        return
    c, most = int(rng.integers(n)), int(rng.integers(1, 10))
    room = room_by_cut(c, most, held, shape.requirements, shape.class_group, shape.compatible)
    grown = [held + k * np.eye(n, dtype=np.int64)[c] for k in range(most + 1)]
    assert room == max(k for k in range(most + 1) if not matches(cut, grown[k], dominance))


def incomparable(seed: int) -> PackingProblem:
    """Many classes of which few compare, and cuts made of bins that placers like to build."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 15))
    values = rng.integers(0, 7, (n, 2))
    usage = rng.integers(1, 6, (2, n)).astype(float)
    options = (
        PackingOption("x", usage, np.array([16.0, 18.0])),
        PackingOption("y", usage, np.array([22.0, 14.0]), allowed=rng.random(n) < 0.8, price=1.25),
    )
    plain = PackingProblem(np.ones(n, dtype=int), options, dominance=values)
    cuts: tuple[NoGoodCut, ...] = ()
    for method in ("bfd", "ffd", "exact"):
        problem = PackingProblem(plain.counts, options, dominance=plain.dominance, cuts=cuts)
        packing = pack(problem, method, time_limit_s=20).packing
        if packing is not None:
            b = max(packing.bins, key=lambda b: int(b.counts.sum()))
            cuts += (NoGoodCut((b.option,) if rng.random() < 0.5 else (0, 1), b.counts),)
    return PackingProblem(plain.counts, options, dominance=plain.dominance, cuts=cuts)


@pytest.mark.parametrize("seed", [0, 1, 5, *slow([2, 3, 4])])
def test_every_placer_respects_cuts_of_many_incomparable_classes(seed: int) -> None:
    problem = incomparable(seed)
    assert max(int((cut.counts > 0).sum()) for cut in problem.cuts) >= 5
    values, least = {}, pack(problem, "cpsat").bound
    for method in methods().values():
        if "price" not in method.objectives:
            continue
        result = pack(problem, method.name, time_limit_s=0.2 if method.name == "local" else 30)
        if result.packing is not None:
            assert check(problem, result.packing) == []
        if method.name in EXACT:
            assert result.status is Status.OPTIMAL
            values[method.name] = result.objective
        else:
            assert result.objective is None or result.objective >= least - 1e-9
    assert len(set(values.values())) == 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_the_assignment_model_admits_exactly_the_bins_that_keep_the_cuts(seed: int) -> None:
    """One bin with given items: the model has a solution if and only if the checker accepts the bin."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 16))
    dominance, held = random_dominance(rng, n), random_counts(rng, n)
    cuts = tuple(NoGoodCut((0,), random_counts(rng, n)) for _ in range(int(rng.integers(1, 4))))
    option = PackingOption("x", np.ones((1, n)), np.array([1000.0]))
    problem = PackingProblem(held, (option,), cuts=cuts, dominance=dominance, max_bins=1)
    accepted = not any(matches(cut, held, dominance) for cut in cuts)
    assert holds(BinFiller(problem), 0, held) == accepted
    assert (check(problem, Packing((Bin(0, held),))) == []) == accepted
    result = pack(problem, "cpsat")
    assert result.status is (Status.OPTIMAL if accepted else Status.INFEASIBLE)


def test_a_cut_that_follows_from_another_is_left_out() -> None:
    option = PackingOption("x", np.array([[1.0, 2.0, 3.0]]), np.array([9.0]))
    dominance = np.array([[0.0], [1.0], [2.0]])
    weak, strong = NoGoodCut((0,), np.array([0, 1, 2])), NoGoodCut((0,), np.array([1, 1, 0]))
    problem = PackingProblem(np.array([3, 3, 3]), (option,), cuts=(weak, strong), dominance=dominance)
    assert needed_cuts(problem) == (strong,)
    apart = PackingProblem(np.array([3, 3, 3]), (option,), cuts=(weak, strong))
    assert set(needed_cuts(apart)) == {weak, strong}


def test_a_cut_follows_only_from_one_that_holds_for_all_of_its_options() -> None:
    options = tuple(PackingOption(name, np.array([[1.0]]), np.array([9.0])) for name in "ab")
    strong, weak = np.array([2]), np.array([3])
    for cuts, kept in (
        ((NoGoodCut((0,), strong), NoGoodCut((0, 1), weak)), [(0,), (0, 1)]),
        ((NoGoodCut((0, 1), strong), NoGoodCut((0,), weak)), [(0, 1)]),
    ):
        needed = needed_cuts(PackingProblem(np.array([5]), options, cuts=cuts))
        assert [cut.options for cut in needed] == kept


def test_a_cut_that_no_bin_can_dominate_makes_no_rows() -> None:
    option = PackingOption("x", np.array([[4.0, 5.0]]), np.array([9.0]))
    out_of_reach = NoGoodCut((0,), np.array([3, 3]))
    problem = PackingProblem(np.array([3, 3]), (option,), cuts=(out_of_reach,))
    assert not any(row.name.startswith("cut") for row in assignment_model(problem, 3).formulation.rows)
