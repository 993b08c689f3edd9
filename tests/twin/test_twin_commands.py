"""``lorapack fidelity`` and ``lorapack calibrate``: files, tables, exit codes and messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

import twin
from optimizer.cli import main
from twin import FidelityReport

Lorapack = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lorapack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lorapack:
    """Runs the command; its exit code, what it printed, and what it said on stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lorapack", *map(str, arguments)])
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return int(str(code or 0)), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, measured_tables: ModuleType) -> Path:
    path = tmp_path_factory.mktemp("measurements")
    measured_tables.write_tables(path)
    return path


def test_calibrate_then_compare(
    lorapack: Lorapack, folder: Path, tmp_path: Path, measured_tables: ModuleType
) -> None:
    profile, out = tmp_path / "profile.json", tmp_path / "out.csv"
    params = tmp_path / "params.toml"
    params.write_text("[fit]\nsaturated_weight = 0.6\n")
    options = ("--set", "device=L4", "--params", params, "--out", profile, "--workers", 1)
    code, text, _ = lorapack("calibrate", folder, "--model", measured_tables.MODEL, *options)
    assert code == 0
    assert "Groups left out of the fit" in text
    assert max(map(len, text.splitlines())) <= 100
    read = twin.read_profile(profile)
    assert read.provenance.command.startswith("lorapack calibrate FOLDER --model llama-3.1-8b-instruct")
    assert read.provenance.left_out_errors
    assert (read.device, read.gpu_memory_gib) == ("L4", 44.5)
    assert "saturated_weight" in read.provenance.note
    runs = folder / "serving_runs.csv"
    code, text, _ = lorapack("fidelity", runs, "--profile", profile, "--out", out, "--workers", 1)
    assert code == 0
    assert "Starvation" in text
    assert max(map(len, text.splitlines())) <= 100
    assert pd.read_csv(out)["run_id"].tolist() == pd.read_csv(runs)["run_id"].tolist()


def test_a_damaged_profile(lorapack: Lorapack, folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "profile.json"
    bad.write_text('{"name": "x"}')
    code, text, error = lorapack(
        "fidelity", folder / "serving_runs.csv", "--profile", bad, "--out", tmp_path / "out.csv"
    )
    assert (code, text) == (2, "")
    assert error.startswith(f"lorapack: {bad}: not an engine profile")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff\xfe", b"a,b\n1,2\n"])
def test_a_damaged_table(content: bytes | None, lorapack: Lorapack, tmp_path: Path) -> None:
    runs = tmp_path / "runs.csv"
    if content is not None:
        runs.write_bytes(content)
    for arguments in (
        ("fidelity", runs, "--out", tmp_path / "out.csv"),
        ("calibrate", tmp_path, "--model", "llama-3.1-8b-instruct", "--out", tmp_path / "p.json"),
    ):
        code, text, error = lorapack(*arguments)
        assert (code, text) == (2, "")
        assert error.startswith("lorapack: ")
        assert "Traceback" not in error


def test_an_unknown_model(lorapack: Lorapack, folder: Path, tmp_path: Path) -> None:
    code, _, error = lorapack("calibrate", folder, "--model", "gpt-2", "--out", tmp_path / "p.json")
    assert code == 2
    assert "gpt-2" in error


def test_a_folder_that_is_not_there(lorapack: Lorapack, folder: Path, tmp_path: Path) -> None:
    code, _, error = lorapack(
        "fidelity", folder / "serving_runs.csv", "--out", tmp_path / "nowhere" / "out.csv"
    )
    assert code == 2
    assert "name a file in a folder that exists" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_errors_are_told_though_the_predictions_cannot_be_written(
    lorapack: Lorapack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = folder / "serving_runs.csv"
    found = FidelityReport(pd.read_csv(runs), pd.DataFrame({"run_id": ["1"], "wall_s": [2.0]}))
    monkeypatch.setattr(twin, "fidelity", lambda *_, **__: found)
    monkeypatch.setattr(FidelityReport, "summary", lambda _: "the errors")
    code, text, error = lorapack("fidelity", runs, "--out", "/dev/full")
    assert (code, text) == (2, "the errors\n")
    assert error.startswith("lorapack: /dev/full cannot be written")
