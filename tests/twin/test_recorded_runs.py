"""Measured runs that name the requests that were sent: the twin replays just these."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import twin
from scenarios import ScenarioError
from twin.engine.run import simulate_requests
from twin.measured.predict import predict
from twin.measured.replayed import run_requests, run_setup
from twin.measured.run_tables import measured_runs, read_runs
from twin.measured.runs import RecordedRun

Lorapack = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def stages(small_engine: ModuleType) -> list[object]:
    """An open loop that is cut, and a closed one to its end."""
    return [
        small_engine.Stage("open", small_engine.mixed(9.0, 30.0, 1), "open", 30.0),
        small_engine.Stage("batch", small_engine.in_flight(8, 6, 6), "batch"),
    ]


@pytest.fixture
def folder(small_engine: ModuleType, stages: list[object], tmp_path: Path) -> Path:
    """What these runs leave, of an engine without noise."""
    engine = small_engine.truth(tmp_path)
    twin.write_profile(engine, tmp_path.parent / f"{tmp_path.name}.json")
    rows = [small_engine.played(stage, engine) for stage in stages]
    small_engine.write_folder(tmp_path, rows, stages, [small_engine.probe(engine, 1, 1, 50, 1, 1.0, 1.0)])
    return tmp_path


@pytest.fixture
def profile(folder: Path) -> Path:
    """The engine behind them, as a file."""
    return folder.parent / f"{folder.name}.json"


def change(folder: Path, **values: object) -> None:
    """Change columns of the table of runs."""
    path = folder / "serving_runs.csv"
    pd.read_csv(path).assign(**values).to_csv(path, index=False)


def test_the_twin_replays_just_what_was_sent(folder: Path, profile: Path) -> None:
    report = twin.fidelity(folder, profile)
    both = report.to_frame()
    for measured, predicted in (
        ("total_throughput", "predicted_total_throughput"),
        ("itl_mean_ms", "predicted_itl_ms"),
        ("tpot_mean_ms", "predicted_tpot_ms"),
        ("ttft_mean_ms", "predicted_ttft_ms"),
    ):
        np.testing.assert_allclose(both[measured], both[predicted], rtol=1e-4, err_msg=measured)
    assert not both["predicted_starved"].any()


def test_rates_and_lengths_only_describe(folder: Path, profile: Path) -> None:
    engine = twin.read_profile(profile)
    first = measured_runs(read_runs(folder), folder)
    change(folder, rates="0.001", pool_mean_input=9.0, pool_mean_output=900.0, arrivals_est=3)
    second = measured_runs(read_runs(folder), folder)
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, RecordedRun)
        assert one.arrivals == other.arrivals == len(one.recorded)
        assert other.asked_tokens(engine.lengths) == one.asked_tokens(engine.lengths)
        said = [predict(run, engine, seed=k) for k, run in enumerate((one, other))]
        assert said[0].predicted_itl_ms == said[1].predicted_itl_ms
        assert run_requests(one, engine, seed=1) is one.recorded


def test_a_run_is_cut_where_it_was_or_played_to_its_last_answer(folder: Path, profile: Path) -> None:
    engine = twin.read_profile(profile)
    change(folder, total_time_s=1.0, drained=[False, True])
    cut, drained = measured_runs(read_runs(folder), folder)
    assert (cut.horizon_s, drained.horizon_s) == (1.0, np.inf)
    records = simulate_requests(drained.recorded, run_setup(drained, engine))
    assert records.finished.all()
    assert drained.seconds(records) == records.end_s > 1.0
    assert cut.seconds(simulate_requests(cut.recorded, run_setup(cut, engine), 1.0)) == 1.0


def test_a_warm_engine_reads_no_adapter_a_cold_one_each_and_a_small_cpu_again(
    folder: Path, profile: Path
) -> None:
    engine = twin.read_profile(profile).model_copy(update={"first_read_s": 0.3})

    def reads(**values: object) -> tuple[int, float]:
        change(folder, **{"max_cpu_loras": None, "warm": True} | values)
        run = measured_runs(read_runs(folder), folder)[0]
        setup = run_setup(run, engine)
        records = simulate_requests(run.recorded, setup, run.horizon_s)
        return int(records.disk_loads.sum()), float(setup.disk_load_s.max())

    asked = len(np.unique(measured_runs(read_runs(folder), folder)[0].recorded.adapter))
    assert reads() == (0, 0.3)
    assert reads(warm=False) == (asked, 0.3)
    again, seconds = reads(max_cpu_loras=6)
    assert again > asked
    assert seconds == pytest.approx(0.05 + 0.001 * 32)


def test_what_rows_do_not_say_of_their_engine_the_folder_says(folder: Path) -> None:
    assert {run.max_num_seqs for run in measured_runs(read_runs(folder), folder)} == {64}
    change(folder, max_num_seqs=[32, None])
    assert [run.max_num_seqs for run in measured_runs(read_runs(folder), folder)] == [32, 64]
    table = folder / "serving_runs.csv"
    assert [run.max_num_seqs for run in measured_runs(read_runs(table), table)] == [32, None]
    (folder / "measurement.yaml").unlink()
    assert [run.max_num_seqs for run in measured_runs(read_runs(folder), folder)] == [32, None]


@pytest.mark.parametrize(
    "name", ["../outside.csv", "/etc/hostname", "requests/../../outside.csv", "link/outside.csv"]
)
def test_files_outside_the_folder_are_refused(name: str, folder: Path, profile: Path) -> None:
    outside = folder.parent / "outside.csv"
    outside.write_bytes((folder / "requests" / "open.csv").read_bytes())
    (folder / "link").symlink_to(folder.parent)
    change(folder, requests_file=name)
    said = f'run open, requests_file is "{name}", which lies outside the folder; copy it'
    with pytest.raises(ScenarioError, match=re.escape(said)):
        twin.fidelity(folder, profile)


def test_room_for_fewer_adapters_than_slots_is_refused(folder: Path) -> None:
    change(folder, max_cpu_loras=3)
    with pytest.raises(ScenarioError, match=r"row 2, max_cpu_loras is 3, below max_loras 4"):
        read_runs(folder)


def test_a_folder_without_runs_is_no_source(tmp_path: Path) -> None:
    for read in (twin.fidelity, lambda path: twin.read_sources([path])):
        with pytest.raises(ScenarioError, match=r"is a folder without serving_runs\.csv; name a table"):
            read(tmp_path)


# --- commands ----------------------------------------------------------------------------------------


def test_fidelity_and_update_take_the_folder(lorapack: Lorapack, folder: Path, profile: Path) -> None:
    one = ("--workers", 1, "-q")
    code, text, error = lorapack("fidelity", folder, "--profile", profile, "--json", "-", *one)
    assert (code, error) == (0, "")
    values = json.loads(text)
    assert values["runs"] == 2
    assert values["errors"][0]["itl_smape"] < 0.1
    out = folder.parent / "updated.json"
    code, text, error = lorapack("calibrate", folder, "--update", profile, "--out", out, *one)
    assert (code, error) == (0, "")
    assert "2 of 2 runs used" in text
    now, before = (twin.read_profile(path).step for path in (out, profile))
    for one, other in zip(now.terms, before.terms, strict=True):
        assert one.seconds == pytest.approx(other.seconds, rel=0.02)


def test_no_file_of_the_folder_is_overwritten(lorapack: Lorapack, folder: Path, profile: Path) -> None:
    file = folder / "requests" / "open.csv"
    for given in (("fidelity", folder, "--profile", profile), ("calibrate", folder, "--update", profile)):
        code, _, error = lorapack(*given, "--out", file, "-q")
        assert code == 2
        assert "is what the command reads" in error


def test_a_damaged_file_of_requests_is_one_message(lorapack: Lorapack, folder: Path, profile: Path) -> None:
    file = folder / "requests" / "batch.csv"
    file.write_text(file.read_text().replace("\n0.000000,1,", "\n0.000000,one,", 1))
    for given in (("fidelity", folder, "--profile", profile), ("calibrate", folder, "--model", "tiny-llama")):
        code, text, error = lorapack(*given, "--out", folder.parent / "out", "-q")
        assert (code, text) == (2, "")
        assert 'batch.csv, line 3: adapter is "one" (must be' in " ".join(error.split())
        assert "Traceback" not in error
