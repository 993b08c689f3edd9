from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learn import Dataset, DatasetError, DesignSpace, Engines, candidate_features
from learn.features import FloatArray
from learn.steady_state import ESTIMATES, LONGEST_S, SteadyState
from scenarios import AdapterClass, FixedLengths
from twin import GPULoad, simulate
from twin.step_cost import CostTerm, StepCost

STEP, CARRIED, SLOTS, KV = range(len(ESTIMATES))
RATES = np.array([0.001, 0.05, 0.2, 0.4])


@pytest.fixture(scope="module")
def steady(dataset: Dataset) -> SteadyState:
    return SteadyState.of(dataset)


def sixteen(rate: float) -> AdapterClass:
    """Adapters of rank 8 with 200 and 150 tokens."""
    lengths = {"prompt": FixedLengths(tokens=200), "output": FixedLengths(tokens=150)}
    return AdapterClass(rank=8, rate=rate, names=tuple(f"a{k}" for k in range(16)), **lengths)


def features(rates: FloatArray, adapters: int = 16, slots: float = 16.0, kv: float = 4e5) -> FloatArray:
    """One candidate per rate: adapters of rank 8 with 200 and 150 tokens."""
    m = len(rates)
    engines = Engines(np.full(m, slots), np.full(m, 8.0), np.full(m, kv))
    lengths = (np.full(m, 200.0), np.full(m, 150.0), np.full(m, 150.0**2))
    return candidate_features(rates, np.full(m, 8.0), *lengths, adapters * np.eye(m), engines)


def test_a_light_engine_is_estimated_as_the_twin_plays_it(steady: SteadyState, space: DesignSpace) -> None:
    rates = np.array([0.02, 0.2, 0.4])
    estimated = np.exp(steady.estimate(features(rates))[:, STEP])
    for rate, itl_ms in zip(rates, estimated, strict=True):
        load = GPULoad.from_classes([sixteen(rate)])
        played = simulate(load, space.workload, space.engine, space.profile, max_loras=16, max_lora_rank=8)
        assert itl_ms == pytest.approx(1e3 * played.gpu.itl.mean_s, rel=0.15)


def test_a_step_with_prompts_costs_more_as_often_as_there_is_one(steady: SteadyState) -> None:
    prompts = CostTerm(name="prompts", seconds=4e-3, per="prompts")
    more = replace(steady, cost=StepCost(terms=(*steady.cost.terms, prompts)))
    plain, found = (np.exp(one.estimate(features(RATES))[:, STEP]) for one in (steady, more))
    assert plain[0] == pytest.approx(found[0], rel=0.01)  # hardly any step has one
    assert (found >= plain).all()
    batch = np.minimum(16 * RATES * 150 * found / 1e3, 512)
    # Longer steps hold more requests, which make them longer still.
    assert (found - plain >= 0.95 * 4 * -np.expm1(-batch / 150)).all()


def test_the_estimate_is_a_fixed_point(steady: SteadyState) -> None:
    """A step lasts what it costs with the batch that such steps lead to."""
    found = steady.estimate(features(RATES))
    step_s = np.exp(found[:, STEP]) / 1e3
    batch = np.minimum(16 * RATES * 150 * step_s, 512)
    tables = steady.cost.tables(16, 8, steady.max_num_batched_tokens, 16)
    adapters = np.minimum(16 * -np.expm1(-RATES * 150 * step_s), batch)
    cost = (
        np.interp(batch * 350 / 150, np.arange(len(tables.token_s)), tables.token_s)
        + np.interp(adapters, np.arange(len(tables.adapter_s)), tables.adapter_s)
        + np.interp(adapters, np.arange(len(tables.adapter_s)), tables.adapter_token_s) * batch * 350 / 150
        + batch * (tables.decode_s + tables.prefill_s * 200 / 150 + tables.context_s * 275)
    )
    np.testing.assert_allclose(cost, step_s, rtol=0.05)


def test_more_load_means_longer_steps_and_less_of_it_carried(steady: SteadyState) -> None:
    found = steady.estimate(features(np.geomspace(1e-4, 100, 40)))
    assert (np.diff(found[:, STEP]) > -1e-3).all()
    assert (np.diff(found[:, CARRIED]) < 1e-6).all()
    assert found[0, CARRIED] == 1.0
    assert found[-1, CARRIED] < 0.1
    assert (np.diff(found[:, KV]) > -1e-6).all()
    assert found[-1, KV] == pytest.approx(1.0)
    assert np.isfinite(found).all()
    assert (found[:, STEP] < np.log(1e3 * LONGEST_S)).all()


def test_the_queue_of_an_overloaded_engine_lengthens_its_steps(
    steady: SteadyState, space: DesignSpace
) -> None:
    """As the twin plays it: the scheduler passes over all that wait, more the longer it lasts."""
    light, heavy = features(np.array([0.05])), features(np.array([6.0]))
    hour, minute = replace(steady, duration_s=3600.0), replace(steady, duration_s=60.0)
    assert hour.estimate(light)[0, STEP] == pytest.approx(minute.estimate(light)[0, STEP], abs=1e-3)
    longer = hour.estimate(heavy)[0, STEP] - minute.estimate(heavy)[0, STEP]
    played = [
        simulate(
            GPULoad.from_classes([sixteen(6.0)]),
            space.workload.model_copy(update={"duration_s": seconds, "warmup_s": 0.0}),
            space.engine,
            space.profile,
            max_loras=16,
            max_lora_rank=8,
            kv_cache_tokens=400_000,
        ).gpu.itl.mean_s
        for seconds in (60.0, 3600.0)
    ]
    assert longer == pytest.approx(np.log(played[1] / played[0]), abs=0.3)
    assert longer > 0.2


def test_adapters_without_a_slot_are_not_carried(steady: SteadyState) -> None:
    rates = np.full(1, 0.5)
    enough, few = (steady.estimate(features(rates, 64, slots))[0] for slots in (64.0, 8.0))
    assert enough[SLOTS] <= 1 < few[SLOTS]
    assert few[CARRIED] < enough[CARRIED]


def test_runs_of_unknown_step_cost_are_refused(dataset: Dataset) -> None:
    metadata = {name: value for name, value in dataset.metadata.items() if name != "step"}
    with pytest.raises(DatasetError, match=r"steps cost.*sample it again"):
        SteadyState.of(replace(dataset, metadata=metadata))
