"""Why a placer that proves nothing has no packing: the reason and what it is about, beside any text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from optimizer.packing.model.arrays import IntArray


class NoPackingReason(StrEnum):
    """What keeps a placer from a packing."""

    FITS_NO_BIN = "fits_no_bin"
    """An item fits no bin by the rows, even alone."""
    FIRST_TEST = "first_test"
    """The published greedy's first test point overloads an empty bin; fewer items are not tested."""
    NO_ENGINE = "no_engine"
    """No option of the fewest slots has the rank that the next items need."""
    ONE_KIND = "one_kind"
    """The placer uses one kind of bin at a time, and there are too few of each."""
    BIN_OVERLOADED = "bin_overloaded"
    """A rule that asks its model once dealt a bin more than that admits."""


@dataclass(frozen=True, eq=False)
class NoPacking:
    """Why there is no packing.

    Parameters
    ----------
    reason
        What keeps the placer from one.
    items
        Items per class that it is about, shape (n_classes,).
    tested
        Items of the test that failed; 0 if there was no test.
    full_bins
        Bins that were full by then.
    """

    reason: NoPackingReason
    items: IntArray
    tested: int = 0
    full_bins: int = 0
