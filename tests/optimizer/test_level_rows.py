"""Rows of GPUs that hold adapters with service levels of their own: which there are, and whom they admit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import learn
import optimizer
from learn import SamplingPlan
from learn.features import ADDITIVE
from learn.region import Domain, FeasibilityRegion, OptionLatency, OptionRows, Plane, Provenance, Regions, Row
from optimizer.search.instance import Served, build_instance
from optimizer.search.level_rows import implies, level_sets, row_variants, variants_of
from optimizer.search.params import DEFAULTS, LevelRowsParams, SolveParams
from optimizer.search.splitting import ReplicaSplit
from scenarios import AdapterSLO, Scenario, from_mapping, read
from twin import TwinJudge, profiles_of

FAST = {"itl_ms": {"mean": 25}}
FASTER = {"itl_ms": {"mean": 20}, "ttft_ms": {"p90": 500}}
PROMPT = {"ttft_ms": {"p90": 300}}
PATIENT = {"patience_s": 60}
COUNT, RATE = ADDITIVE.index("count"), ADDITIVE.index("rate")


def scenario_of(*levels: dict[str, object], acceptance: str = "sustained") -> Scenario:
    """Four adapters without levels of their own, and two with each of some."""
    own = [
        {"name": f"own{k}", "count": 2 + k, "rank": 8, "rate": 0.4, "service_levels": one}
        for k, one in enumerate(levels)
    ]
    return from_mapping(
        {
            "name": "levels",
            "model": "llama-3.1-8b-instruct",
            "adapters": [{"name": "a", "count": 4, "rank": 16, "rate": 1.0}, *own],
            "workload": {"prompt": 200, "output": 150, "duration_s": 600},
            "devices": [{"name": "H100-64GB", "count": 4}],
            "engine": {"slots": [8], "max_lora_rank": 16},
            "acceptance": acceptance,
        }
    )


def slo(values: dict[str, object]) -> AdapterSLO:
    return AdapterSLO.model_validate(values)


# --- which levels get rows ----------------------------------------------------------------------------


def test_levels_that_ask_for_more_get_rows_and_others_none() -> None:
    scenario = scenario_of(FAST, PATIENT, {"patience_s": 2}, {})
    assert level_sets(scenario, 9) == [slo({"patience_s": 2}), slo(FAST)]  # of more adapters first
    assert level_sets(scenario, 1) == [slo({"patience_s": 2})]
    assert level_sets(scenario, 0) == []
    paper = scenario_of({"served_share": 0.95}, FAST, acceptance="paper")
    assert level_sets(paper, 9) == [slo(FAST), slo({"served_share": 0.95})]
    assert level_sets(scenario_of(), 9) == []


@pytest.mark.parametrize(
    ("strict", "weak", "expected"),
    [
        (FAST, FAST, True),
        (FASTER, FAST, True),
        (FAST, FASTER, False),
        (FASTER, PROMPT, False),
        (FAST, {}, True),
        ({}, FAST, False),
        ({"patience_s": 2}, {"patience_s": 5}, True),
        ({"patience_s": 5}, {"patience_s": 2}, False),
        ({"patience_s": 5}, {}, False),  # the scenario may be less patient than that
        (FAST, PATIENT, False),
        ({"served_share": 0.99}, {"served_share": 0.95}, True),
        ({}, {"served_share": 0.95}, False),
    ],
)
def test_which_levels_imply_others(
    strict: dict[str, object], weak: dict[str, object], expected: bool
) -> None:
    assert implies(slo(strict), slo(weak)) is expected


# --- variants -----------------------------------------------------------------------------------------


def regions_of(work: float, slots: float, shrink: float = 1.1) -> dict[str, Regions]:
    """Made-up regions of one option: a row of the work, and one of the slots where they are shared."""

    def options(factor: float, kind: str) -> tuple[OptionRows, ...]:
        def row(meaning: str, place: int, value: float) -> Row:
            values = [0.0] * len(ADDITIVE)
            values[place] = value
            return Row(meaning=meaning, coefficients=tuple(values), bound=1.0)

        domain = Domain(max_adapters=100, min_rate=0.0, max_rate=9.0)
        engine = {"device": "H100-64GB", "max_loras": 8, "max_lora_rank": 16, "kv_cache_tokens": 1000}
        first = row("work", RATE, factor * work)
        shared = [first, row("slots in use", COUNT, factor * slots)]
        if kind == "inner":
            shared.append(row("most adapters that were sampled", COUNT, 0.01))
        resident = (first, row("a slot for every adapter", COUNT, 1 / 8))
        return (
            OptionRows(**engine, regime="resident", rows=resident, domain=domain),
            OptionRows(**engine, regime="shared", rows=tuple(shared), domain=domain),
        )

    plane = Plane(intercept=20.0, coefficients=(0.0,) * len(ADDITIVE))
    engine = {"device": "H100-64GB", "max_loras": 8, "max_lora_rank": 16}
    latency = tuple(
        OptionLatency(**engine, regime=regime, itl_ms=(plane,), ttft_ms=(plane,))
        for regime in ("resident", "shared")
    )
    inner, outer = (
        FeasibilityRegion(kind=kind, features=ADDITIVE, options=options(factor, kind))
        for kind, factor in (("inner", shrink), ("outer", 1 / shrink))
    )
    provenance = Provenance(
        command="", space={}, plan={}, runs=1, boundaries=1, inner_confidence={}, outer_confidence=0.9
    )
    return {"H100-64GB": Regions(units={}, provenance=provenance, inner=inner, outer=outer, latency=latency)}


BASE = regions_of(0.05, 0.02)


def test_without_levels_the_regions_are_those_of_all_gpus() -> None:
    (only,) = variants_of(BASE, {})
    assert only.regions is BASE
    assert only.admits(None)
    assert only.admits(slo(FAST))


def test_a_strict_adapter_is_admitted_only_by_rows_of_its_levels() -> None:
    base, strict = variants_of(BASE, {slo(FAST): regions_of(0.2, 0.03)})
    assert base.admits(None)
    assert not base.admits(slo(FAST))
    assert base.admits(slo(PATIENT))  # has no rows of its own
    assert strict.admits(None)
    assert strict.admits(slo(FAST))


def test_of_levels_that_imply_each_other_the_stricter_admit_the_weaker() -> None:
    rows = {slo(FASTER): regions_of(0.4, 0.03), slo(FAST): regions_of(0.2, 0.03)}
    base, faster, fast = variants_of(BASE, rows)
    assert (faster.admits(slo(FAST)), faster.admits(slo(FASTER))) == (True, True)
    assert (fast.admits(slo(FAST)), fast.admits(slo(FASTER))) == (True, False)
    assert (base.admits(slo(FAST)), base.admits(slo(FASTER))) == (False, False)


@given(
    st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4),
    st.lists(st.floats(0.0, 30.0), min_size=2, max_size=2),
)
def test_levels_of_which_none_implies_the_other_share_a_variant(rows: list[float], sums: list[float]) -> None:
    """Its inner rows hold only where those of all levels do, its outer ones wherever those of one do."""
    several = {slo(FAST): regions_of(*rows[:2]), slo(PROMPT): regions_of(*rows[2:])}
    *_, fast, prompt, both = variants_of(BASE, several)
    assert all(both.admits(one) for one in (None, *several))
    assert not fast.admits(slo(PROMPT))
    content = np.zeros(len(ADDITIVE))
    content[[COUNT, RATE]] = sums
    inside = [
        [of.regions["H100-64GB"].inner.contains(8, 16, content) for of in (fast, prompt, both)],
        [of.regions["H100-64GB"].outer.contains(8, 16, content) for of in (fast, prompt, both)],
    ]
    assert bool(inside[0][2]) <= bool(inside[0][0] and inside[0][1])
    assert bool(inside[1][2]) >= bool(inside[1][0] or inside[1][1])
    assert bool(inside[0][2]) <= bool(inside[1][2])


def test_options_of_a_problem_admit_by_levels_and_are_joined_by_their_variant() -> None:
    scenario = scenario_of(FAST)
    variants = variants_of(BASE, {slo(FAST): regions_of(0.2, 0.03)})
    splits = [ReplicaSplit(members, 16) for members in scenario.classes]
    instance = build_instance(
        scenario, profiles_of(scenario), BASE, splits, None, DEFAULTS.splitting, variants=variants
    )
    assert [o.fits_class.tolist() for o in instance.inner.options] == [[True, False]] * 2 + [[True, True]] * 2
    keys = [option.key for option in instance.inner.options]
    assert keys == [option.key for option in instance.outer.options]
    assert len(set(keys)) == 4
    assert instance.regions_of("H100-64GB", [None]) is BASE["H100-64GB"]
    strict = instance.regions_of("H100-64GB", [None, slo(FAST)])
    assert strict is variants[1].regions["H100-64GB"]
    without = Served(scenario, BASE, tuple(splits), DEFAULTS.splitting)
    assert all(option.fits_class.all() for option, _ in without.options("inner"))


def test_a_level_that_nothing_could_be_learned_of_is_left_to_the_twin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> Regions:
        raise learn.BoundaryError("no boundary was bracketed")

    monkeypatch.setattr(learn, "regions_for", none)
    scenario = scenario_of(FAST)
    (only,) = row_variants(TwinJudge(scenario, profiles_of(scenario)), BASE)
    assert only.admits(slo(FAST))
    assert "no boundary was bracketed" in caplog.text


def test_no_rows_are_learned_without_levels_or_where_none_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "regions_for", None)
    never = SolveParams(level_rows=LevelRowsParams(max_sets=0))
    for scenario, params in ((scenario_of(PATIENT), DEFAULTS), (scenario_of(FAST), never)):
        judge = TwinJudge(scenario, profiles_of(scenario))
        assert len(row_variants(judge, BASE, params=params)) == 1


# --- a whole plan -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("acceptance", ["paper", "sustained"])
def test_four_strict_adapters_cost_no_more_than_a_gpu(
    acceptance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside 128 others that take 4 GPUs by *paper* and 5 by *sustained*; with fewer mixes than usual."""
    few = SamplingPlan(compositions=180, width=1.08, spread=0)
    whole = learn.regions_for

    def with_few(*given: Any, levels: AdapterSLO | None = None, **named: Any) -> Regions:
        return whole(*given, levels=levels, plan=None if levels is None else few, **named)

    monkeypatch.setattr(learn, "regions_for", with_few)
    shipped = read("paper_high_128").model_dump(mode="json")
    values = {key: shipped[key] for key in ("name", "model", "adapters", "workload", "devices", "engine")}
    own = {"name": "own", "count": 4, "rank": 16, "rate": 0.4, "service_levels": FAST}
    mixed = from_mapping(values | {"adapters": [own, *values["adapters"]], "acceptance": acceptance})
    result = optimizer.solve(mixed, objective="gpus", time_limit_s=120.0, workers=2)
    assert result.accepted
    assert result.gpus == 5
