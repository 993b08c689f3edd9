"""Which method does which objective: what does not go together is refused before any work, the rest works."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import optimizer
import scenarios
from optimizer.arguments import objectives_of
from optimizer.packing.model.problem import PackingError, PackingProblem
from optimizer.search import solve as solving
from scenarios import Scenario, ScenarioError

SPREADERS = [name for name, method in optimizer.methods().items() if method.spreads]


@pytest.fixture
def scenario() -> Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1", "devices[0].price_per_hour=2"])


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked must be refused before a region is looked for or a plan is made."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("it began to work")

    monkeypatch.setattr(solving, "prepare", work)
    monkeypatch.setattr(solving, "solve_baseline", work)


def test_there_are_methods_that_only_spread() -> None:
    assert set(SPREADERS) == {"greedy-lat", "spread"}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("method", SPREADERS)
@pytest.mark.parametrize("objective", [None, "gpus", "cost", ("cost", "latency")])
def test_a_spread_does_not_minimise_prices(
    scenario: Scenario, method: str, objective: str | Sequence[str] | None
) -> None:
    with pytest.raises(ScenarioError) as refused:
        optimizer.solve(scenario, method, objective=objective, gpus=4)
    (problem,) = refused.value.problems
    said = str(problem)
    first = "cost" if objective and "cost" in objective else "gpus"
    assert f'method is "{method}", which does not do objective {first};' in said
    assert "latency, worst_latency, ttft, worst_ttft, worst_ttft_p99, balance" in said
    assert all(name in said for name, other in optimizer.methods().items() if not other.spreads)
    assert "price" not in said


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("method", SPREADERS)
def test_a_spread_needs_a_number_of_gpus(scenario: Scenario, method: str) -> None:
    with pytest.raises(ScenarioError, match=f'gpus is absent, and method "{method}"'):
        optimizer.solve(scenario, method, objective="latency")


@pytest.mark.parametrize("method", SPREADERS)
@pytest.mark.parametrize("objective", ["latency", "worst_latency", "ttft", "worst_ttft", "balance"])
def test_a_spread_does_every_other_objective(scenario: Scenario, method: str, objective: str) -> None:
    result = optimizer.solve(scenario, method, objective=objective, gpus=4)
    assert result.accepted
    assert result.gpus is not None
    assert result.gpus <= 4
    assert result.objective is not None
    assert "dealt" not in result.message  # its own plan, no other rule's


def test_the_spread_of_the_paper_is_its_own(scenario: Scenario) -> None:
    """ProposedLat gives every adapter to the GPU of least rate, so their rates differ by less than one."""
    plan = optimizer.solve(scenario, "greedy-lat", objective="latency", gpus=3).placement
    assert plan is not None
    rate = {name: one.rate for one in scenario.classes for name in one.names}
    rates = [sum(rate[name] for name in gpu.adapters) for gpu in plan.gpus]
    assert len(rates) == 3
    assert max(rates) - min(rates) <= max(rate.values())


@pytest.mark.usefixtures("no_work")
def test_compare_checks_every_combination_first(scenario: Scenario) -> None:
    quick = scenarios.override(scenario, ["objective=latency"])
    with pytest.raises(ScenarioError) as refused:
        optimizer.compare([scenario, quick], ["greedy", "dlora", "spread", "greedy-lat"])
    assert [problem.path for problem in refused.value.problems] == ["method", "method", "gpus", "gpus"]
    with pytest.raises(ScenarioError, match="does not do objective cost"):
        optimizer.compare(quick, ["greedy", "spread"], objective=("cost", "gpus"), gpus=3)
    with pytest.raises(ScenarioError) as unknown:
        optimizer.compare(scenario, ["greedy", "magic", "exact", "tarot"])
    assert [str(p)[:17] for p in unknown.value.problems] == ['method is "magic"', 'method is "tarot"']
    with pytest.raises(ScenarioError, match="workers is 0"):
        optimizer.compare(scenario, ["greedy"], workers=0)


@pytest.mark.usefixtures("no_work")
def test_compare_asks_for_every_profile_first(scenario: Scenario) -> None:
    strange = scenario.model_copy(update={"model": "nobody/unknown"})
    with pytest.raises(scenarios.LorapackError, match="nobody/unknown"):
        optimizer.compare([scenario, strange], ["greedy"])


def test_pack_says_what_a_method_does() -> None:
    problem = PackingProblem.bin_packing([3, 2, 1], 4)
    with pytest.raises(PackingError, match="does not do objective price, only mean and worst; choose from"):
        optimizer.pack(problem, "spread")
    with pytest.raises(PackingError, match="does not do objective worst, only price; choose from cbc"):
        optimizer.pack(problem.balanced(3), "bfd")


def test_the_list_of_methods_says_which_objectives_each_does() -> None:
    said = {name: objectives_of(one) for name, one in optimizer.methods().items()}
    assert said["exact"] == said["patterns"] == said["milp"] == "all"
    assert said["greedy-lat"] == said["spread"] == "all but gpus, cost"
    assert said["greedy"] == said["greedy-fill"] == "gpus, cost"
    assert said["bfd"] == "gpus, cost; rest: spread"
    assert {objectives_of(one) for one in optimizer.BASELINES.values()} == {"none"}
