"""Plans for uncertain rates: cuts of what is rejected at a corner, one verdict everywhere, and growth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
import twin
from optimizer.growth import GrowthReport
from optimizer.search.instance import _dominance
from optimizer.search.judging import Pattern, PatternJudge
from optimizer.search.minimize_gpus import minimize_gpus
from optimizer.search.preparation import instance_of
from optimizer.search.solve import search_of
from scenarios import Deadline, EngineOption, Scenario
from scenarios.stopping import interrupts
from twin import GPUContent, GPUVerdict, PlacementJudge, TwinJudge

RATE = "adapters[0].rate=[0.6, {low: 0.05, high: 0.3}, {low: 0, high: 0.15}, 0.075, 0.0375]"
FAST = ("replications=1", "seed=3", "objective=gpus")


@pytest.fixture(scope="module")
def uncertain() -> Scenario:
    return scenarios.read("paper_mixed_32", overrides=[RATE, *FAST, "adapters[0].count=12"])


@pytest.fixture(scope="module")
def result(uncertain: Scenario) -> optimizer.Result:
    return optimizer.solve(uncertain, time_limit_s=120.0)


# --- cuts ----------------------------------------------------------------------------------------------


def test_a_class_of_uncertain_rates_stands_for_itself_alone(uncertain: Scenario) -> None:
    classes = uncertain.classes
    measures = _dominance(classes)
    for a, one in enumerate(classes):
        for b, other in enumerate(classes):
            heavier = bool((measures[a] >= measures[b]).all())
            if one.kind.uncertain or other.kind.uncertain:
                assert heavier == (a == b)
            else:
                assert heavier == (one.rank >= other.rank and one.rate >= other.rate)


def test_known_rates_dominate_as_ever() -> None:
    classes = scenarios.read("paper_mixed_32").classes
    assert (_dominance(classes)[:, 2:] == _dominance(classes)[0, 2:]).all()


# --- one verdict everywhere ------------------------------------------------------------------------------


def test_a_plan_holds_at_every_corner_and_says_which_is_worst(
    uncertain: Scenario, result: optimizer.Result
) -> None:
    assert result.accepted
    assert result.placement is not None
    assert result.validation is not None
    assert twin.validate(uncertain, result.placement, workers=2) == result.validation
    judge = TwinJudge(uncertain, twin.profiles_of(uncertain))
    placed = PlacementJudge(judge)
    for gpu, verdict in zip(result.placement.gpus, result.validation.gpus, strict=True):
        content, _ = placed.content(gpu)
        assert content.uncertain == (verdict.corner is not None)
        known = [content.at_high, *(corner for _, corner in content.other_corners(uncertain.seed))]
        margins = [one.signed_margin for one in judge(known)]
        assert verdict.signed_margin == min(margins)
    assert "corner" in result.summary()
    assert result.to_frame()["corner"].tolist() == [str(v.corner) for v in result.validation.gpus]
    again = optimizer.Result.model_validate_json(result.to_json())
    assert again.validation == result.validation
    assert again.scenario == uncertain


def test_patterns_of_more_load_are_judged_at_the_same_corners(uncertain: Scenario) -> None:
    judge = TwinJudge(uncertain, twin.profiles_of(uncertain))
    kinds = tuple(one.kind for one in uncertain.classes)
    counts = tuple(one.count for one in uncertain.classes)
    option = EngineOption("H100-64GB", 32, 32)
    (grown,) = PatternJudge(judge, kinds)([Pattern(option, counts, load=1.5)])
    content = GPUContent(option, tuple(zip(kinds, counts, strict=True)))
    assert judge([content.scaled(1.5)]) == [grown]
    drawn = [[str(corner) for corner, _ in one.other_corners(3)] for one in (content, content.scaled(1.5))]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("method", ["greedy-fill", "random-all"])
def test_other_methods_are_judged_at_the_corners_too(uncertain: Scenario, method: str) -> None:
    found = optimizer.solve(uncertain, method=method, time_limit_s=120.0, gpus=2)
    assert found.validation is not None
    assert any(verdict.corner is not None for verdict in found.validation.gpus)


@pytest.mark.slow
def test_running_plans_are_changed_for_uncertain_rates(uncertain: Scenario, result: optimizer.Result) -> None:
    assert result.placement is not None
    change = optimizer.replan(uncertain, result.placement, time_limit_s=120.0)
    assert change.result.accepted
    assert not change.moves


def test_a_gpu_alone_simulates_the_high_rates(lorapack: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = lorapack("simulate", "paper_mixed_32", "--set", RATE, "--set", FAST[0], "--quiet")
    assert code == 0
    assert "all uncertain rates being high" in out
    code, high, _ = lorapack(
        "simulate", "paper_mixed_32", "--quiet", "--set", FAST[0],
        "--set", "adapters[0].rate=[0.6, 0.3, 0.15, 0.075, 0.0375]",
    )  # fmt: skip
    assert out.partition("\n\n")[2] == high.partition("\n\n")[2] != ""


def test_scenarios_show_both_rates(lorapack: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = lorapack("scenarios", "show", "paper_mixed_32", "--set", RATE)
    assert "0.05 to 0.3" in out
    assert scenarios.loads(out).classes == scenarios.read("paper_mixed_32", overrides=RATE).classes


# --- rejected at a corner alone --------------------------------------------------------------------------


def few_hot(load: twin.GPULoad, *_: object, **__: object) -> GPUVerdict:
    """A verdict by a rule: one or two hot adapters keep the slots from three or more others."""
    hot = int((load.rate > 0.25).sum())
    accepted = not 1 <= hot <= 2 or len(load.names) < 5
    return GPUVerdict(
        accepted=accepted, offered_tok_per_s=100.0, served_tok_per_s=100.0, served_share=1.0,
        worst_adapter=None, worst_served_share=1.0, itl_ms=10.0, ttft_ms=20.0, itl_p99_ms=10.0,
        ttft_p99_ms=20.0, kv_cache_tokens=1000, margin=0.5 if accepted else -0.5,
    )  # fmt: skip


def test_a_search_ends_with_a_plan_where_few_hot_adapters_are_worse_than_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = ["adapters[0].rate={low: 0.1, high: 0.3}", "adapters[0].count=12"]
    scenario = scenarios.read("paper_mixed_32", overrides=changes)
    prepared = instance_of(scenario)
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    monkeypatch.setattr("twin.twin_judge.judge", few_hot)
    together = GPUContent(EngineOption("H100-64GB", 32, 32), ((scenario.classes[0].kind, 12),))
    assert judge([together.at_high])[0].accepted
    assert not judge([together])[0].accepted
    search = search_of(prepared, optimizer.methods()["exact"], judge, 0.0, optimizer.SolveParams())
    found = minimize_gpus(search, Deadline.after(120.0))
    assert found.finished
    assert found.best is not None
    assert found.best.value == 3  # of four adapters each, as five and more are rejected
    assert all(verdict.accepted for verdict in found.best.verdicts)
    corners = [verdict.corner for verdict in search.loop.rejected.values()]
    assert {corner.kind for corner in corners if corner is not None} == {"drawn"}
    assert found.outer_bound is not None
    assert found.outer_bound <= 3


# --- growth ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> optimizer.Result:
    """A plan on GPUs that have not much room to spare."""
    scenario = scenarios.read("paper_high_32", overrides=FAST)
    return optimizer.solve(scenario, method="bfd", time_limit_s=120.0)


@pytest.mark.slow
def test_growth_names_the_gpu_that_bears_no_more(full: optimizer.Result) -> None:
    report = full.growth(workers=2)
    factors = [verdict.growth_factor for verdict in report.gpus]
    assert None not in factors
    assert report.growth_factor == min(factors)
    assert report.gpu == min(report.gpus, key=lambda verdict: verdict.growth_factor or 0).gpu
    assert full.placement is not None
    assert report.gpus == twin.validate(full.scenario, full.placement, growth=True).gpus
    assert report.to_frame()["growth_factor"].tolist() == factors
    assert f"as GPU {report.gpu} bears" in str(report)
    assert GrowthReport.model_validate_json(report.to_json()) == report


def test_rejected_gpus_bear_less_than_their_load(result: optimizer.Result) -> None:
    louder = scenarios.override(result.scenario, "adapters[0].rate=[9, 5, 3, 1, 1]")
    report = result.model_copy(update={"scenario": louder}).growth()
    assert report.growth_factor is not None
    assert report.growth_factor < 1
    assert "GPU 0: rejected; bears 0." in report.summary()


def test_without_a_plan_nothing_grows(result: optimizer.Result) -> None:
    planless: Any = {"placement": None, "validation": None, "gpus": None, "status": "no_plan"}
    report = result.model_copy(update=planless).growth()
    assert (report.gpus, report.growth_factor, report.gpu) == ((), None, None)
    assert report.summary() == f"Growth ({report.acceptance}): there is no plan whose load could grow"
    assert report.to_frame().empty


def test_growth_is_left_out_where_it_is_interrupted(
    lorapack: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("solve", "paper_mixed_32", "--set", FAST[0], "--method", "bfd", "--explain", "--quiet")
    code, out, _ = lorapack(*arguments)
    assert code == 0
    assert "): the plan bears " in out
    assert "Margins:\n- GPU 0: " in out
    told = optimizer.Result.growth

    def broken_off(self: optimizer.Result, **options: Any) -> GrowthReport:
        interrupts.request()
        return told(self, **options)

    monkeypatch.setattr(optimizer.Result, "growth", broken_off)
    code, out, _ = lorapack(*arguments)
    assert code == 0
    assert "Margins:" in out
    assert "Growth (" not in out


def test_margins_are_explained(result: optimizer.Result) -> None:
    explanation = result.explain()
    assert result.validation is not None
    for row, verdict in zip(explanation.gpus, result.validation.gpus, strict=True):
        assert row.margin == verdict.signed_margin
        assert row.first_to_suffer == verdict.first_to_suffer
        assert f"GPU {row.gpu}: {np.floor(verdict.signed_margin * 100) / 100:.2f}; first to suffer: " in str(
            explanation
        )
