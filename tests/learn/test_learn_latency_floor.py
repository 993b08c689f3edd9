"""Floors of latencies: rows below the cost of steps, and lines below the twin's runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learn import Dataset, DesignSpace, Regions, StepFloor
from learn.features import ADDITIVE, RESIDENCE_S, additive_columns
from learn.latency.floor import _lines_below, _weights, as_run, fit_floors
from learn.params import LatencyFloorParams
from learn.region import READABLE, regions_of
from learn.region_store import SHIPPED, shipped_regions
from scenarios import EngineConfig, EngineOption, UnpredictableArrivals

PARAMS = LatencyFloorParams(least_runs=10, folds=3)


@pytest.fixture(scope="module", params=["resident", "shared"])
def step(space: DesignSpace, request: pytest.FixtureRequest) -> StepFloor:
    return StepFloor.of(space.profile, space.options[0], request.param, space.engine, 150.0)


def some_sums(n: int = 40) -> np.ndarray:
    """Feature sums of GPUs with 1 to 60 adapters, from idle to half a GPU's load."""
    rng = np.random.default_rng(5)
    gpus = []
    for _ in range(n):
        rate = rng.uniform(0.01, 12.0) * rng.dirichlet(np.ones(rng.integers(1, 60)))
        tokens = np.full(len(rate), 200.0), np.full(len(rate), 150.0), np.full(len(rate), 150.0**2)
        gpus.append(additive_columns(rate, *tokens).sum(axis=0))
    return np.array(gpus)


def test_lines_lie_below_the_cost_of_tokens() -> None:
    tokens = np.arange(1.0, 400.0)
    cost = 12.0 + np.minimum(tokens, 16) * 0.3 + np.maximum(tokens - 100, 0) * 0.05 + np.sin(tokens) * 0.1
    bases, slopes = _lines_below(tokens, cost)
    lines = bases[:, None] + np.outer(slopes, tokens)
    assert (lines <= cost + 1e-9).all()
    assert (bases >= 0).all()
    assert (lines.max(axis=0)[0], lines.max(axis=0)[-1]) == pytest.approx((cost[0], cost[-1]))


def test_a_cost_that_grows_faster_than_its_tokens_still_has_a_line() -> None:
    """Lines with an intercept below 0 would make long steps look cheap."""
    tokens = np.arange(1.0, 50.0)
    bases, slopes = _lines_below(tokens, tokens**2)
    assert (bases >= 0).all()
    assert (bases[:, None] + np.outer(slopes, tokens) <= tokens**2 + 1e-9).all()


