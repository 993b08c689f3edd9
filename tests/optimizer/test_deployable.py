"""Plans state `max_cpu_loras`: those of `solve`, of baselines, with spare, after losses, and of `replan`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

import optimizer
import scenarios
import twin
from optimizer.deployable import deployable, losses_with_cpu_loras
from optimizer.survival.report import LossCase
from scenarios import PlacedGPU, Placement, Scenario

FAST = ("acceptance=paper", "replications=1", "objective=gpus")
"""Verdicts of one run of an hour, whose regions are shipped."""

SLOTS = 8


@cache
def shared(*changes: str) -> Scenario:
    """36 light adapters for engines of 8 slots, of which nothing says how many are in CPU memory."""
    template = scenarios.read("paper_high_128", overrides=FAST)
    entries = [
        {"name": "big", "count": 12, "rank": 32, "rate": 0.05},
        {"name": "small", "count": 24, "rank": 8, "rate": 0.05},
    ]
    values = template.model_dump(mode="json") | {"adapters": entries}
    return scenarios.from_mapping(values, [f"engine.max_loras={SLOTS}", *changes])


@cache
def solved(method: str = "exact", *, spare: int | None = None, recovery: str = "live") -> optimizer.Result:
    gpus = 2 if method.startswith("least") else None
    return optimizer.solve(shared(), method, gpus=gpus, spare=spare, recovery=recovery, time_limit_s=30)


def placement_of(result: optimizer.Result) -> Placement:
    assert result.placement is not None
    return result.placement


def numbers(placement: Placement | None) -> dict[int, int | None]:
    assert placement is not None
    return {gpu.gpu: gpu.max_cpu_loras for gpu in placement.gpus}


# --- plans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["exact", "bfd", "least-rate-third"])
def test_a_plan_states_all_the_adapters_of_its_gpus_and_validating_it_gives_its_verdict(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = solved(method)
    placement = placement_of(result)
    assert all(gpu.max_loras < len(gpu.adapters) == gpu.max_cpu_loras for gpu in placement.gpus)
    assert twin.validate(shared(), placement).gpus == result.validation.gpus  # type: ignore[union-attr]
    assert caplog.messages == []
    silent = Placement(gpus=tuple(g.model_copy(update={"max_cpu_loras": None}) for g in placement.gpus))
    assert twin.validate(shared(), silent).gpus != result.validation.gpus  # type: ignore[union-attr]
    assert len(caplog.messages) == 1


def test_where_each_adapter_has_a_slot_the_slots_are_stated() -> None:
    result = optimizer.solve(scenarios.read("paper_mixed_32", overrides=FAST), "bfd", time_limit_s=10)
    gpus = placement_of(result).gpus
    assert all(gpu.max_cpu_loras == gpu.max_loras >= len(gpu.adapters) for gpu in gpus)
    assert "CPU" not in result.summary()


@pytest.mark.parametrize(("stated", "expected"), [(8, 8), (64, 64)])
def test_what_the_scenario_states_is_stated(stated: int, expected: int) -> None:
    scenario = shared("objective=gpus", f"engine.max_cpu_loras={stated}")
    result = deployable(solved().model_copy(update={"scenario": scenario}))
    assert set(numbers(result.placement).values()) == {expected}


def test_more_slots_than_the_scenario_states_are_stated_as_vllm_needs_them() -> None:
    """A scenario is refused only where none of its slot counts suits its max_cpu_loras."""
    scenario = shared("engine.max_loras=null", "engine.slots=[4, 8]", "engine.max_cpu_loras=6")
    result = deployable(solved().model_copy(update={"scenario": scenario}))
    assert set(numbers(result.placement).values()) == {SLOTS}


@pytest.mark.parametrize("method", ["exact", "greedy-fill", "least-rate", "maxbackbone-less-parallel"])
def test_stated_slots_are_kept_where_adapters_are_fewer(method: str) -> None:
    """Somebody's engines run with them, and one more adapter is to start none of them again."""
    scenario = shared("engine.max_loras=64")
    result = optimizer.solve(
        scenario, method, gpus=2 if method.startswith("least") else None, time_limit_s=30
    )
    gpus = placement_of(result).gpus
    assert {(gpu.max_loras, gpu.max_cpu_loras) for gpu in gpus} == {(64, 64)}
    assert max(len(gpu.adapters) for gpu in gpus) < 64
    assert twin.validate(scenario, placement_of(result)).gpus == result.validation.gpus  # type: ignore[union-attr]


@pytest.mark.parametrize("recovery", ["live", "restart"])
def test_stated_slots_are_kept_after_losses(recovery: str) -> None:
    scenario = shared("engine.max_loras=64")
    result = optimizer.solve(scenario, "exact", spare=1, recovery=recovery, time_limit_s=30)
    assert result.survival is not None
    after = [case.placement for case in result.survival.losses if case.placement is not None]
    assert after
    assert {gpu.max_loras for plan in (placement_of(result), *after) for gpu in plan.gpus} == {64}


