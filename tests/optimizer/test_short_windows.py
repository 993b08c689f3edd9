"""A window too short for its criterion is told as such, not as adapters that fit nowhere."""

from __future__ import annotations

import pytest

import optimizer
import scenarios

TEXT = """
name: short
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 16, rank: 8, rate: [0.5, 2]}]
workload: {prompt: 200, output: 800}
devices: [{name: H100-64GB, count: 4}]
"""


@pytest.mark.parametrize("duration_s", [1, 60])
def test_a_window_too_short_for_the_criterion_is_told(duration_s: int) -> None:
    result = optimizer.solve(scenarios.loads(TEXT, ["acceptance=paper", f"workload.duration_s={duration_s}"]))
    assert result.status == "infeasible"
    assert (
        f"workload.duration_s {duration_s} is too short for service_levels.served_share 0.9" in result.message
    )
    assert "raise workload.duration_s to 110 s at least" in result.message
    assert "do not fit" not in result.message


def test_a_share_of_one_is_told_to_be_out_of_reach() -> None:
    result = optimizer.solve(
        scenarios.read("paper_mixed_32", ["acceptance=paper", "service_levels.served_share=1"])
    )
    assert result.status == "infeasible"
    assert "requests in flight at the end count as unserved" in result.message
    assert "lower served_share to at most 0.99" in result.message
    assert "ask for latencies beside it (service_levels.ttft_ms)" in result.message
