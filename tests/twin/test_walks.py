"""Rates that walk: the stationary law against a long walk, and of so many states that it is a limit."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios import UnpredictableArrivals
from twin.workload.walks import MAX_STATES, rate_walk, stationary_law, stationary_walk


@pytest.mark.parametrize(("factor", "limit"), [(1.5, 7.5), (2.0, 8.0), (3.0, 2.0), (1.5, 1.0)])
def test_the_stationary_law_is_that_of_a_long_walk(factor: float, limit: float) -> None:
    arrivals = UnpredictableArrivals(factor=factor, limit=limit)
    states, law = stationary_law(factor, limit)
    assert law.sum() == pytest.approx(1.0)
    assert states.max() == pytest.approx(limit)
    walk = rate_walk(arrivals, 4000, 400, np.random.default_rng(0))[:, 200::50]
    assert walk.mean() == pytest.approx(float(states @ law), rel=0.02)
    for at in (1.0, limit / factor):
        assert (walk <= at * 1.0001).mean() == pytest.approx(
            float(law[states <= at * 1.0001].sum()), abs=0.02
        )


def test_the_walk_stays_in_its_law_and_has_mean_one() -> None:
    walk = stationary_walk(UnpredictableArrivals(), 20_000, 30, np.random.default_rng(1))
    assert walk.mean(axis=0) == pytest.approx(np.ones(30), abs=0.03)
    assert walk[:, 0].std() == pytest.approx(walk[:, -1].std(), rel=0.03)


def test_of_very_many_states_the_law_is_uniform_in_the_logarithm() -> None:
    states, law = stationary_law(1.0001, 10.0)
    assert len(states) == MAX_STATES
    assert float(np.log(states) @ law) == pytest.approx(0.0, abs=1e-6)
    assert float(states @ law) == pytest.approx(np.sinh(np.log(10.0)) / np.log(10.0), rel=1e-4)
