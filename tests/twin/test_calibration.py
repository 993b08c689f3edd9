"""Calibration on tables made by engines of known cost."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import twin
from scenarios import ScenarioError, read_params
from twin import Measurement
from twin.calibration.cost_terms import candidate_terms
from twin.calibration.frontend import final_stall_s
from twin.calibration.loads_and_lengths import crossing, fit_loads
from twin.calibration.measurements import TABLES, read_tables
from twin.calibration.params import StallParams

PUBLIC = Path(__file__).parents[2].parent / "shared" / "measurements"

Calibrated = tuple[twin.EngineProfile, twin.CalibrationReport]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, measured_tables: ModuleType) -> Path:
    path = tmp_path_factory.mktemp("measurements")
    measured_tables.write_tables(path)
    return path


@pytest.fixture(scope="module")
def calibrated(
    folder: Path, measured_tables: ModuleType
) -> tuple[twin.EngineProfile, twin.CalibrationReport]:
    return twin.calibrate(folder, measured_tables.MODEL)


def test_recovers_the_step_cost(calibrated: Calibrated, measured_tables: ModuleType) -> None:
    profile, _ = calibrated
    for slots, tokens, adapters in ((8, 3, 3), (32, 10, 9), (64, 30, 24)):
        fitted = profile.step.tables(slots, 16, 2048, slots)
        true = measured_tables.TRUTH.tables(slots, 16, 2048, slots)
        context = 300 * tokens

        def seconds(t: twin.StepTables, tokens: int, adapters: int, context: int) -> float:
            per_token = t.adapter_token_s[adapters] * tokens + t.decode_s * tokens + t.context_s * context
            return float(t.token_s[tokens] + t.adapter_s[adapters] + per_token)

        expected = seconds(true, tokens, adapters, context)
        assert seconds(fitted, tokens, adapters, context) == pytest.approx(expected, rel=0.05)


def test_takes_loads_and_lengths_from_their_tables(calibrated: Calibrated) -> None:
    profile, _ = calibrated
    assert profile.loads.gpu_s == pytest.approx(0.0065)
    assert profile.loads.gpu_padding_s == pytest.approx(0.0015)
    assert profile.loads.disk_rank_s == pytest.approx(0.0025)
    assert profile.loads.disk_s == pytest.approx(0.045)
    assert profile.lengths.stop_per_token < 1e-4


def test_reports_errors_on_groups_left_out(calibrated: Calibrated) -> None:
    profile, report = calibrated
    assert report.left_out is not None
    errors = report.left_out.errors(("group", "quality"))
    assert set(errors["group"]) == {"odd", "even"}
    assert errors["throughput_smape"].max() < 6
    assert errors["itl_smape"].max() < 12
    assert max(map(len, report.summary().splitlines())) <= 100
    written = profile.provenance
    assert written.groups == ("even", "odd")
    assert written.runs == 10
    assert {e.group: e.runs for e in written.left_out_errors} == {"odd": 5, "even": 5}
    assert profile.uncertainty.residual_share is not None
    kept = {term.name for term in profile.step.terms}
    assert kept == set(profile.uncertainty.standard_errors_s)
    assert kept <= {term.name for term in candidate_terms(twin.CalibrationParams().fit.token_knots)}


@pytest.mark.slow
def test_same_profile_for_any_number_of_workers(folder: Path, measured_tables: ModuleType) -> None:
    one, two = (
        twin.calibrate(folder, measured_tables.MODEL, groups=["odd"], cross_validate=False, workers=n)[0]
        for n in (1, 2)
    )
    assert one == two


def test_starting_from_a_profile_takes_one_round(
    folder: Path, calibrated: Calibrated, measured_tables: ModuleType
) -> None:
    profile, report = twin.calibrate(folder, measured_tables.MODEL, start=calibrated[0], cross_validate=False)
    assert len(report.rounds) == 1 < len(calibrated[1].rounds)
    assert report.rounds[0] < 0.02
    assert report.left_out is None
    assert not profile.provenance.left_out_errors


def test_device_and_engine_are_those_of_the_description(calibrated: Calibrated) -> None:
    profile, _ = calibrated
    assert profile.name == "llama-3.1-8b-instruct.l40s-48gb.vllm-0.8.5"
    assert (profile.device, profile.gpu_memory_gib, profile.engine_version) == ("L40S-48GB", 44.5, "0.8.5")
    assert (profile.measured.max_num_seqs, profile.measured.max_model_len) == (2048, 4096)
    assert profile.provenance.source == "simulated"
    assert profile.rules == twin.SchedulerRules()


def without(folder: Path, target: Path, *names: str) -> Path:
    """A copy of a folder without some of its files."""
    for file in folder.iterdir():
        if file.name.split(".")[0] not in names:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_profile_to_start_from_gives_what_no_table_does(
    folder: Path, calibrated: Calibrated, tmp_path: Path, measured_tables: ModuleType
) -> None:
    start = calibrated[0].model_copy(update={"first_read_s": 0.125})
    left_out = ("adapter_loads", "length_histograms", "length_means", "probes", "measurement")
    bare = without(folder, tmp_path, *left_out)
    about = twin.read_measurement(folder, ["engine_version=0.32.0", "device=L40S"])
    profile, report = twin.calibrate(
        bare, measured_tables.MODEL, measurement=about, start=start, cross_validate=False
    )
    assert (profile.loads, profile.lengths, profile.first_read_s) == (start.loads, start.lengths, 0.125)
    assert profile.provenance.probes == 0
    assert profile.provenance.command.endswith("--start PROFILE")
    # The version decides on the rules.
    assert profile.rules.reserve_full_isl
    assert (profile.device, profile.gpu_memory_gib) == ("L40S", 44.5)
    assert report.fitted["mean_abs"].max() < 5


def test_parameters_change_the_fit_and_are_on_record(
    folder: Path, calibrated: Calibrated, measured_tables: ModuleType
) -> None:
    changes = {"matching": {"cold_rounds": 1}, "fit": {"token_knots": (1, 64)}}
    params = twin.CalibrationParams.model_validate(changes)
    profile, report = twin.calibrate(folder, measured_tables.MODEL, cross_validate=False, params=params)
    assert len(report.rounds) == 1
    assert {term.tokens_above for term in profile.step.terms} <= {None, 0, 1, 64}
    assert profile.step != calibrated[0].step
    assert "'cold_rounds': 1" in profile.provenance.note
    assert not calibrated[0].provenance.note


def test_says_what_to_do_where_runs_cannot_be_matched(folder: Path, measured_tables: ModuleType) -> None:
    strict = twin.CalibrationParams.model_validate({"matching": {"max_mismatch": 1e-12, "max_trials": 1}})
    with pytest.raises(twin.CalibrationError, match=r"0 of 10 usable runs .*; measure probes that are more"):
        twin.calibrate(folder, measured_tables.MODEL, params=strict)


def test_tables_that_cannot_be_done_without_are_named_together(
    folder: Path, tmp_path: Path, measured_tables: ModuleType
) -> None:
    names = ("adapter_loads", "length_histograms", "length_means", "probes")
    bare = without(folder, tmp_path, *names)
    pd.DataFrame({"run_id": ["a"], "t": [1.0]}).to_csv(bare / "metrics_readings.csv", index=False)
    about = twin.read_measurement(folder, ["metrics_pause_s="])
    with pytest.raises(ScenarioError) as caught:
        twin.calibrate(bare, measured_tables.MODEL, measurement=about)
    assert [problem.path for problem in caught.value.problems] == [
        "probes",
        "adapter_loads",
        "length_histograms and length_means",
        "metrics_pause_s",
    ]
    assert "give a profile to start from" in str(caught.value)


def changed(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """What changes a table of a folder."""

    def damage(folder: Path) -> None:
        change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)

    return damage


def renamed(name: str, old: str, new: str) -> Callable[[Path], None]:
    return changed(name, lambda table: table.rename(columns={old: new}))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            changed("serving_runs.csv", lambda t: t.drop(columns="tpot_mean_ms")),
            "serving_runs.csv, column tpot_mean_ms is missing or empty",
        ),
        (
            renamed("serving_runs.csv", "kv_cache_tokens", "kv_cache_token"),
            'column kv_cache_token is none of this table\'s; did you mean "kv_cache_tokens"?',
        ),
        (
            renamed("probes.csv.gz", "batched_tokens", "batch_tokens"),
            'probes.csv.gz, column batched_tokens is missing; rename "batch_tokens"',
        ),
        (
            changed("probes.csv.gz", lambda t: t.assign(zebra=1)),
            "column zebra is none of this table's; remove it; the columns are model, step_ms",
        ),
        (
            changed("probes.csv.gz", lambda t: t.assign(max_loras=0)),
            "row 2, n_adapters is 1 in an engine without LoRA; give max_loras",
        ),
        (
            changed("adapter_loads.csv.gz", lambda t: t.assign(cpu_to_gpu_ms=["1", "fast", "2"])),
            'adapter_loads.csv.gz, row 3, cpu_to_gpu_ms is the text "fast"; give a number',
        ),
        (
            changed("adapter_loads.csv.gz", lambda t: t.assign(disk_to_cpu_ms=[1, None, 2])),
            "row 3, disk_to_cpu_ms is missing",
        ),
        (changed("length_means.csv.gz", lambda t: pd.concat([t, t])), "length_means has 2 rows of the model"),
        (
            changed("length_histograms.csv.gz", lambda t: t[t["kind"] == "prompt"]),
            "length_histograms of kind output",
        ),
        (changed("length_histograms.csv.gz", lambda t: t.iloc[::2]), "have a gap between two bins"),
        (changed("length_histograms.csv.gz", lambda t: t.assign(kind="input")), 'kind is the text "input"'),
        (
            lambda f: (f / "probes.csv.gz").rename(f / "probe.csv"),
            'probe.csv is no table of this form; did you mean "probes.csv"?',
        ),
        (lambda f: (f / "serving_runs.csv").unlink(), "serving_runs.csv is missing"),
        (lambda f: (f / "probes.csv.gz").write_bytes(b"\x1f\x8b\x08 cut off"), "probes.csv.gz"),
        (lambda f: (f / "length_histograms.csv.gz").write_text(""), "length_histograms.csv.gz"),
        (lambda f: (f / "serving_runs.csv").write_bytes(b"\x00\xff\x00"), "serving_runs.csv"),
        (lambda f: (f / "measurement.yaml").write_text("device: x"), "gpu_memory_gib is missing"),
        (lambda f: (f / "measurement.yaml").write_text("- 1"), "measurement.yaml"),
    ],
)
def test_names_what_is_wrong_with_a_folder(
    damage: Callable[[Path], object],
    expected: str,
    folder: Path,
    tmp_path: Path,
    measured_tables: ModuleType,
) -> None:
    damage(without(folder, tmp_path))
    with pytest.raises(ScenarioError, match=re.escape(expected)):
        twin.calibrate(tmp_path, measured_tables.MODEL)


def test_a_folder_without_a_description_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        twin.read_measurement(tmp_path, ["devise=x", "engine_version=new", "gpu_memory_gib=-1"])
    text = str(caught.value)
    assert 'devise is not a key that exists here; did you mean "device"?' in text
    assert "gpu_memory_gib is -1; give a number above 0 (Memory of the GPU" in text
    for name in ("engine", "source"):  # device is there, under a wrong name
        assert f"{name} is missing; add it" in text
    whole = ["device=L4", "gpu_memory_gib=22", "engine_version=new", "engine.max_num_seqs=64", "source=me"]
    with pytest.raises(ScenarioError, match=r'engine_version is "new"; write it like 0\.8\.5'):
        twin.read_measurement(tmp_path, whole)


def test_parameters_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "params.toml"
    file.write_text("[fit]\ntoken_knots = [8, 2]\n[matching]\ntolerence = 0.1\n[stalls]\nexponents = []\n")
    with pytest.raises(ScenarioError) as caught:
        read_params(file, twin.CalibrationParams)
    text = str(caught.value)
    assert "fit.token_knots is [8, 2]; give ascending numbers" in text
    assert 'matching.tolerence is not a key that exists here; did you mean "tolerance"?' in text
    assert "stalls.exponents" in text


def test_every_file_and_column_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    described = {"measurement.yaml": Measurement} | {f"{name}.csv": rows for name, rows in TABLES.items()}
    for file, model in described.items():
        section = text.split(f"## `{file}`")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", section, flags=re.MULTILINE)
        expected = []
        for name, field in model.model_fields.items():
            assert field.description is not None
            need = "required" if field.is_required() else "optional"
            expected.append((name, need, " ".join(field.description.replace("``", "`").split())))
        assert rows == expected


def test_loads_of_one_rank_do_not_depend_on_it() -> None:
    row = {"adapter_rank": 16, "max_lora_rank": 32, "cpu_to_gpu_ms": 4.0, "disk_to_cpu_ms": 80.0}
    loads = fit_loads(pd.DataFrame([row, row]))
    assert (loads.gpu_s, loads.gpu_padding_s) == pytest.approx((0.004, 0.0))
    assert (loads.disk_s, loads.disk_rank_s) == pytest.approx((0.08, 0.0))


@pytest.mark.parametrize(("root", "expected"), [(0.3, 0.3), (-1.0, 0.0), (2.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_crossing_is_found_or_the_nearer_end(root: float, expected: float, sign: int) -> None:
    found = crossing(lambda x: sign * (x - root), 0.0, 1.0, 1e-3)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the measurements are not beside the repository")
def test_the_public_measurements_have_this_form_after_the_script(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "public_measurements.py"
    runpy.run_path(str(script))["convert"](PUBLIC, tmp_path)
    twin.read_measurement(tmp_path)
    tables = read_tables(tmp_path)
    assert len(tables["serving_runs"]) == 909
    for profile in twin.shipped_profiles():
        probes, loads = tables["probes"], tables["adapter_loads"]
        assert (probes["model"] == profile.model).sum() == profile.provenance.probes
        fitted = fit_loads(loads[loads["model"] == profile.model])
        assert fitted.model_dump() == pytest.approx(profile.loads.model_dump())


def test_a_model_without_runs(folder: Path) -> None:
    with pytest.raises(twin.CalibrationError, match="the table has llama"):
        twin.calibrate(folder, "qwen-2.5-7b-instruct")


def test_finds_how_long_the_server_stalls() -> None:
    rng = np.random.default_rng(0)
    now, instants = 0.0, []
    while now < 3600:
        # A reading every 2 s and what it takes, which grows to 0.6 s; one in five is kept.
        now += 2.01 + 0.6 * now / 3600
        instants.append(now)
    kept = np.array([t for k, t in enumerate(instants) if k % 5 == 0]) + rng.normal(
        0, 0.005, -(-len(instants) // 5)
    )
    assert final_stall_s(kept, 3600.0, 2.0, StallParams()) == pytest.approx(0.6, abs=0.02)
    assert final_stall_s(kept[:20], 3600.0, 2.0, StallParams()) is None
    assert final_stall_s(np.sort(rng.uniform(0, 3600, 300)), 3600.0, 2.0, StallParams()) is None
