"""What one run tells of the waits of its requests, by hand."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

from twin import Observation, Requests, RunRecords
from twin.engine.records import GAP_BINS, SERIES
from twin.sustained.waits import Waits, waits_of

WATCHED = Observation(settle_s=100.0, measure_s=400.0, tail_s=50.0)


@pytest.fixture
def waits() -> Waits:
    """Of five requests the second to the fourth count; the third never gets a token."""
    requests = Requests(
        arrival_s=np.array([50.0, 150.0, 450.0, 499.0, 520.0]),
        prompt_tokens=np.array([10, 20, 30, 40, 50], dtype=np.int32),
        output_tokens=np.array([5, 11, 5, 3, 5], dtype=np.int32),
        adapter=np.array([0, 1, 0, 1, 1], dtype=np.int32),
        n_adapters=2,
    )
    first = np.array([51.0, 152.0, nan, 500.5, nan])
    records = RunRecords(
        requests=requests,
        horizon_s=550.0,
        end_s=550.0,
        sent_s=requests.arrival_s,
        first_scheduled_s=first,
        first_token_s=first,
        finish_s=np.array([60.0, 200.0, nan, 530.0, nan]),
        generated_tokens=np.array([5, 11, 0, 3, 0], dtype=np.int32),
        preemptions=np.zeros(5, dtype=np.int32),
        gpu_loads=np.zeros(2, dtype=np.int64),
        disk_loads=np.zeros(2, dtype=np.int64),
        gaps=np.zeros(GAP_BINS, dtype=np.int64),
        series=np.zeros((1, len(SERIES))),
        series_width_s=550.0,
    )
    return waits_of(records, 0.25, WATCHED)


def test_requests_count_that_arrive_while_it_is_measured(waits: Waits) -> None:
    assert waits.adapter.tolist() == [1, 0, 1]
    assert waits.arrival_s.tolist() == [50.0, 350.0, 399.0]


def test_who_never_gets_a_token_has_waited_until_the_end_of_the_run(waits: Waits) -> None:
    assert waits.wait_s.tolist() == [2.25, 100.0, 1.75]
    assert waits.e2e_s.tolist() == [50.25, 100.0, 31.25]
    np.testing.assert_allclose(waits.tpot_s, [4.8, nan, 14.75])


def test_tokens_are_those_offered_and_completed_while_it_is_measured(waits: Waits) -> None:
    assert (waits.offered_tokens, waits.served_tokens) == (pytest.approx(31 + 35 + 43), pytest.approx(31))


def test_who_never_ends_stays(waits: Waits) -> None:
    """Half a request in the first 100 s, and 0.51 of one in the last, 300 s later."""
    assert waits.growth_per_s == pytest.approx(0.01 / 300)
