"""What the twin shows of a GPU in windows: means, and how far they stray."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.checking.drift.foretold import LONGEST_WINDOW_S, Foretold, foretell
from optimizer.checking.drift.planned import planned_gpus, tolerated_load
from tests.optimizer.checking.plans import plan, scenario
from twin import PlacementJudge, TwinJudge, profiles_of
from twin.simulate import MemoryFailure


def foretold(seconds: float, *changes: str, times: float = 1.0) -> Foretold:
    """What the twin shows of GPU 0, of 3 requests/s."""
    result = plan(*changes)
    assert result.placement is not None
    profiles = profiles_of(result.scenario)
    content, _ = PlacementJudge(TwinJudge(result.scenario, profiles)).content(result.placement.gpus[0])
    return foretell(content.scaled(times), result.scenario, profiles["H100-64GB"], seconds)


def test_means_are_those_of_the_traffic() -> None:
    seen = foretold(60.0)
    assert seen.requests_per_s == pytest.approx(3.0, rel=0.02)
    assert seen.prompt.mean == pytest.approx(200, rel=0.02)
    assert seen.output.mean == pytest.approx(200, rel=0.02)
    assert (seen.running >= 0).all()
    assert (seen.waiting >= 0).all()
    assert len(seen.running) == len(seen.waiting) == len(seen.kv_use)
    assert 0 < seen.kv_use.mean() < 0.05
    assert seen.preemptions_per_s == 0.0


@pytest.mark.parametrize("seconds", [10.0, 60.0, 3600.0])
def test_counts_of_poisson_arrivals_vary_as_a_poissons_and_lengths_as_single_ones(seconds: float) -> None:
    seen = foretold(seconds)
    assert seen.window_s == min(seconds, LONGEST_WINDOW_S)
    assert 1.0 <= seen.dispersion < 1.6
    # Of a lognormal of standard deviation 100 that is hardly clipped.
    assert np.sqrt(seen.prompt.variance) == pytest.approx(100, rel=0.2)


def test_bursts_widen_counts_as_their_variation_says() -> None:
    assert foretold(600.0, "workload.arrivals={process: gamma, cv: 3}").dispersion == pytest.approx(
        9, rel=0.4
    )


def test_the_rarer_the_more_and_means_stray_less_than_instants() -> None:
    seen = foretold(60.0)
    ends = [seen.most(seen.running, 2, rare) for rare in (0.5, 0.1, 0.01, 0.001)]
    assert ends == sorted(ends)
    assert seen.most(seen.running, 40, 0.001) < seen.most(seen.running, 2, 0.001)
    assert seen.most_growth(0.001) >= seen.most_growth(0.5)


def test_more_load_is_seen() -> None:
    calm, busy = foretold(60.0), foretold(60.0, times=2.0)
    assert busy.requests_per_s == pytest.approx(2 * calm.requests_per_s, rel=0.03)
    assert busy.running.mean() > 1.9 * calm.running.mean()


def test_an_engine_that_does_not_start_is_told() -> None:
    with pytest.raises(MemoryFailure):
        foretold(60.0, "devices[0].memory_gib=10")


def test_users_who_wait_for_answers_ask_as_often_as_the_twin_shows() -> None:
    loop = "{process: closed_loop, users: 10, think_s: 20}"
    result = plan("adapters[0].rate=null", f"adapters[0].arrivals={loop}")
    planned = planned_gpus(result, {0: 60.0})[0]
    assert planned.rate.low == planned.rate.high == planned.foretold.requests_per_s
    assert planned.rate.high < 2.5 + 10 / 20


def test_the_load_that_is_tolerated_is_that_of_the_verdict_and_five_percent_at_least() -> None:
    assert tolerated_load(scenario()) == pytest.approx(1.05)
    assert tolerated_load(scenario("headroom=0.3")) == pytest.approx(1.3)
    assert tolerated_load(scenario("headroom=0")) == pytest.approx(1.05)
    assert tolerated_load(scenario("acceptance=paper")) == pytest.approx(1.05)
