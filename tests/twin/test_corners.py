"""GPUs of uncertain rates: the corners that are drawn, and the verdict at the worst of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenarios
import twin
from scenarios import AdapterKind, Deadline, EngineOption, FixedLengths, Scenario, Stopped
from twin import GPUContent, GPUVerdict, TwinJudge
from twin.corners import DRAWN, Corner, low_and_drawn

OPTION = EngineOption("H100-64GB", 3, 32)
LENGTHS = FixedLengths(tokens=200)
KINDS = tuple(
    AdapterKind(rank, rate, LENGTHS, LENGTHS, None, low)
    for rank, rate, low in ((8, 1.0, 0.5), (8, 1.0, 0.1), (16, 1.0, 0.5), (8, 2.0, 0.5), (8, 1.0, 1.0))
)


def corners(kinds: Sequence[AdapterKind], seed: int = 0) -> dict[int, Corner]:
    """The drawn corners by number."""
    drawn = (corner for corner, _ in low_and_drawn(kinds, seed))
    return {corner.number: corner for corner in drawn if corner.number is not None}


def held(kinds: Sequence[AdapterKind]) -> dict[int | None, Counter[tuple[AdapterKind, AdapterKind]]]:
    """By number of the drawn corners, how many of each kind are as what; None: all low."""
    ordered = sorted(kinds, key=KINDS.index)
    return {
        corner.number: Counter(zip(ordered, known, strict=True))
        for corner, known in low_and_drawn(ordered, 7)
    }


# --- drawing -------------------------------------------------------------------------------------------


def test_corners_are_high_or_low_and_speak_of_what_they_are() -> None:
    kinds = [KINDS[0]] * 10 + [KINDS[4]] * 5
    all_low, *drawn = low_and_drawn(kinds, 1)
    assert str(all_low[0]) == "low"
    assert [kind.rate for kind in all_low[1]] == [0.5] * 10 + [1.0] * 5
    assert 10 < len(drawn) <= DRAWN
    for corner, known in drawn:
        assert {f"{k}" for k in range(10) if known[k].rate == 1.0} == set(corner.high)
        assert known[10:] == [KINDS[4]] * 5
        assert 0 < len(corner.high) < 10
        assert str(corner) == f"drawn {corner.number}"


def test_few_are_high_in_some_corners_and_most_in_others() -> None:
    high = [len(corner.high) for corner in corners([KINDS[0]] * 200).values()]
    assert min(high) < 20
    assert max(high) > 180
    assert np.mean(high) == pytest.approx(100, abs=10)


@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=12), st.lists(st.sampled_from(KINDS), max_size=8)
)
def test_the_corners_of_more_adapters_hold_those_of_fewer(
    few: list[AdapterKind], more: list[AdapterKind]
) -> None:
    """So that a cut, by which all that holds a rejected content is rejected too, is sound."""
    smaller, larger = held(few), held([*few, *more])
    for number in smaller.keys() & larger.keys():
        assert smaller[number] <= larger[number]


def test_a_corner_hangs_on_the_seed_and_the_kinds_alone() -> None:
    kinds = [*KINDS, *KINDS]
    assert corners(kinds, 3) == corners(list(kinds), 3)
    assert corners(kinds, 3) != corners(kinds, 4)
    third = [kind.scaled(1 / 3) for kind in kinds]
    divided = [kind._replace(rate=kind.rate / 3) for kind in kinds]
    assert corners(third) == corners(divided)


# --- verdicts ------------------------------------------------------------------------------------------


def scenario_of(*rates: tuple[float, float], **changes: Any) -> Scenario:
    """Adapters of ranks 8, 16, 32 and so on, at rates between two, judged by short runs."""
    adapters = [
        {"name": f"a{k}", "rank": (8, 16, 32)[k % 3], "rate": {"low": low, "high": high}}
        for k, (low, high) in enumerate(rates)
    ]
    values: dict[str, Any] = {
        "name": "corners", "model": "llama-3.1-8b-instruct", "adapters": adapters,
        "workload": {"prompt": 222, "output": 195, "duration_s": 600}, "devices": "H100-64GB",
        "acceptance": "paper", "replications": 1,
    }  # fmt: skip
    return scenarios.from_mapping(values | changes)


def judge_of(scenario: Scenario, workers: int = 1) -> TwinJudge:
    return TwinJudge(scenario, twin.profiles_of(scenario), workers)


def content_of(scenario: Scenario, option: EngineOption = OPTION) -> GPUContent:
    return GPUContent.of(option, [one.kind for one in scenario.classes for _ in one.names])


def every_corner(content: GPUContent) -> list[GPUContent]:
    """All high and low rates of the adapters of a content."""
    kinds = [kind for kind, _ in content.held]
    return [
        GPUContent.of(content.option, [k.at(high=up) for k, up in zip(kinds, high, strict=True)])
        for high in product((True, False), repeat=len(kinds))
    ]


SHARED = scenario_of((0.3, 3.0), (0.0, 0.4), (0.05, 0.5), (0.6, 1.2), (0.01, 0.02), (2.0, 4.0))
"""Six adapters that share three slots."""


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 3.0])
def test_the_verdict_is_that_of_the_worst_corner(times: float) -> None:
    judge, content = judge_of(SHARED), content_of(SHARED).scaled(times)
    (verdict,) = judge([content])
    asked = [content.at_high, *(known for _, known in content.other_corners(SHARED.seed))]
    verdicts = judge(asked[:1] if not judge(asked[:1])[0].accepted else asked)
    worst = min(verdicts, key=lambda one: one.signed_margin)
    assert verdict.corner is not None
    assert verdict.model_copy(update={"corner": None}) == worst
    assert verdict.accepted == all(one.accepted for one in verdicts)


@pytest.mark.parametrize("times", [0.5, 2.0, 3.0])
def test_no_corner_drawn_is_worse_than_the_worst_of_all(times: float) -> None:
    """By trying every corner."""
    judge, content = judge_of(SHARED), content_of(SHARED)
    every = judge([corner.scaled(times) for corner in every_corner(content)])
    (verdict,) = judge([content.scaled(times)])
    assert verdict.signed_margin >= min(one.signed_margin for one in every)
    if not verdict.accepted:
        assert not all(one.accepted for one in every)


def test_a_rate_that_is_known_costs_and_changes_nothing() -> None:
    certain = scenario_of((3.0, 3.0), (0.4, 0.4))
    judge, content = judge_of(certain), content_of(certain)
    (verdict,) = judge([content])
    assert verdict.corner is None
    assert len(judge._known) == 1
    (uncertain,) = judge([content_of(scenario_of((0.5, 3.0), (0.1, 0.4)))])
    assert uncertain.corner is not None
    assert uncertain.signed_margin <= verdict.signed_margin


def test_what_is_rejected_at_the_high_rates_is_asked_no_further() -> None:
    hot = scenario_of((1.0, 90.0), (0.1, 60.0))
    judge, content = judge_of(hot), content_of(hot)
    (verdict,) = judge([content])
    assert not verdict.accepted
    assert str(verdict.corner) == "high"
    assert set(judge._known) == {content, content.at_high}
    assert verdict.reasons[0].startswith("at the high rates, serves ")


def test_nothing_is_asked_of_a_gpu_that_serves_nothing() -> None:
    idle = scenario_of((0.0, 1.0), (0.0, 2.0))
    found = [str(corner) for corner, _ in content_of(idle).other_corners(0)]
    assert "low" not in found
    assert judge_of(idle)([content_of(idle)])[0].accepted


def test_adapters_that_ask_for_nothing_keep_their_names() -> None:
    some = scenario_of((0.0, 2.0), (0.0, 3.0), (1.0, 1.5), acceptance="sustained", headroom=0.0)
    (verdict,) = judge_of(some)([content_of(some)])
    named = verdict.of(4, {"0": "x", "1": "y", "2": "z"})
    assert named.first_to_suffer in {"x", "y", "z"}
    assert named.corner is not None
    assert set(named.corner.high) <= {"x", "y", "z"}
    assert GPUVerdict.model_validate_json(named.model_dump_json()) == named
    assert named.figures["corner"] == str(named.corner)


@pytest.mark.parametrize(
    "arrivals",
    [
        "deterministic",
        {"process": "gamma", "cv": 2},
        {"process": "weibull", "cv": 2},
        {"process": "unpredictable"},
        {"process": "unpredictable", "gaps": "lognormal"},
        {"process": "piecewise", "window_s": 60, "factors": [1, 3]},
    ],
    ids=str,
)
def test_rates_may_be_zero_whatever_the_arrivals(arrivals: object) -> None:
    workload = {"prompt": 222, "output": 195, "duration_s": 300, "arrivals": arrivals}
    some = scenario_of((0.0, 2.0), (0.0, 3.0), (0.0, 0.5), workload=workload)
    judge, content = judge_of(some), content_of(some)
    assert judge([content])[0].corner is not None
    for corner, known in content.other_corners(some.seed):
        assert corner.kind == "drawn"
        (verdict,) = judge([known])
        assert verdict.offered_tok_per_s > 0


def test_verdicts_do_not_hang_on_the_number_of_workers() -> None:
    contents = [content_of(SHARED).scaled(times) for times in (0.5, 1.5)]
    assert judge_of(SHARED)(contents) == judge_of(SHARED, workers=2)(contents)


def test_corners_are_left_undone_where_the_time_is_over() -> None:
    judge, content = judge_of(SHARED), content_of(SHARED)
    with pytest.raises(Stopped):
        judge([content], Deadline.after(0.0))
    assert content not in judge._known


def test_placements_are_judged_at_their_worst_corner() -> None:
    names = tuple(name for entry in SHARED.adapters for name in entry.names())
    gpu = scenarios.PlacedGPU(
        gpu=2, device="H100-64GB", max_loras=3, max_lora_rank=32, max_cpu_loras=6, adapters=names
    )
    report = twin.validate(SHARED, scenarios.Placement(gpus=(gpu,)))
    (verdict,) = report.gpus
    (alone,) = judge_of(SHARED)([content_of(SHARED)])
    assert verdict == alone.of(2, {f"{k}": name for k, name in enumerate(names)})
    assert report.to_frame()["corner"].tolist() == [str(verdict.corner)]
    assert "corner" in report.summary()
