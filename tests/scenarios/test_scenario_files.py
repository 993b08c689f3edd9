"""Scenarios into files and back, changed from outside, and their digest."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import scenarios
from scenarios import DeterministicArrivals, GammaArrivals, PiecewiseArrivals, UnpredictableArrivals
from scenarios.reading.scalars import resolve
from scenarios.reading.yaml_reader import parse

RANKS = st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128, 256, 320, 512])
RATES = st.floats(1e-9, 1e5)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), min_size=1, max_size=30
)
LENGTHS = st.one_of(
    st.builds(scenarios.FixedLengths, tokens=st.integers(1, 100)),
    st.builds(
        scenarios.LognormalLengths,
        mean=st.floats(50, 300),
        std=st.floats(1, 500),
        min=st.integers(1, 49),
        max=st.integers(301, 5000),
    ),
    st.lists(st.floats(0.01, 10), min_size=1, max_size=4).map(
        lambda weights: scenarios.HistogramLengths(
            edges=tuple(1.0 + 10 * k for k in range(len(weights) + 1)), weights=tuple(weights)
        )
    ),
)
ARRIVALS = st.one_of(
    st.just(DeterministicArrivals()),
    st.builds(GammaArrivals, cv=st.floats(0.1, 10)),
    st.builds(
        UnpredictableArrivals, every_s=st.floats(1, 600), gaps=st.sampled_from(["exponential", "lognormal"])
    ),
    st.builds(
        PiecewiseArrivals, window_s=st.floats(1, 600), factors=st.tuples(st.floats(0.1, 5), st.just(0.0))
    ),
)
NAMES = st.one_of(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,12}", fullmatch=True),
    st.sampled_from(
        ["no", "on", "null", "1e-3", "0x1F", "12", "1_000", "010", "1.5", "true", "0o7", "2024-01-01"]
    ),
)


@st.composite
def scenario_values(draw: st.DrawFn) -> scenarios.Scenario:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    adapters = tuple(
        scenarios.Adapter(
            name=f"{name}@{k}" if k else name,
            count=draw(st.integers(1, 5)),
            rank=draw(RANKS | st.lists(RANKS, min_size=1, max_size=3).map(tuple)),
            rate=draw(
                RATES
                | st.lists(RATES, min_size=1, max_size=3).map(tuple)
                | st.builds(scenarios.ZipfRates, zipf_total=RATES, exponent=st.floats(0, 3))
            ),
            prompt=draw(st.none() | LENGTHS),
            output=draw(st.none() | LENGTHS),
        )
        for k, name in enumerate(names)
    )
    workload = scenarios.Workload(
        arrivals=draw(ARRIVALS),
        prompt=draw(LENGTHS),
        output=draw(LENGTHS),
        duration_s=draw(st.floats(1, 6e5)),
    )
    return scenarios.Scenario(
        name=draw(TEXTS),
        description=draw(TEXTS | st.just("")),
        model=draw(TEXTS),
        adapters=adapters,
        workload=workload,
        devices=(
            scenarios.Device(
                name=draw(TEXTS),
                memory_gib=draw(st.none() | st.floats(1, 200)),
                price_per_hour=draw(st.floats(0.1, 99)),
            ),
        ),
        engine=scenarios.EngineConfig(max_loras=draw(st.none() | st.integers(1, 99)), max_model_len=100_000),
        objective=draw(st.sampled_from([("gpus",), ("gpus", "latency"), ("cost",)])),
        service_levels=scenarios.ServiceLevelObjectives(
            itl_ms=scenarios.LatencyLimits(p90=draw(st.none() | st.floats(1, 99)))
        ),
        allow_replicas=draw(st.booleans()),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


@settings(max_examples=60, deadline=None)
@given(scenario_values())
def test_what_is_written_reads_back_equal(scenario: scenarios.Scenario) -> None:
    again = scenarios.loads(scenarios.dumps(scenario))
    assert again == scenario
    assert again.digest == scenario.digest
    assert scenarios.loads(scenarios.dumps(scenario, defaults=True)) == scenario
    assert scenarios.from_mapping(scenario.model_dump(mode="json")) == scenario


def test_a_written_file_reads_back_equal_and_leaves_no_draft(tmp_path: Path) -> None:
    scenario = scenarios.read("latency_levels")
    scenarios.write(scenario, tmp_path / "copy.yaml")
    assert scenarios.read(tmp_path / "copy.yaml") == scenario
    assert [file.name for file in tmp_path.iterdir()] == ["copy.yaml"]


def test_defaults_are_left_out_and_short_forms_are_used() -> None:
    scenario = scenarios.loads(
        "name: s\nmodel: m\nadapters: [{name: a, rank: 8, rate: 1e-3}]\n"
        "workload: {arrivals: poisson, prompt: 222, output: {mean: 195, std: 210}}\ndevices: H100-64GB\n"
    )
    assert scenario.adapters[0].rate == 0.001
    assert yaml.safe_load(scenarios.dumps(scenario)) == {
        "name": "s",
        "model": "m",
        "adapters": [{"name": "a", "rank": 8, "rate": 0.001}],
        "workload": {"prompt": 222, "output": {"distribution": "lognormal", "mean": 195.0, "std": 210.0}},
        "devices": [{"name": "H100-64GB"}],
    }


def stated(value: object) -> Iterator[str]:
    """Every key of nested mappings."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from stated(inner)
    for item in value if isinstance(value, list) else ():
        yield from stated(item)


