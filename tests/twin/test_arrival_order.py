"""Requests that arrive at the same instant keep the order in which they were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from twin.workload.parts import order_of


@pytest.mark.parametrize("distinct", [1, 7, 1_000, 1_000_000_000])
def test_the_order_of_instants_is_stable(distinct: int) -> None:
    instants = np.random.default_rng(3).integers(0, distinct, 5000).astype(np.float64)
    assert order_of(instants).tolist() == np.argsort(instants, kind="stable").tolist()


@pytest.mark.parametrize("latest", [1.0, 1e6])
def test_steady_and_crowded_instants_are_sorted(latest: float) -> None:
    """A late one puts all others into one bucket."""
    instants = np.append(np.random.default_rng(4).random(20_000), latest)
    assert order_of(instants).tolist() == np.argsort(instants, kind="stable").tolist()


def test_no_instants_have_anorder_of() -> None:
    assert order_of(np.zeros(0)).tolist() == []