def test_slots_to_choose_from_are_the_most_that_an_engine_has() -> None:
    result = optimizer.solve(shared("engine.max_loras=null", "engine.slots=[64]"), "exact", time_limit_s=30)
    assert [gpu.max_loras for gpu in placement_of(result).gpus] == [36]


def test_it_is_shown_written_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = solved()
    assert json.loads(result.to_json())["placement"]["gpus"][0]["max_cpu_loras"] == 36
    assert optimizer.Result.model_validate_json(result.to_json()).placement == result.placement
    assert result.to_frame()["max_cpu_loras"].tolist() == [36]
    scenarios.write_placement(placement_of(result), tmp_path / "plan.yaml")
    assert scenarios.read_placement(tmp_path / "plan.yaml") == result.placement
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        heading, _, row = result.summary().split("\n\n")[1].splitlines()
        assert heading.split()[:5] == ["GPU", "LoRAs", "slots", "rank", "CPU"]
        assert row.split()[:5] == ["0", "36", "8", "32", "36"]
        assert len(row) <= columns


# --- losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recovery", ["live", "restart"])
def test_with_spare_the_most_adapters_after_any_loss_are_stated(
    recovery: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = solved(spare=1, recovery=recovery)
    before, survival = placement_of(result), result.survival
    assert survival is not None
    assert survival.holds
    assert max(len(gpu.adapters) for gpu in before.gpus) < 36
    assert set(numbers(before).values()) == {36}
    for case in survival.losses:
        assert case.placement is not None
        assert numbers(case.placement).items() <= numbers(before).items()
        assert twin.validate(shared(), case.placement).gpus == case.validation.gpus  # type: ignore[union-attr]
    assert twin.validate(shared(), before).gpus == result.validation.gpus  # type: ignore[union-attr]
    if recovery == "live":
        assert optimizer.survives(shared(), before, 1, time_limit_s=30).losses == survival.losses
    assert caplog.messages == []


def test_a_running_engine_keeps_no_more_than_it_states_when_others_are_lost() -> None:
    """Of two GPUs with 18 adapters each one is lost; the other has 36 then, and 18 of them in CPU memory."""
    before = placement_of(solved(spare=1))
    few = Placement(gpus=tuple(gpu.model_copy(update={"max_cpu_loras": 18}) for gpu in before.gpus))
    (case,) = optimizer.survives(shared(), few, 1, time_limit_s=30).losses
    (known,) = solved(spare=1).survival.losses  # type: ignore[union-attr]
    assert case.recovery == known.recovery == "live"
    assert numbers(case.placement) == {1: 18}
    assert case.validation is not None
    assert known.validation is not None
    assert (case.validation.ttft_ms or 0) > 1.5 * (known.validation.ttft_ms or 0)


def gpu(number: int, *names: str, cpu: int | None = None, slots: int = 2) -> PlacedGPU:
    return PlacedGPU(
        gpu=number,
        device="H100-64GB",
        max_loras=slots,
        max_lora_rank=32,
        max_cpu_loras=cpu,
        adapters=names,
    )


def test_alike_gpus_state_the_same_and_engines_that_restart_what_they_need_then() -> None:
    """GPUs 0 and 1 are alike: where 2 is lost, one of them gets its adapters, and it might be the other."""
    plan = Placement(
        gpus=(
            gpu(0, "big-01", "small-01", "small-02"),
            gpu(1, "big-02", "small-03", "small-04"),
            gpu(2, "big-03", "small-05"),
        )
    )
    given = LossCase(
        lost=(2,),
        restarted=(1,),
        placement=Placement(
            gpus=(
                gpu(0, "big-01", "small-01", "small-02", "big-03"),
                gpu(1, "big-02", "small-03", "small-04", "small-05", "small-06", slots=3),
            )
        ),
    )
    found = solved(spare=1)
    assert found.survival is not None
    survival = found.survival.model_copy(update={"losses": (given, LossCase(lost=(0,)))})
    result = deployable(found.model_copy(update={"placement": plan, "survival": survival}))
    assert numbers(result.placement) == {0: 4, 1: 4, 2: 2}
    assert result.survival is not None
    first, second = result.survival.losses
    assert numbers(first.placement) == {0: 4, 1: 5}
    assert second.placement is None
    again = losses_with_cpu_loras(result.survival.losses, placement_of(result), shared())
    assert again == result.survival.losses


# --- replan ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "stated", "restarts"),
    [(64, 64, False), (36, 36, False), (20, 36, True), (None, 36, True)],
)
def test_an_engine_goes_on_where_it_keeps_enough(
    cpu: int | None, stated: int, restarts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    running = placement_of(solved()).gpus[0].model_copy(update={"gpu": 5, "max_cpu_loras": cpu})
    change = optimizer.replan(shared(), Placement(gpus=(running,)), time_limit_s=20)
    assert change.moves == ()
    assert numbers(change.result.placement) == {5: stated}
    assert change.restarted == ((5,) if restarts else ())
    assert len(caplog.messages) == (cpu is None)
    again = twin.validate(shared(), placement_of(change.result))
    assert again.gpus == change.result.validation.gpus  # type: ignore[union-attr]
