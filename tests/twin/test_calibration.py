"""Calibration on tables made by engines of known cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import twin
from scenarios import ScenarioError
from twin.calibration.cost_terms import candidate_terms
from twin.calibration.frontend import final_stall_s

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
        said = profile.step.tables(slots, 16, 2048, slots)
        true = measured_tables.TRUTH.tables(slots, 16, 2048, slots)
        context = 300 * tokens

        def seconds(t: twin.StepTables, tokens: int, adapters: int, context: int) -> float:
            per_token = t.adapter_token_s[adapters] * tokens + t.decode_s * tokens + t.context_s * context
            return float(t.token_s[tokens] + t.adapter_s[adapters] + per_token)

        expected = seconds(true, tokens, adapters, context)
        assert seconds(said, tokens, adapters, context) == pytest.approx(expected, rel=0.05)


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
    assert kept <= {term.name for term in candidate_terms()}


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


def _without_run_column(folder: Path) -> None:
    path = folder / "serving_runs.csv"
    pd.read_csv(path).drop(columns="tpot_mean_ms").to_csv(path, index=False)


def _with_text_for_a_number(folder: Path) -> None:
    path = folder / "adapter_loads.csv"
    table = pd.read_csv(path).astype({"cpu_to_gpu_mean_ms": object})
    table.loc[1, "cpu_to_gpu_mean_ms"] = "fast"
    table.to_csv(path, index=False)


def _without_a_stat(folder: Path) -> None:
    path = folder / "length_stats.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_without_run_column, "column tpot_mean_ms is missing"),
        (_with_text_for_a_number, "row 3, cpu_to_gpu_mean_ms is 'fast'"),
        (_without_a_stat, "stat pool_mean_input_largest_pool is missing"),
        (lambda f: (f / "memory_probes.csv").unlink(), "memory_probes.csv"),
        (lambda f: (f / "engine_steps.csv.gz").write_bytes(b"\x1f\x8b\x08 cut off"), "engine_steps.csv.gz"),
        (lambda f: (f / "length_histograms.csv").write_text(""), "length_histograms.csv"),
        (lambda f: (f / "serving_runs.csv").write_bytes(b"\x00\xff\x00"), "serving_runs.csv"),
    ],
)
def test_names_what_is_wrong_with_a_table(
    damage: Callable[[Path], object],
    expected: str,
    folder: Path,
    tmp_path: Path,
    measured_tables: ModuleType,
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    with pytest.raises(ScenarioError, match=expected.replace(".", r"\.")):
        twin.calibrate(tmp_path, measured_tables.MODEL)


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
    assert final_stall_s(kept, 3600.0) == pytest.approx(0.6, abs=0.02)
    assert final_stall_s(kept[:20], 3600.0) is None
    assert final_stall_s(np.sort(rng.uniform(0, 3600, 300)), 3600.0) is None
