"""Metrics of hand-made records, and the result around them."""

from __future__ import annotations

import json
from math import inf, nan

import numpy as np
import pytest

from twin import EngineSetup, Requests, RunRecords, SchedulerRules, SimulationResult, StepTables, metrics
from twin.engine.records import GAP_BINS, SERIES, gap_edges_s
from twin.engine.run import simulate_requests


def by_hand(horizon_s: float = 10.0) -> RunRecords:
    """Three requests of two adapters; the third is cut off after two of its five tokens."""
    requests = Requests(
        arrival_s=np.array([0.0, 1.0, 8.0]),
        prompt_tokens=np.array([10, 20, 30], dtype=np.int32),
        output_tokens=np.array([5, 1, 5], dtype=np.int32),
        adapter=np.array([0, 1, 1], dtype=np.int32),
        n_adapters=2,
    )
    return RunRecords(
        requests=requests,
        horizon_s=horizon_s,
        end_s=10.0,
        sent_s=np.array([0.0, 2.0, 8.0]),
        first_scheduled_s=np.array([0.5, 3.0, 9.0]),
        first_token_s=np.array([1.0, 4.0, 9.5]),
        finish_s=np.array([3.0, 4.0, nan]),
        generated_tokens=np.array([5, 1, 2], dtype=np.int32),
        preemptions=np.array([1, 0, 0], dtype=np.int32),
        gpu_loads=np.array([1, 2]),
        disk_loads=np.array([0, 1]),
        gaps=np.zeros(GAP_BINS, dtype=np.int64),
        series=np.zeros((5, len(SERIES))),
        series_width_s=2.0,
    )


