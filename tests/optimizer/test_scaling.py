"""Rows as integers: exact where figures allow, else rounded towards safety and never by much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing.model.scaling import RESOLUTION, exact_factor, integer_rows


@pytest.mark.parametrize(
    ("values", "factor"),
    [
        ([3.0, 5.0], 1.0),
        ([0.5, 1.25], 100.0),
        ([0.001, 2.0], 1000.0),
        ([1 / 3, 0.5], 6.0),
        ([1 / 7], 7.0),
        ([np.sqrt(2)], None),
        ([1 / 997, 1 / 991], 997.0 * 991.0),
        ([1 / 997, 1 / 991, 1 / 983], None),
        ([], 1.0),
    ],
)
def test_the_least_factor_that_makes_integers(values: list[float], factor: float | None) -> None:
    assert exact_factor(np.array(values)) == factor


def test_rows_of_decimals_and_fractions_are_the_smallest_integers() -> None:
    usage = np.array([[0.5, 0.25], [2.0, 4.0], [1 / 3, 2 / 3]])
    rows = integer_rows(usage, np.array([1.1, 7.0, 1.0]), np.ones(2, bool), np.array([9, 9]))
    assert rows.usage.tolist() == [[2, 1], [1, 2], [1, 2]]
    assert rows.capacity.tolist() == [4, 3, 3]  # nothing that is used reaches 1.1 or 7
    assert rows.most.tolist() == [2, 1]
    assert rows.exact


def test_classes_that_do_not_fit_change_no_scale() -> None:
    usage = np.array([[0.5, np.pi, 0.25]])
    rows = integer_rows(usage, np.array([1.0]), np.array([True, True, False]), np.array([3, 3, 3]))
    assert rows.exact
    assert rows.usage.tolist() == [[1, 0, 0]]
    assert rows.most.tolist() == [2, 0, 0]


def test_what_is_rounding_error_is_nothing() -> None:
    rows = integer_rows(
        np.array([[0.1 + 0.2 - 0.3, 0.5]]), np.array([1.0]), np.ones(2, bool), np.array([4, 4])
    )
    assert rows.usage.tolist() == [[0, 1]]
    assert rows.most.tolist() == [4, 2]


def test_what_is_small_is_no_rounding_error() -> None:
    """A hundred million items of a hundred-millionth fill the bin, so each takes something of it."""
    usage, counts = np.array([[1e-8, 0.5]]), np.array([10**9, 2])
    rows = integer_rows(usage, np.array([1.0]), np.ones(2, bool), counts)
    assert rows.usage[0, 0] > 0
    assert rows.most[0] <= 10**8


def test_a_capacity_between_two_integers_is_rounded_down() -> None:
    rows = integer_rows(np.array([[2.0, 3.0]]), np.array([5.7]), np.ones(2, bool), np.array([9, 9]))
    assert (rows.usage.tolist(), rows.capacity.tolist()) == ([[2, 3]], [5])
    assert rows.exact


@pytest.mark.parametrize(("size", "capacity"), [(0.3 + 1e-8, 0.9), (1 / 3 + 7e-9, 1.0)])
def test_what_is_a_little_more_than_a_third_fits_twice(size: float, capacity: float) -> None:
    """It is nearly a fraction of few digits, or as many ten-millionths as the next smaller number of them."""
    rows = integer_rows(np.array([[size]]), np.array([capacity]), np.ones(1, bool), np.array([9]))
    assert rows.most.tolist() == [2]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    usage=st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=5),
    capacity=st.floats(0.1, 100.0),
    seed=st.integers(0, 10**6),
)
def test_integer_rows_admit_nothing_that_the_given_ones_refuse(
    usage: list[float], capacity: float, seed: int
) -> None:
    given_row, n = np.array([usage]), len(usage)
    rows = integer_rows(given_row, np.array([capacity]), np.ones(n, bool), np.full(n, 50))
    counts = np.random.default_rng(seed).integers(0, 1 + np.minimum(rows.most, 8))
    used, items = float(given_row[0] @ counts), int(counts.sum())
    if (rows.usage @ counts <= rows.capacity).all():
        assert used <= capacity * (1 + 1e-9)
    elif not rows.exact:  # what is held back is small
        assert used > capacity * (1 - items * 2 / RESOLUTION)
    else:
        assert used > capacity * (1 - 1e-9)