@pytest.mark.parametrize("acceptance", scenarios.ACCEPTANCES)
def test_every_default_is_filled_in_where_that_is_asked_for(acceptance: str) -> None:
    scenario = scenarios.loads(
        f"acceptance: {acceptance}\n"
        "name: s\nmodel: m\ndevices: H100-64GB\n"
        "adapters: [{name: a, count: 3, rank: 8, rate: {zipf_total: 3}, service_levels: {}}]\n"
        "workload: {arrivals: unpredictable, prompt: 222, output: {mean: 195, std: 210}}\n"
    )
    values = yaml.safe_load(scenarios.dumps(scenario, defaults=True))
    models = (
        scenarios.Scenario,
        scenarios.Adapter,
        scenarios.ZipfRates,
        scenarios.AdapterSLO,
        scenarios.Workload,
        UnpredictableArrivals,
        scenarios.LognormalLengths,
        scenarios.Device,
        scenarios.EngineConfig,
        scenarios.ServiceLevelObjectives,
        scenarios.LatencyLimits,
    )
    others = {"sustained": {"adapter_served_share"}, "paper": {"headroom", "late_share"}}[acceptance]
    others |= scenarios.FurtherArguments.model_fields.keys()  # change nothing where they are not given
    assert {name for model in models for name in model.model_fields} - others == set(stated(values))
    assert (values["seed"], values["replications"], values["workload"]["warmup_s"]) == (0, 3, 0.0)
    assert values["adapters"][0]["rate"] == {"zipf_total": 3.0, "exponent": 1.0}
    assert values["engine"]["max_loras"] is None


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(scenarios.OutputFileError, match=r"none.*cannot be written.*folder that exists"):
        scenarios.write(scenarios.read("mixed_ranks"), tmp_path / "none" / "x.yaml")


