"""Bisection of many brackets, and the regime that depends on a number of adapters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learn.bisection import bisect
from learn.features import shares_slots


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.integers(0, 40))
def test_the_place_stays_between_the_ends(places: list[float], halvings: int) -> None:
    place = np.array(places)
    low, high = bisect(
        lambda x: x < place, np.full(len(place), -11.0), np.full(len(place), 11.0), halvings=halvings
    )
    assert (low < place).all()
    assert (place <= high).all()
    np.testing.assert_allclose(high - low, 22.0 / 2**halvings, rtol=1e-3)


@pytest.mark.parametrize(("always", "end"), [(True, 3.0), (False, 1.0)])
def test_a_condition_that_does_not_change_leads_to_an_end(always: bool, end: float) -> None:
    low, high = bisect(lambda x: np.full(x.shape, always), 1.0, 3.0, halvings=30)
    assert float(low) == pytest.approx(end)
    assert float(high) == pytest.approx(end)


def test_as_many_adapters_as_slots_are_resident_however_their_number_was_rounded() -> None:
    slots = np.array([1.0, 3.0, 7.0, 160.0])
    for place in (0.15, 0.33, 0.85):
        mean = slots ** (1 - place) * slots**place
        assert not shares_slots(mean, slots).any()
        assert shares_slots(mean + 1, slots).all()