def test_adapters_with_a_request_are_never_overstated() -> None:
    residence = np.array([0.0, 0.3, 1.0, 2.5, 16.0, 90.0, 400.0])
    for rate in (0.001, 0.1, 3.0):
        known = -np.expm1(-rate * np.array(RESIDENCE_S))
        assert (_weights(residence) @ known <= -np.expm1(-rate * residence) + 1e-12).all()
    assert _weights(np.array([4.0]))[0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_rows_hold_where_steps_take_no_longer_and_nowhere_else(step: StepFloor) -> None:
    sums = some_sums()
    least = step.least_s(sums)
    assert (least > 0.005).all()
    for longer, holds in ((1.001, True), (0.999, False)):
        for one, seconds in zip(sums, least * longer, strict=True):
            within = []
            for crowded in (False, True)[: 1 + (step.regime == "shared")]:
                constant, slopes = step.rows(float(seconds), crowded=crowded)
                assert (slopes >= 0).all()
                within.append((constant + slopes @ one <= seconds).all())
            assert any(within) == holds


def test_steps_take_no_less_with_more_adapters(step: StepFloor) -> None:
    sums = some_sums()
    assert (step.least_s(2 * sums) >= step.least_s(sums)).all()


def test_with_a_slot_for_each_slots_cost_by_the_adapter(space: DesignSpace) -> None:
    """Plans give back the slots beyond the adapters, so 9 of them have 9 slots of any 64."""
    few, many = (StepFloor.of(space.profile, o, "resident", space.engine, 150.0) for o in space.options)
    assert (few.slots, many.slots) == (8, 64)
    for count in (1, 8, 9, 40, 64):
        trimmed = StepFloor.of(space.profile, EngineOption("gpu", count, 16), "shared", space.engine, 150.0)
        held = np.zeros(len(ADDITIVE))
        held[ADDITIVE.index("count")] = count
        constant, slopes = (few if count <= 8 else many).rows(0.01)
        idle, _ = trimmed.rows(0.01)
        assert (constant + slopes @ held).max() == pytest.approx(idle.max(), rel=0.002)


def test_floors_lie_below_the_runs_that_shaped_them(dataset: Dataset, space: DesignSpace) -> None:
    floors = fit_floors(dataset, None, space, PARAMS)
    assert {floor.latency for floor in floors} == {"itl_ms", "ttft_ms", "ttft_p99_ms"}
    accepted = dataset.where(~dataset.starved)
    for floor in floors:
        assert 0 < floor.runs <= len(accepted)
        assert floor.below <= PARAMS.held_out_below
        shared = floor.regime == "shared"
        for option in space.options:
            own = (accepted.engines == option.numbers).all(axis=1) & (accepted.shared == shared)
            runs = accepted.where(own)
            step_ms = as_run(space, option).least_s(runs.sums) * 1e3
            share = (floor.base_ms + floor.steps * step_ms) / runs.target(floor.latency)
            assert (share <= 1.02).all()
            if floor.latency == "itl_ms" and len(share):
                assert np.median(share) > 0.3


def test_runs_by_the_whole_rule_lower_floors(dataset: Dataset, space: DesignSpace) -> None:
    whole = Dataset(dataset.table.assign(itl_ms=dataset.table["itl_ms"] / 9), dataset.metadata)
    before, after = (fit_floors(dataset, again, space, PARAMS) for again in (None, whole))
    for one, other in zip(before, after, strict=True):
        lower = other.base_ms + 20 * other.steps < 0.5 * (one.base_ms + 20 * one.steps)
        assert lower == (one.latency == "itl_ms")
        assert other.runs > one.runs


def test_without_enough_runs_or_where_steps_do_not_tell_it_there_is_none(
    dataset: Dataset, space: DesignSpace
) -> None:
    assert fit_floors(dataset, None, space, LatencyFloorParams(least_runs=10_000)) == ()
    changing = space.workload.model_copy(update={"arrivals": UnpredictableArrivals()})
    assert fit_floors(dataset, None, replace(space, workload=changing), PARAMS) == ()
    measured = {"num_speculative_tokens": 3, "mean_acceptance_length": 2.0, "step_factor": 1.2}
    speculating = EngineConfig(speculative_config=measured)  # type: ignore[arg-type]
    assert fit_floors(dataset, None, replace(space, engine=speculating), PARAMS) == ()
    unmeasured = Dataset(dataset.table.assign(ttft_p99_ms=np.nan), dataset.metadata)
    told = {floor.latency for floor in fit_floors(unmeasured, None, space, PARAMS)}
    assert told == {"itl_ms", "ttft_ms"}


def test_shipped_regions_of_steady_arrivals_have_floors_and_older_files_are_read_without() -> None:
    assert len(shipped_regions()) == len(list(SHIPPED.glob("*.json")))
    for regions in shipped_regions():
        space = regions.provenance.space
        newer = space.get("acceptance") == "sustained" or any(len(kind) > 2 for kind in space["lengths"])
        steady = space["arrivals"]["process"] == "poisson" and newer
        assert len(regions.floors) == (6 if steady else 0)
        assert all(floor.below <= 0.002 for floor in regions.floors)
        assert regions.format in READABLE
        assert ("floors" in regions.to_json()) == steady
        assert regions_of(regions.to_json()) == regions


def test_a_latency_has_one_floor_in_a_regime() -> None:
    regions = next(one for one in shipped_regions() if one.floors)
    document = regions.model_dump(mode="json")
    document["floors"].append(document["floors"][0])
    with pytest.raises(ValueError, match="a latency has two floors in the same regime"):
        Regions.model_validate(document)
    assert len(ADDITIVE) == len(regions.inner.features)