def test_paths_are_taken_from_the_scenario_file(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    (tmp_path / "sub").mkdir()
    scenario = scenarios.read("mixed_ranks", ["workload.arrivals=poisson"])
    text = scenarios.dumps(scenario).replace(
        "workload:", "workload:\n  arrivals: {process: trace, file: trace.csv}"
    )
    (tmp_path / "traced.yaml").write_text(text)
    traced = scenarios.read(tmp_path / "traced.yaml")
    assert traced.workload.arrivals.file == str((tmp_path / "trace.csv").resolve())
    scenarios.write(traced, tmp_path / "again.yaml")
    assert "file: trace.csv" in (tmp_path / "again.yaml").read_text()
    scenarios.write(traced, tmp_path / "sub" / "below.yaml")
    assert (
        scenarios.read(tmp_path / "sub" / "below.yaml") == scenarios.read(tmp_path / "again.yaml") == traced
    )


@pytest.mark.parametrize(
    ("override", "read_back"),
    [
        ("engine.max_model_len=8192", lambda s: s.engine.max_model_len == 8192),
        ("adapters[0].rate=0.5", lambda s: s.adapters[0].rate == 0.5),
        ("adapters[1].rank=[8, 32]", lambda s: s.adapters[1].rank == (8, 32)),
        ("adapters[2].rate={zipf_total: 3}", lambda s: s.adapters[2].rate.zipf_total == 3),
        ("objective=latency", lambda s: s.objective == ("latency",)),
        ("objective=[gpus, latency]", lambda s: s.objective == ("gpus", "latency")),
        ("workload.prompt=300", lambda s: s.workload.prompt.tokens == 300),
        ("workload.prompt.mean=3e2", lambda s: s.workload.prompt.mean == 300),
        ("workload.arrivals.process=deterministic", lambda s: s.workload.arrivals.process == "deterministic"),
        ("devices=A100", lambda s: s.devices[0].name == "A100"),
        ("devices[0].count=3", lambda s: s.devices[0].count == 3),
        ("service_levels.itl_ms.p90=50", lambda s: s.service_levels.itl_ms.p90 == 50),
        ("allow_replicas=no", lambda s: s.allow_replicas is False),
        (" seed = 7", lambda s: s.seed == 7),
    ],
)
def test_overrides_change_one_value(override: str, read_back: object) -> None:
    base = scenarios.read("mixed_ranks")
    for changed in (scenarios.read("mixed_ranks", [override]), scenarios.override(base, [override])):
        assert callable(read_back)
        assert read_back(changed)
        assert changed != base
        assert changed.digest != base.digest


def test_an_empty_override_takes_a_value_back() -> None:
    fixed = scenarios.read("mixed_ranks", ["engine.max_loras=8"])
    assert scenarios.override(fixed, ["engine.max_loras="]) == scenarios.read("mixed_ranks")


def test_overrides_spell_out_short_forms_first() -> None:
    text = "name: s\nmodel: m\nadapters: [{name: a, rank: 8, rate: 1}]\ndevices: H100\n"
    text += "workload: {arrivals: unpredictable, prompt: 222, output: 195}\n"
    overrides = ["workload.prompt.tokens=300", "devices[0].count=2", "workload.arrivals.factor=2"]
    scenario = scenarios.loads(text, overrides)
    assert scenario.workload.prompt == scenarios.FixedLengths(tokens=300)
    assert scenario.devices == (scenarios.Device(name="H100", count=2),)
    assert scenario.workload.arrivals == UnpredictableArrivals(factor=2.0)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("engine.max_modle_len=3", 'engine.max_modle_len is not a key .* "max_model_len"'),
        ("engine.max_model_len=much", 'engine.max_model_len is the text "much"; give a whole number'),
        ("adapters[99].rate=1", r"adapters is a list of 3 and has no item 99; give an index below 3"),
        ("adapter[0].rate=1", r'adapter is missing and has no item 0; did you mean "adapters"\?'),
        ("devises[0].name=x", r'devises is missing and has no item 0; did you mean "devices"\?'),
        ("zzz[0].rate=1", "zzz is missing and has no item 0; set the list"),
        ("adapters[99999999999].rate=1", "is no path=value"),
        ("seed", "seed is no path=value; write it as engine"),
        ("=3", "is no path=value"),
        ("a..b=3", "is no path=value"),
        ("name.first=3", 'name is the text "mixed_ranks" and has no key first'),
        ("engine=[1", "engine is not valid YAML"),
        ("adapters[0].rank=128", None),
    ],
)
def test_a_wrong_override_is_told_apart(override: str, expected: str | None) -> None:
    if expected is None:
        assert scenarios.read("mixed_ranks", [override]).adapters[0].rank == 128
        return
    with pytest.raises(scenarios.ScenarioError, match=expected):
        scenarios.read("mixed_ranks", [override])


def test_an_override_leaves_what_shares_an_anchor() -> None:
    text = "name: s\nmodel: m\nadapters: [{name: a, rank: 8, rate: 1}]\ndevices: H100\n"
    text += "workload: {prompt: &l {mean: 100, std: 10}, output: *l}\n"
    scenario = scenarios.loads(text, ["workload.prompt.mean=50"])
    assert (scenario.workload.prompt.mean_tokens, scenario.workload.output.mean_tokens) == (50, 100)


def test_merge_keys_fill_in_what_is_not_given() -> None:
    text = "name: s\nmodel: m\ndevices: H100\nworkload: {prompt: 1, output: 2}\n"
    text += "adapters:\n  - &base {name: a, rank: 8, rate: 1}\n  - {<<: *base, name: b, rate: 2}\n"
    second = scenarios.loads(text).adapters[1]
    assert (second.name, second.rank, second.rate) == ("b", 8, 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("16_384", 16384),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("on", "on"),
        ("no", "no"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("~", None),
        ("True", True),
        (".inf", float("inf")),
        ("e5", "e5"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_the_digest_leaves_out_name_and_description_only() -> None:
    scenario = scenarios.read("mixed_ranks")
    assert scenarios.override(scenario, ["name=x", "description=y"]).digest == scenario.digest
    assert scenarios.override(scenario, ["seed=9"]).digest != scenario.digest


def test_errors_travel_between_processes() -> None:
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.loads("name: 3")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems


def test_a_copy_with_other_values_keeps_nothing_that_was_computed_from_the_old_ones() -> None:
    scenario = scenarios.read("mixed_ranks")
    before, digest = scenario.classes, scenario.digest
    fewer = scenario.model_copy(update={"adapters": scenario.adapters[:1]})
    assert sum(group.count for group in fewer.classes) == scenario.adapters[0].count
    assert fewer.digest != digest
    assert scenario.classes is before
    assert scenario.model_copy() == scenario


def test_merged_keys_come_in_the_order_of_the_file() -> None:
    keys = [f"key{k}" for k in range(20)]
    base = ", ".join(f"{key}: 1" for key in keys)
    merged = parse(f"base: &base {{{base}}}\nmerged: {{<<: *base, own: 2}}", "merged")
    assert isinstance(merged, dict)
    assert list(merged["merged"]) == ["own", *keys]