@pytest.mark.parametrize("n", [1, 2, 7, 9_999, 10_000, 60_001])
@pytest.mark.parametrize("kind", ["lognormal", "equal", "few values", "with zeros", "tiny"])
def test_percentiles_are_numpys(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    values = {
        "lognormal": rng.lognormal(0.0, 3.0, n),
        "equal": np.full(n, 0.3),
        "few values": rng.integers(1, 4, n) * 0.1,
        "with zeros": np.where(rng.random(n) < 0.7, 0.0, rng.random(n)),
        "tiny": rng.uniform(0.0, 1e-300, n),
    }[kind]
    found = metrics.latency(values)
    expected = np.percentile(values, metrics.PERCENTILES)
    np.testing.assert_allclose([found.p50_s, found.p90_s, found.p95_s, found.p99_s], expected, rtol=1e-14)
    assert found.mean_s == values.mean()


def test_what_is_not_known_is_left_out_of_a_latency() -> None:
    values = np.array([nan, 2.0, nan, 4.0])
    assert metrics.latency(values) == metrics.latency(np.array([2.0, 4.0]))
    for nothing in (np.array([nan, nan]), np.array([])):
        assert np.isnan(metrics.latency(nothing).p99_s)


def test_latencies_of_some_adapters_are_over_their_requests() -> None:
    view = metrics.window(by_hand())
    first = metrics.latencies_of(view, 0.1, adapters=np.array([0], dtype=np.int32))
    assert (first["ttft"].mean_s, first["e2e"].mean_s) == (pytest.approx(1.1), pytest.approx(3.1))
    assert first["tpot"].mean_s == first["itl"].p99_s == pytest.approx(0.5)
    second = metrics.latencies_of(view, 0.1, ("itl", "tpot"), np.array([1], dtype=np.int32))
    assert np.isnan(second["itl"].mean_s)  # its answer has one token
    assert np.isnan(second["tpot"].p50_s)
    assert metrics.latencies_of(view, 0.1, ()) == {}


def test_throughput_counts_tokens_of_completed_requests() -> None:
    gpu = metrics.gpu_metrics(metrics.window(by_hand()), 100)
    assert (gpu.requests, gpu.completed) == (3, 2)
    assert gpu.offered_tok_per_s == pytest.approx((15 + 21 + 35) / 10)
    assert gpu.served_tok_per_s == pytest.approx((15 + 21) / 10)
    assert gpu.input_tok_per_s == pytest.approx(3.0)
    assert gpu.output_tok_per_s == pytest.approx(0.6)
    assert gpu.served_share == pytest.approx(36 / 71)


def test_latencies_follow_vllms_definitions() -> None:
    gpu = metrics.gpu_metrics(metrics.window(by_hand()), 100, frontend_s=0.1)
    assert gpu.ttft.mean_s == pytest.approx((1.0 + 2.0) / 2 + 0.1)
    assert gpu.itl.mean_s == pytest.approx(2.0 / 4)
    assert gpu.tpot.mean_s == pytest.approx(0.5)
    assert gpu.e2e.mean_s == pytest.approx((3.0 + 2.0) / 2 + 0.1)
    assert gpu.queueing.mean_s == pytest.approx((0.5 + 1.0) / 2)


def test_warm_up_leaves_out_what_came_before() -> None:
    gpu = metrics.gpu_metrics(metrics.window(by_hand(), 3.5), 100)
    assert (gpu.requests, gpu.completed) == (1, 1)
    assert gpu.duration_s == 6.5
    assert gpu.served_tok_per_s == pytest.approx(21 / 6.5)


def test_adapters_apart() -> None:
    m = metrics.adapter_metrics(metrics.window(by_hand()))
    assert m.requests.tolist() == [1, 2]
    assert m.completed.tolist() == [1, 1]
    assert m.served_share.tolist() == pytest.approx([1.0, 21 / 56])
    assert m.ttft["mean_s"].tolist() == pytest.approx([1.0, 2.0])
    assert m.preemptions.tolist() == [1, 0]
    assert np.isnan(m.tpot["p99_s"][1])


def test_percentiles_of_an_adapter_are_those_of_its_requests() -> None:
    rng = np.random.default_rng(3)
    result = served(rng, 400)
    m, r = result.adapters, result.records
    for adapter in range(3):
        mine = (r.requests.adapter == adapter) & r.finished
        times = metrics.ttft_s(r)[mine]
        for p in (50, 90, 95, 99):
            assert m.ttft[f"p{p}_s"][adapter] == pytest.approx(np.percentile(times, p, method="lower"))
        assert m.ttft["mean_s"][adapter] == pytest.approx(times.mean())


def served(rng: np.random.Generator, n: int, horizon_s: float = inf) -> SimulationResult:
    """A small engine that serves n requests of three adapters."""
    requests = Requests(
        arrival_s=rng.exponential(0.05, n).cumsum(),
        prompt_tokens=rng.integers(1, 100, n).astype(np.int32),
        output_tokens=rng.integers(1, 30, n).astype(np.int32),
        adapter=rng.integers(0, 3, n).astype(np.int32),
        n_adapters=3,
    )
    setup = EngineSetup(
        max_loras=2,
        max_cpu_loras=3,
        max_num_seqs=16,
        max_num_batched_tokens=128,
        long_prefill_token_threshold=0,
        block_size=16,
        usable_blocks=100,
        rules=SchedulerRules(),
        tables=StepTables(0.01 + 1e-5 * np.arange(129.0), np.zeros(3), np.zeros(3)),
        gpu_load_s=np.full(3, 0.002),
        disk_load_s=np.zeros(3),
    )
    records = simulate_requests(requests, setup, horizon_s)
    return SimulationResult(records, ("x", "y", "z"), 2, 8, 1616, 100, seed=3)


def test_gap_histogram_gives_the_percentiles_of_the_gaps() -> None:
    result = served(np.random.default_rng(1), 300)
    gpu, r = result.gpu, result.records
    assert r.gaps.sum() == (r.requests.output_tokens - 1).sum()
    middles = np.sqrt(gap_edges_s()[:-1] * gap_edges_s()[1:])
    assert (middles * r.gaps).sum() / r.gaps.sum() == pytest.approx(gpu.itl.mean_s, rel=0.02)
    assert gpu.itl.p50_s <= gpu.itl.p90_s <= gpu.itl.p95_s <= gpu.itl.p99_s
    times = metrics.ttft_s(r)[r.finished]
    percentiles = [gpu.ttft.p50_s, gpu.ttft.p90_s, gpu.ttft.p95_s, gpu.ttft.p99_s]
    assert percentiles == pytest.approx(np.percentile(times, [50, 90, 95, 99]))


def played(blocks: int, output: tuple[int, ...], warmup_s: float = 0.0) -> RunRecords:
    """Prompts of one token that come at once, in steps of half a second and blocks of four tokens."""
    n = len(output)
    requests = Requests(
        arrival_s=np.zeros(n),
        prompt_tokens=np.ones(n, dtype=np.int32),
        output_tokens=np.array(output, dtype=np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
    )
    setup = EngineSetup(
        max_loras=1,
        max_cpu_loras=1,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        long_prefill_token_threshold=0,
        block_size=4,
        usable_blocks=blocks,
        rules=SchedulerRules(),
        tables=StepTables(np.full(65, 0.5), np.zeros(2), np.zeros(2)),
        gpu_load_s=np.zeros(1),
        disk_load_s=np.zeros(1),
    )
    return simulate_requests(requests, setup, warmup_s=warmup_s)


def test_gaps_that_end_in_the_warm_up_are_left_out() -> None:
    for ends in ((11,), (11, 4)):
        whole, later = (played(100, ends, warmup_s) for warmup_s in (0.0, 3.25))
        assert whole.gaps.sum() == sum(ends) - len(ends)
        assert later.gaps.sum() == 5  # of the tokens at 3.5 to 5.5 s; a shorter answer has ended by then


def test_the_gap_around_a_preemption_is_as_long_as_its_client_waited() -> None:
    records = played(5, (12, 12))
    assert records.preemptions.tolist() == [0, 1]
    (places,) = records.gaps.nonzero()
    middles = np.sqrt(gap_edges_s()[:-1] * gap_edges_s()[1:])[places]
    spans = records.finish_s - records.first_token_s
    assert records.gaps.sum() == 22
    waited = spans[1] - 10 * 0.5
    assert waited > 0.5
    assert middles == pytest.approx([0.5, waited], rel=0.02)
    assert records.gaps[places].tolist() == [21, 1]


def test_time_series_adds_up_to_the_run() -> None:
    result = served(np.random.default_rng(1), 300, horizon_s=20.0)
    frame, r = result.time_series(), result.records
    width = r.series_width_s
    assert len(frame) == 120
    assert frame.start_s.iloc[-1] + width == pytest.approx(20.0)
    assert frame.output_tokens.sum() * width == pytest.approx(r.generated_tokens.sum())
    assert frame.gpu_loads.sum() * width == pytest.approx(r.gpu_loads.sum())
    assert (frame.kv_use <= 1).all()


def test_littles_law() -> None:
    """The mean number in the system is the rate of arrivals times the mean time in it."""
    result = served(np.random.default_rng(5), 3000)
    gpu, r = result.gpu, result.records
    inside = (r.finish_s - r.requests.arrival_s).sum() / r.end_s
    assert gpu.running + gpu.waiting == pytest.approx(inside, rel=0.05)


def test_result_prints_and_exports() -> None:
    result = served(np.random.default_rng(1), 50)
    document = json.loads(result.to_json())
    assert document["gpu"]["completed"] == 50
    assert [row["adapter"] for row in document["adapters"]] == ["x", "y", "z"]
    assert list(result.to_frame().adapter) == ["x", "y", "z"]
    assert len(result.request_frame()) == 50
    assert "50 completed" in result.summary()
    assert "50 completed" in result._repr_html_()


def test_a_run_without_requests_is_a_result_too() -> None:
    result = served(np.random.default_rng(1), 0, horizon_s=10.0)
    assert result.gpu.served_share == 1.0
    assert np.isnan(result.gpu.ttft.mean_s)
    assert json.loads(result.to_json())["gpu"]["ttft"]["mean_s"] is None
    assert "no completed request" in result.summary()
