"""The shipped scenarios: each reads, says what it shows, and fits the schema."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import scenarios
from scenarios.reading.yaml_reader import parse, plain
from tests.scenario_schema import scenario_validator

SHIPPED = scenarios.shipped()
NAMES = [one.name for one in SHIPPED]


def values(one: scenarios.ShippedScenario) -> object:
    return parse(one.path.read_text(encoding="utf-8"), one.name)


SHOW_ARGUMENTS = {"limited_cpu_memory", "speculative_decoding"}
"""Scenarios that are there for an argument of the engine."""


@pytest.mark.parametrize("one", SHIPPED, ids=NAMES)
def test_a_shipped_scenario_reads_and_fits_the_schema(one: scenarios.ShippedScenario) -> None:
    scenario = scenarios.read(one.name)
    assert scenario.name == one.name
    assert scenario.description == one.description != ""
    assert one.path.read_text(encoding="utf-8").startswith("# ")
    scenario_validator().validate(values(one))
    scenario_validator().validate(parse(scenarios.dumps(scenario), one.name))


def test_the_schema_is_itself_valid_and_describes_every_key() -> None:
    schema = scenarios.schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    for name, definition in {"Scenario": schema, **schema["$defs"]}.items():
        assert definition["description"], name
        for key, field in definition["properties"].items():
            known = key in ("process", "distribution") or "$ref" in field
            assert known or field.get("description"), f"{name}.{key}"


def test_the_set_holds_what_the_documentation_promises() -> None:
    assert len(SHIPPED) >= 10
    for name in ("mixed_ranks", "hot_adapter", "slots_exhaust_memory", "zipf_popularity"):
        assert name in NAMES
    for kind in ("high", "mixed", "low"):
        assert sum(name.startswith(f"paper_{kind}_") for name in NAMES) >= 3
    assert {scenarios.read(name).model for name in NAMES} == {
        "llama-3.1-8b-instruct",
        "qwen-2.5-7b-instruct",
    }


def test_scenarios_of_a_model_share_lengths_and_engine() -> None:
    seen: dict[str, set[object]] = {}
    for name in set(NAMES) - SHOW_ARGUMENTS:
        scenario = scenarios.read(name)
        common = (scenario.workload.prompt, scenario.workload.output, scenario.engine)
        seen.setdefault(scenario.model, set()).add(common)
    assert all(len(common) == 1 for common in seen.values())


def test_the_papers_rates_are_dealt_round_robin() -> None:
    scenario = scenarios.read("paper_high_32")
    assert scenario.adapters[0].rates()[:6] == (2.4, 1.2, 0.6, 0.3, 0.15, 2.4)
    assert scenario.adapters[0].ranks()[:4] == (8, 16, 32, 8)
    assert len(scenario.classes) == 15


def test_slots_for_every_adapter_do_not_fit_where_that_is_the_point() -> None:
    scenario = scenarios.read("slots_exhaust_memory")
    rank = max(c.rank for c in scenario.classes)
    # weights and slots of Llama-3.1-8B in GiB as measured on the H100 with 63.43 GiB
    needed = 15.01 + scenario.n_adapters * (0.0060 + 0.00537 * rank)
    assert needed > 63.43 * 0.9
    assert 15.01 + min(scenario.engine.slot_choices) * (0.0060 + 0.00537 * rank) < 63.43 * 0.9


def test_short_names_read_where_no_such_file_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scenarios.read("mixed_ranks")
    monkeypatch.chdir(tmp_path)
    for name in ("mixed_ranks", "mixed_ranks.yaml", "scenarios/mixed_ranks.yaml"):
        assert scenarios.read(name) == expected
    scenarios.write(scenarios.override(expected, ["seed=5"]), "mixed_ranks.yaml")
    assert scenarios.read("mixed_ranks.yaml").seed == 5
    assert os.listdir() == ["mixed_ranks.yaml"]  # noqa: PTH208  # the working directory is the point


def test_plain_values_carry_no_lines() -> None:
    data = plain(values(SHIPPED[0]))
    assert type(data) is dict
    assert type(data["adapters"]) is tuple
