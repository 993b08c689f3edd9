"""Every arrival process has the rates and gaps that it promises."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scenarios import (
    Arrivals,
    DeterministicArrivals,
    FixedLengths,
    GammaArrivals,
    Lengths,
    LognormalLengths,
    PiecewiseArrivals,
    PoissonArrivals,
    TraceArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
    Workload,
)
from scenarios.reading.row_files import TraceError
from twin import GPULoad, Requests, WorkloadError, draw_requests
from twin.workload.gaps import DeterministicGaps, GammaGaps, LognormalGaps, WeibullGaps, weibull_shape
from twin.workload.walks import rate_walk

PROMPT = FixedLengths(tokens=222)
OUTPUT = FixedLengths(tokens=195)

STATIONARY: list[Arrivals] = [
    PoissonArrivals(),
    GammaArrivals(cv=0.5),
    GammaArrivals(cv=3),
    WeibullArrivals(cv=0.5),
    WeibullArrivals(cv=3),
    DeterministicArrivals(),
    PiecewiseArrivals(window_s=100, factors=(0.5, 1.5)),
    PiecewiseArrivals(window_s=50, factors=(0.0, 2.0), cv=2),
]


def _load(rates: list[float], prompt: Lengths = PROMPT) -> GPULoad:
    n = len(rates)
    return GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=np.full(n, 8, dtype=np.int32),
        rate=np.array(rates, dtype=np.float64),
        prompt=(prompt,) * n,
        output=(OUTPUT,) * n,
    )


def _draw(
    arrivals: Arrivals,
    rates: list[float],
    seed: int = 0,
    duration_s: float = 1000.0,
) -> Requests:
    workload = Workload(arrivals=arrivals, prompt=PROMPT, output=OUTPUT, duration_s=duration_s)
    return draw_requests(_load(rates), workload, seed)


@pytest.mark.parametrize("arrivals", STATIONARY, ids=repr)
def test_each_adapter_gets_its_rate(arrivals: Arrivals) -> None:
    rates = [0.05, 0.4, 2.0] * 200
    requests = _draw(arrivals, rates)
    counts = np.bincount(requests.adapter, minlength=len(rates))
    for index, rate in enumerate(rates[:3]):
        of_rate = counts[index::3]
        noise = of_rate.std() / np.sqrt(len(of_rate))
        assert abs(of_rate.mean() - rate * 1000) <= 4.5 * noise + 1e-9


@pytest.mark.parametrize(
    "arrivals", [*STATIONARY, UnpredictableArrivals(), UnpredictableArrivals(gaps="lognormal")], ids=repr
)
def test_requests_are_sorted_inside_the_duration_and_repeatable(arrivals: Arrivals) -> None:
    first, second = _draw(arrivals, [0.5, 3.0, 0.01], seed=5), _draw(arrivals, [0.5, 3.0, 0.01], seed=5)
    assert np.all(np.diff(first.arrival_s) >= 0)
    assert first.arrival_s[0] >= 0
    assert first.arrival_s[-1] < 1000
    assert first.adapter.dtype == np.int32
    assert first.n_adapters == 3
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "adapter"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    other = _draw(arrivals, [0.5, 3.0, 0.01], seed=6)
    assert not np.array_equal(first.arrival_s, other.arrival_s)


def test_drawing_does_not_use_up_the_callers_sequence() -> None:
    sequence = np.random.SeedSequence(9)
    workload = Workload(prompt=PROMPT, output=OUTPUT, duration_s=100)
    first = draw_requests(_load([1.0]), workload, sequence)
    assert sequence.n_children_spawned == 0
    assert np.array_equal(first.arrival_s, draw_requests(_load([1.0]), workload, sequence).arrival_s)


def test_poisson_gaps_are_exponential() -> None:
    requests = _draw(PoissonArrivals(), [20.0])
    assert stats.kstest(np.diff(requests.arrival_s) * 20, "expon").pvalue > 0.01


def test_poisson_counts_are_poisson() -> None:
    counts = np.bincount(_draw(PoissonArrivals(), [0.004] * 5000).adapter, minlength=5000)
    observed = np.bincount(np.minimum(counts, 10), minlength=11)
    expected = stats.poisson.pmf(np.arange(11), 4.0)
    expected[10] = 1 - expected[:10].sum()
    assert stats.chisquare(observed, expected * 5000).pvalue > 0.01


@pytest.mark.parametrize("cv", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("process", [GammaArrivals, WeibullArrivals])
def test_gaps_have_the_coefficient_of_variation(
    process: type[GammaArrivals] | type[WeibullArrivals], cv: float
) -> None:
    requests = _draw(process(cv=cv), [100.0], duration_s=3000.0)
    gaps = np.diff(requests.arrival_s)
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)


def test_gamma_and_weibull_gaps_have_their_shapes() -> None:
    rng = np.random.default_rng(0)
    shape = weibull_shape(2.0)
    scale = 1 / stats.weibull_min(shape).mean()
    assert stats.kstest(GammaGaps(2.0).gaps(5000, rng), stats.gamma(0.25, scale=4).cdf).pvalue > 0.01
    assert (
        stats.kstest(WeibullGaps(2.0).gaps(5000, rng), stats.weibull_min(shape, scale=scale).cdf).pvalue
        > 0.01
    )


@pytest.mark.parametrize("gaps", [GammaGaps(3.0), WeibullGaps(3.0), LognormalGaps()], ids=["g", "w", "l"])
def test_a_process_is_stationary_from_its_first_instant(
    gaps: GammaGaps | WeibullGaps | LognormalGaps,
) -> None:
    _, events = gaps.draw(np.full(20_000, 5.0), np.random.default_rng(1))
    per_unit = np.histogram(events, bins=5, range=(0, 5))[0] / 20_000
    assert per_unit == pytest.approx(np.ones(5), abs=0.12)


def test_deterministic_gaps_are_equal_with_a_random_phase() -> None:
    requests = _draw(DeterministicArrivals(), [0.5, 0.25])
    for adapter, gap in ((0, 2.0), (1, 4.0)):
        instants = requests.arrival_s[requests.adapter == adapter]
        assert np.diff(instants) == pytest.approx(np.full(len(instants) - 1, gap))
    _, phases = DeterministicGaps().draw(np.ones(5000), np.random.default_rng(0))
    assert stats.kstest(phases, "uniform").pvalue > 0.01


def test_piecewise_rates_follow_the_windows_and_repeat() -> None:
    requests = _draw(PiecewiseArrivals(window_s=100, factors=(0.0, 1.0, 2.0)), [50.0], duration_s=650.0)
    counts = np.histogram(requests.arrival_s, bins=np.append(np.arange(0, 700, 100), 650)[:8])[0]
    expected = np.array([0, 5000, 10000, 0, 5000, 10000, 0])
    assert np.all(np.abs(counts - expected) <= 4.5 * np.sqrt(expected))


def test_the_walk_takes_the_papers_steps_inside_its_limits() -> None:
    walk = rate_walk(UnpredictableArrivals(), 2000, 40, np.random.default_rng(0))
    assert np.all(walk[:, 0] == 1)
    ratio = walk[:, 1:] / walk[:, :-1]
    assert ratio.min() >= 1 / 1.5 - 1e-12
    assert ratio.max() <= 1.5 + 1e-12
    assert walk.min() == pytest.approx(1 / 7.5)
    assert walk.max() == pytest.approx(7.5)
    assert (walk[:, 1] > 1).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("gaps", ["exponential", "lognormal"])
def test_walked_rates_are_met_window_by_window(gaps: str) -> None:
    arrivals = UnpredictableArrivals.model_validate({"every_s": 100, "gaps": gaps})
    requests = _draw(arrivals, [1.0] * 300, duration_s=400.0)
    counts = np.histogram2d(requests.adapter, requests.arrival_s, bins=(np.arange(301), 4), range=None)[0]
    first = counts[:, 0]
    assert first.mean() == pytest.approx(100, abs=3)
    # From the second window on each adapter is either slower or faster.
    assert counts[:, 1].mean() == pytest.approx(100 * (1.5 + 1 / 1.5) / 2, abs=6)
    assert np.abs(counts[:, 1] - 108).mean() > 30


def test_lengths_are_drawn_per_adapter() -> None:
    load = GPULoad(
        names=("a", "b", "c"),
        rank=np.full(3, 8, dtype=np.int32),
        rate=np.array([5.0, 5.0, 5.0]),
        prompt=(FixedLengths(tokens=10), FixedLengths(tokens=20), FixedLengths(tokens=10)),
        output=(LognormalLengths(mean=50, std=20), OUTPUT, OUTPUT),
    )
    workload = Workload(prompt=PROMPT, output=OUTPUT, duration_s=200)
    requests = draw_requests(load, workload, 0)
    assert set(requests.prompt_tokens[requests.adapter == 0]) == {10}
    assert set(requests.prompt_tokens[requests.adapter == 1]) == {20}
    assert set(requests.prompt_tokens[requests.adapter == 2]) == {10}
    assert requests.output_tokens[requests.adapter == 0].std() > 10
    assert set(requests.output_tokens[requests.adapter == 1]) == {195}


def test_a_trace_is_stretched_repeated_and_dealt_by_rate(tmp_path: Path) -> None:
    rows = "".join(f"2023-11-16 18:17:{k:02d}.5000000,{100 + k},{10 + k}\n" for k in range(50))
    with gzip.open(tmp_path / "trace.csv.gz", "wt") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    arrivals = TraceArrivals(file=str(tmp_path / "trace.csv.gz"), lengths=True)
    requests = _draw(arrivals, [3.0, 1.0], duration_s=500.0)
    assert len(requests) == pytest.approx(2000, abs=1)
    assert requests.arrival_s[-1] < 500
    assert (requests.adapter == 0).mean() == pytest.approx(0.75, abs=0.04)
    assert list(requests.prompt_tokens[48:52]) == [148, 149, 100, 101]
    assert list(requests.output_tokens[48:52]) == [58, 59, 10, 11]
    own = _draw(arrivals.model_copy(update={"lengths": False}), [3.0, 1.0], duration_s=500.0)
    assert set(own.prompt_tokens) == {222}


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere\.csv: cannot be read"):
        _draw(TraceArrivals(file=str(tmp_path / "nowhere.csv")), [1.0])


def test_too_many_requests_are_refused() -> None:
    with pytest.raises(WorkloadError, match="above the limit"):
        _draw(PoissonArrivals(), [1e6], duration_s=100_000)


def test_too_many_windows_are_refused() -> None:
    with pytest.raises(WorkloadError, match="make the windows longer"):
        _draw(UnpredictableArrivals(every_s=1e-6), [1.0])


def test_a_million_requests_are_drawn_fast() -> None:
    lengths = LognormalLengths(mean=222, std=240)
    n = 160
    load = GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=np.full(n, 8, dtype=np.int32),
        rate=np.full(n, 1e6 / 3600 / n),
        prompt=(lengths,) * n,
        output=(lengths,) * n,
    )
    workload = Workload(prompt=lengths, output=lengths)
    best = np.inf
    for seed in range(2):
        start = time.process_time()
        requests = draw_requests(load, workload, seed)
        best = min(best, time.process_time() - start)
    assert len(requests) == pytest.approx(1e6, rel=0.01)
    assert best < 2.0
