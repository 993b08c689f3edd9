"""Local search that empties bins: every step leaves bins that hold what they may."""

from __future__ import annotations

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.heuristics.local_search import _take_in
from optimizer.packing.model.problem import Bin, PackingOption, PackingProblem

USAGE = np.array([[6.0, 1.0, 0.0, 4.0], [1.0, 3.0, 8.0, 7.0]])
FILLER = BinFiller(PackingProblem([1, 1, 1, 1], (PackingOption("x", USAGE, np.array([10.0, 10.0])),)))
FULL = Bin(0, np.array([0, 1, 0, 1]))
"""Takes the first item only in exchange for the second."""


def test_an_item_is_exchanged_for_a_lighter_one() -> None:
    swapped = _take_in(FILLER, FULL, 0, 0, np.array([1, 0, 0, 0]))
    assert swapped is not None
    assert (swapped[0].counts.tolist(), swapped[1].tolist()) == ([1, 0, 0, 1], [0, 1, 0, 0])
    into_gap = _take_in(FILLER, Bin(0, np.array([0, 1, 0, 0])), 0, 0, np.array([1, 0, 0, 0]))
    assert into_gap is not None
    assert (into_gap[0].counts.tolist(), into_gap[1].tolist()) == ([1, 1, 0, 0], [0, 0, 0, 0])


def test_what_comes_back_must_fit_the_bin_that_is_emptied() -> None:
    """It is lighter by the fullest row, but takes more of the other one."""
    held = np.array([1, 0, 1, 0])
    assert holds(FILLER, 0, held)
    assert _take_in(FILLER, FULL, 0, 0, held) is None
    assert held.tolist() == [1, 0, 1, 0]
