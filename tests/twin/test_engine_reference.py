"""The compiled loop agrees with the plain reference on random engines and workloads."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.loop import run

CLOSE = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}


def agree(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    case = cases.case(seed)
    expected = reference.Reference(case.requests, case.setup, case.horizon_s).run()
    got = run(case.requests, case.setup, case.horizon_s, record_steps=True)
    assert got.steps is not None
    assert [tuple(map(int, row[1:])) for row in got.steps] == [row[1:] for row in expected.rows]
    np.testing.assert_allclose(got.steps[:, 0], [row[0] for row in expected.rows], **CLOSE)
    for name, values in (
        ("sent", got.sent_s),
        ("first_scheduled", got.first_scheduled_s),
        ("first_token", got.first_token_s),
        ("finish", got.finish_s),
    ):
        np.testing.assert_allclose(values, [getattr(r, name) for r in expected.requests], **CLOSE)
    assert got.preemptions.tolist() == [r.preemptions for r in expected.requests]
    assert got.generated_tokens.tolist() == [r.generated for r in expected.requests]
    assert got.gpu_loads.tolist() == expected.gpu_loads
    assert got.disk_loads.tolist() == expected.disk_loads
    busy = sum(seconds for _, seconds, _ in expected.steps)
    blocks = sum(seconds * used for _, seconds, used in expected.steps)
    sums = got.series.sum(axis=0)
    np.testing.assert_allclose(sums[[0, 1, 4]], [len(expected.steps), busy, blocks], rtol=1e-9)


@given(seed=st.integers(min_value=0, max_value=2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_random_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases, seed)


@pytest.mark.parametrize("seed", range(100))
def test_fixed_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases, seed)
