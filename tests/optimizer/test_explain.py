"""Explanations: what fills a GPU, weights that prove a bound, and what would save one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import learn
import optimizer
import scenarios
from optimizer.explanation.explain import MOST_PARTS, Explanation, _least, explain
from optimizer.explanation.sensitivity import WhatIf, slot_row, without_limits
from optimizer.packing.bounds.price_bounds import continuous_bound
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.search.instance import Instance
from optimizer.search.preparation import instance_of
from scenarios import EngineOption


@pytest.fixture(scope="module")
def scenario() -> scenarios.Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1"])


@pytest.fixture(scope="module")
def instance(scenario: scenarios.Scenario) -> Instance:
    return instance_of(scenario)


@pytest.fixture(scope="module")
def result(scenario: scenarios.Scenario) -> optimizer.Result:
    return optimizer.solve(scenario, objective="gpus")


@pytest.fixture(scope="module")
def explanation(result: optimizer.Result) -> Explanation:
    return result.explain()


def what_if(explanation: Explanation, name: str) -> WhatIf:
    return next(one for one in explanation.what_ifs if one.name == name)


def test_the_tight_row_of_a_gpu_is_that_of_its_region(
    explanation: Explanation, result: optimizer.Result, instance: Instance
) -> None:
    assert result.placement is not None
    assert len(explanation.gpus) == len(result.placement.gpus)
    sums = np.array([c.count for c in instance.classes]) @ learn.scenario_features(
        result.scenario, instance.classes
    )
    gpu, said = result.placement.gpus[0], explanation.gpus[0]
    options = instance.regions[gpu.device].inner.of(gpu.max_loras, gpu.max_lora_rank)
    rows = min(options, key=lambda one: float(one.fill(sums)))
    assert said.fill == pytest.approx(float(rows.fill(sums)))
    assert said.row == rows.rows[int(rows.fills(sums).argmax())].meaning
    assert sum(said.parts.values()) == pytest.approx(said.fill, abs=0.05)
    assert said.second_fill is not None
    assert said.second_fill <= said.fill
    assert result.validation is not None
    (verdict,) = result.validation.gpus
    assert said.worst_served_share == verdict.worst_served_share
    assert verdict.sustained is not None
    assert said.late_share == verdict.sustained.late_share


def test_the_weights_prove_the_bound(explanation: Explanation, instance: Instance) -> None:
    for argument, problem in zip(explanation.arguments, (instance.inner, instance.outer), strict=True):
        assert argument.total == pytest.approx(continuous_bound(without_limits(problem)))
        assert sum(argument.weights.values()) == pytest.approx(argument.total, rel=1e-6)
        weight = dict(argument.weights)
        of_class = np.zeros(problem.n_classes)
        for c, one in enumerate(instance.classes):
            name = f"{one.count} of rank {one.rank} at {one.rate:.3g}/s"
            of_class[c] = weight.get(name, 0.0) / one.count
        filler, rng = BinFiller(problem), np.random.default_rng(0)
        for o in range(len(problem.options)):
            order = rng.permutation(problem.n_classes)
            held = filler.fill(o, order, np.full(problem.n_classes, 500))
            assert of_class @ held <= problem.options[o].price * (1 + 1e-6)


@pytest.mark.parametrize(("total", "said"), [(2.3, "3 GPUs"), (3.0 + 1e-9, "3 GPUs"), (0.2, "1 GPU")])
def test_weights_prove_so_many_whole_gpus(total: float, said: str) -> None:
    assert _least(total, "GPUs") == said
    assert _least(total, "price") == f"a price of {total:.2f}"


def test_the_text_fits_a_terminal_and_says_why(explanation: Explanation, result: optimizer.Result) -> None:
    text = explanation.summary()
    assert max(map(len, text.splitlines())) <= 100
    joined = " ".join(text.split())
    for said in (
        "Why not fewer",
        "What would save",
        "conservative region",
        "at least 1 GPU",
        "which this plan meets",
    ):
        assert said in joined
    more = [len(argument.weights) > MOST_PARTS for argument in explanation.arguments]
    assert joined.count(", ...)") == sum(more)
    assert str(explanation) == text
    assert " ".join(result.headline.split()) in joined
    assert json.loads(explanation.to_json())["gpus"][0]["gpu"] == 0


def test_a_lower_rank_saves_no_less_the_lower_it_is(explanation: Explanation) -> None:
    names = [one.name for one in explanation.what_ifs]
    assert names[2:] == ["largest rank 16", "largest rank 8"]
    higher, lower = what_if(explanation, "largest rank 16"), what_if(explanation, "largest rank 8")
    assert higher.saves is not None
    assert lower.saves is not None
    assert -1e-6 <= higher.saves <= lower.saves + 1e-6
    assert "21 adapters" in lower.text
    assert "10 adapters" in higher.text


def test_one_more_slot_is_worth_what_the_slot_rows_lack(result: optimizer.Result, instance: Instance) -> None:
    """With the slot row as the only one that binds, 32 adapters on 8 slots are 4 GPUs, on 9 slots 3.56."""
    kept = instance.regions["H100-64GB"].restricted([(8, 32)])
    only = replace(instance, regions={"H100-64GB": kept})
    options = tuple(
        replace(
            option, name="any", usage=np.ones_like(option.usage), capacity=np.full(len(option.capacity), 8.0)
        )
        for option in instance.inner.options
        if option.key == (EngineOption("H100-64GB", 8, 32), "resident", 0)
    )
    loose = replace(options[0], usage=np.ones((2, instance.inner.n_classes)), capacity=np.array([1e6, 8.0]))
    only = replace(only, inner=replace(instance.inner, options=(loose,)))
    found = explain(result, only)
    assert what_if(found, "one more slot").saves == pytest.approx(4 - 32 / 9, rel=1e-4)
    assert "of the KV cache" in what_if(found, "one more slot").text


def test_the_row_of_the_slots_is_known_by_what_it_limits_whatever_the_texts(instance: Instance) -> None:
    """By its numbers: an option may be renamed, and a row may mean it in other words."""
    for option in instance.inner.options:
        row, resident = slot_row(replace(option, name="")), option.name.endswith("resident")
        assert (row is not None) == resident
        (rows,) = (
            rows
            for rows in instance.regions[option.device].inner.of(
                option.option.max_loras, option.option.max_lora_rank
            )
            if rows.regime == ("resident" if resident else "shared")
        )
        assert row is None or rows.rows[row].meaning == "a slot for every adapter"


def test_a_smaller_max_model_len_helps_only_engines_that_fail_for_it(
    explanation: Explanation, result: optimizer.Result, instance: Instance
) -> None:
    assert what_if(explanation, "smaller max_model_len").saves == 0.0
    assert "takes no memory" in what_if(explanation, "smaller max_model_len").text
    long = scenarios.override(instance.scenario, ["engine.max_model_len=131072"])
    found = what_if(explain(result, replace(instance, scenario=long)), "smaller max_model_len")
    assert "instead of 131,072 would also start" in found.text


def test_plans_of_a_baseline_are_explained_too(scenario: scenarios.Scenario) -> None:
    hot = scenarios.override(scenario, ["adapters[0].rate=1.2"])
    rejected = optimizer.solve(hot, method="maxbackbone")
    assert not rejected.accepted
    found = rejected.explain()
    assert any(gpu.fill is not None and gpu.fill > 1 for gpu in found.gpus)
    text = " ".join(found.summary().split())
    assert "maxbackbone proves nothing" in text
    assert "outside the conservative region" in text


def test_what_cannot_be_placed_is_explained_by_its_message() -> None:
    found = optimizer.solve(scenarios.read("hot_adapter", overrides=["replications=1"])).explain()
    assert found.gpus == ()
    assert "support" in found.why[0]
