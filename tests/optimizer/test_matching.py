"""Matching of a bin's items to a cut's against brute force over all ways to match."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optimizer.packing.model.cuts import CutTable, cut_shape
from optimizer.packing.model.matching import dominates_one, room_by_cut
from optimizer.packing.model.problem import FloatArray, IntArray, PackingOption, PackingProblem


def items(counts: IntArray) -> list[int]:
    return [c for c, n in enumerate(counts) for _ in range(n)]


def dominates(counts: IntArray, cut: IntArray, measures: FloatArray) -> bool:
    """Whether some one-to-one matching gives every item of the cut one that is at least as heavy."""
    return any(
        all((measures[a] >= measures[b]).all() for a, b in zip(chosen, items(cut), strict=True))
        for chosen in itertools.permutations(items(counts), len(items(cut)))
    )


def drawn(seed: int) -> tuple[IntArray, IntArray, FloatArray]:
    """A bin of up to six items, a cut of up to four, and measures by which few or many classes compare."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    measures = rng.integers(0, 4, (n, int(rng.integers(1, 4)))).astype(np.float64)
    counts = np.bincount(rng.integers(n, size=int(rng.integers(1, 7))), minlength=n)
    cut = np.bincount(rng.integers(n, size=int(rng.integers(1, 5))), minlength=n)
    return counts, cut, measures


@pytest.mark.parametrize("seed", range(60))
def test_a_bin_dominates_a_cut_if_some_matching_serves_all_of_it(seed: int) -> None:
    counts, cut, measures = drawn(seed)
    shape = cut_shape(cut, measures)
    expected = dominates(counts, cut, measures)
    assert shape.dominated_by(counts) == expected
    if not expected:
        c = seed % len(counts)
        room = room_by_cut(c, 4, counts, shape.requirements, shape.class_group, shape.compatible)
        grown = [counts + k * np.eye(len(counts), dtype=np.int64)[c] for k in range(5)]
        assert room == max(k for k in range(5) if not dominates(grown[k], cut, measures))


def test_both_answers_occur() -> None:
    answers = [dominates(*drawn(seed)) for seed in range(60)]
    assert 10 < sum(answers) < 50


def test_a_greedy_matching_is_mended_along_a_path_of_three() -> None:
    """Each group serves two requirements in a row; only the matching that shifts all of them serves the last.

    The greedy matching gives group g requirement g, so that the last one, which only the first group's items
    reach along the chain, stays without.
    """
    requirements = np.array([1, 1, 1])
    compatible = np.array([[True, False, True], [True, True, False], [False, True, False]])
    counts, class_group = np.array([1, 1, 1]), np.array([0, 1, 2])
    assert dominates_one(counts, requirements[None], class_group[None], compatible[None])
    assert room_by_cut(0, 3, np.array([0, 1, 1]), requirements, class_group, compatible) == 0
    assert room_by_cut(2, 3, np.array([0, 1, 1]), requirements, class_group, compatible) == 3


def test_cuts_of_different_sizes_are_stacked() -> None:
    measures = np.array([[1.0], [2.0]])
    shapes = [cut_shape(np.array(cut), measures) for cut in ([2, 0], [1, 3])]
    option = PackingOption("x", np.ones((1, 2)), np.array([9.0]))
    problem = PackingProblem([5, 5], (option,), dominance=measures)
    assert problem.measures is problem.dominance
    groups = np.array([shape.class_group for shape in shapes])
    requirements = np.array([[2, 0], shapes[1].requirements])
    compatible = np.zeros((2, 2, 2), dtype=bool)
    for k, shape in enumerate(shapes):
        rows, columns = shape.compatible.shape
        compatible[k, :rows, :columns] = shape.compatible
    table = CutTable(requirements, groups, compatible)
    assert not table.violated(np.array([1, 0]))
    assert table.violated(np.array([1, 1]))
    assert not CutTable(requirements[1:], groups[1:], compatible[1:]).violated(np.array([2, 2]))
    assert CutTable(requirements[1:], groups[1:], compatible[1:]).violated(np.array([1, 3]))
