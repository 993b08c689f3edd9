"""Requests that arrive at the same instant keep the order in which they were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from twin.arrivals import _order


@pytest.mark.parametrize("distinct", [1, 7, 1_000_000_000])
def test_the_order_of_instants_is_stable(distinct: int) -> None:
    instants = np.random.default_rng(3).integers(0, distinct, 5000).astype(np.float64)
    assert _order(instants).tolist() == np.argsort(instants, kind="stable").tolist()
