"""Sweeps over a key of a scenario, and fronts of a latency over numbers of GPUs."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

import optimizer
import scenarios
from scenarios import ScenarioError


@pytest.fixture(scope="module")
def scenario() -> scenarios.Scenario:
    return scenarios.read("paper_high_32", overrides=["replications=1"])


@pytest.fixture(scope="module")
def swept(scenario: scenarios.Scenario) -> optimizer.Sweep:
    values = [1.3, 0.2, 1.3]
    return optimizer.sweep(scenario, "adapters[0].rate", values, ["greedy-fill", "bfd"], time_limit_s=10.0)


@pytest.fixture(scope="module")
def found(scenario: scenarios.Scenario) -> optimizer.Front:
    return optimizer.front(scenario, [3, 2], method="greedy-lat", time_limit_s=10.0)


def test_a_sweep_solves_every_method_at_every_value_once(swept: optimizer.Sweep) -> None:
    assert swept.values == (0.2, 1.3)
    assert swept.methods == ("greedy-fill", "bfd")
    rates = [results[0].scenario.classes[0].rate for results in swept.results]
    assert rates == [0.2, 1.3]
    frame = swept.to_frame()
    assert list(frame["method"]) == ["greedy-fill", "bfd"] * 2
    assert list(frame["gpus"]) == [result.gpus for results in swept.results for result in results]
    assert frame["gpus"].iloc[-1] > frame["gpus"].iloc[0]


def test_a_sweep_shows_plans_that_are_missing_or_rejected(swept: optimizer.Sweep) -> None:
    low, high = swept.results
    lost = low[0].model_copy(
        update={"gpus": None, "placement": None, "validation": None, "status": "no_plan"}
    )
    rejected = high[1].model_copy(update={"validation": None})
    shown = optimizer.Sweep(swept.path, swept.values, ((lost, low[1]), (high[0], rejected)))
    labels = [text.get_text() for legend in shown.plot().legends for text in legend.get_texts()]
    assert {"greedy-fill: no plan", "rejected by the twin"} <= set(labels)
    html = shown._repr_html_()
    assert "no plan" in html
    assert "REJECTED" in html


@pytest.mark.parametrize(
    ("path", "values", "methods", "told"),
    [
        ("adapters[0].rate", [], ["bfd"], "values is empty"),
        ("adapters[0].rat", [1.0], ["bfd"], "adapters"),
        ("adapters[0].rate", [1.0], ["best"], "best"),
    ],
)
def test_a_sweep_refuses_before_it_solves(
    path: str, values: list[float], methods: list[str], told: str, scenario: scenarios.Scenario,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("optimizer.comparison.solve", lambda *_, **__: pytest.fail("it solved"))
    with pytest.raises(ScenarioError, match=told):
        optimizer.sweep(scenario, path, values, methods)


def test_a_front_has_the_best_plan_on_each_number_of_gpus(found: optimizer.Front) -> None:
    assert [point.gpus for point in found.points] == [2, 3]
    assert [point.value for point in found.points] == [result.objective for result in found.results]
    assert all(point.cost_per_hour is None for point in found.points)
    assert found.points[0].best


def test_a_plan_that_costs_more_and_is_no_faster_is_not_on_the_front(found: optimizer.Front) -> None:
    slower = found.results[1].model_copy(update={"objective": 1e6})
    points = optimizer.Front(found.objective, (found.results[0], slower)).points
    assert [point.best for point in points] == [True, False]
    rejected = found.results[0].model_copy(update={"validation": None})
    assert len(optimizer.Front(found.objective, (rejected, slower)).points) == 1


def test_of_plans_that_are_equally_fast_the_one_on_fewer_gpus_is_on_the_front(found: optimizer.Front) -> None:
    first = next(result for result in found.results if result.accepted)
    for value, best in ((first.objective, False), (0.99 * (first.objective or 0.0), True)):
        again = first.model_copy(update={"gpus": (first.gpus or 0) + 1, "objective": value})
        points = optimizer.Front(found.objective, (first, again)).points
        assert [point.best for point in points] == [True, best]


def test_a_front_is_drawn_over_its_cost_where_there_are_prices(found: optimizer.Front) -> None:
    assert found.plot().axes[0].get_xlabel() == "GPUs"
    priced = [
        result.model_copy(
            update={"scenario": scenarios.override(result.scenario, ["devices[0].price_per_hour=2.5"])}
        )
        for result in found.results
    ]
    front = optimizer.Front(found.objective, tuple(priced))
    assert [point.cost_per_hour for point in front.points] == [5.0, 7.5]
    axes = Figure().subplots()
    assert front.plot(ax=axes) is axes.figure
    assert axes.get_xlabel() == "cost per hour"


def test_a_front_of_no_gpus_is_refused(scenario: scenarios.Scenario) -> None:
    with pytest.raises(ScenarioError, match="gpus is empty"):
        optimizer.front(scenario, [])
