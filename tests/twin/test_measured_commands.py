"""``lorapack fidelity`` and ``calibrate --update``: texts, exit codes and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import twin

DATA = Path(__file__).parent / "data" / "bench_serve"
SUMMARY, DETAILED = DATA / "summary.json", DATA / "detailed.json"
PROFILES = Path(twin.__file__).parent / "profiles"
LLAMA = PROFILES / "llama-3.1-8b-instruct.h100-64gb.json"
ENGINE = ("--max-loras", 8, "--adapters", 16, "--ranks", "8,16")
HERE = ("--workers", 1, "-q")
"""In this process, as others take longer to start than these runs; what they give is the same."""

Lorapack = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


# --- fidelity ----------------------------------------------------------------------------------------


def test_fidelity_takes_a_result_with_slots_ranks_and_rates_by_options(
    lorapack: Lorapack, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    rates = ("--rates", "0.1,0.05", "--model", "llama-3.1-8b-instruct")
    code, text, error = lorapack("fidelity", SUMMARY, *ENGINE, *rates, "--out", out, *HERE)
    assert (code, error) == (0, "")
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    assert rows["ITL ms"][2] == "13.50"
    assert rows["TTFT ms"][2] == "54.60"
    assert float(rows["TPOT ms"][3]) > 0
    assert "--rates give 1.2 requests/s together, the file 10" in text
    assert "predicted_itl_ms" in out.read_text()


def test_fidelity_of_several_results_with_a_profile_as_json(lorapack: Lorapack) -> None:
    given = (SUMMARY, DETAILED, *ENGINE, "--profile", LLAMA, "--json", "-", *HERE)
    code, text, _ = lorapack("fidelity", *given)
    assert code == 0
    values = json.loads(text)
    assert [one["result"] for one in values["results"]] == [str(SUMMARY), str(DETAILED)]
    assert lorapack("fidelity", *given) == (0, text, "")


def test_fidelity_of_a_table_as_json(lorapack: Lorapack, tmp_path: Path, measured_tables: ModuleType) -> None:
    measured_tables.write_runs(tmp_path)
    code, text, _ = lorapack("fidelity", tmp_path / "serving_runs.csv", "--json", "-", *HERE)
    assert code == 0
    values = json.loads(text)
    assert values["runs"] == 10
    assert {"throughput_smape", "itl_smape"} <= values["errors"][0].keys()


def test_fidelity_names_all_that_is_missing_at_once(lorapack: Lorapack) -> None:
    code, text, error = lorapack("fidelity", SUMMARY, "-q")
    assert (code, text) == (2, "")
    for flag in ("--max-loras", "--adapters", "--ranks"):
        assert f"{flag} is missing" in error
    assert "Traceback" not in error


def test_fidelity_says_that_no_profile_is_shipped_for_the_model(lorapack: Lorapack) -> None:
    code, _, error = lorapack("fidelity", SUMMARY, *ENGINE, "-q")
    assert code == 2
    assert 'no engine profile is shipped for model "meta-llama/Llama-3.2-3B-Instruct"' in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--ranks", "8,a"), 'ranks[1] is the text "a"; give a whole number'),
        (("--ranks", "8,1.5"), "ranks[1] is 1.5; give a whole number"),
        (("--max-lora-rank", 17), "max_lora_rank is 17; use 1, 8, 16"),
        (("--max-loras", -1), "max_loras is -1"),
        (("--gpu-memory-utilization", 1.5), "gpu_memory_utilization is 1.5"),
        (("--rates", "0"), "rates[0] is 0; give a number above 0"),
    ],
)
def test_wrong_options_are_refused_with_their_value(
    given: tuple[object, ...], said: str, lorapack: Lorapack
) -> None:
    code, text, error = lorapack("fidelity", SUMMARY, *ENGINE, *given, "-q")
    assert (code, text) == (2, "")
    assert said in error


def test_a_table_takes_no_options_for_results(
    lorapack: Lorapack, tmp_path: Path, measured_tables: ModuleType
) -> None:
    measured_tables.write_runs(tmp_path)
    table = tmp_path / "serving_runs.csv"
    code, _, error = lorapack("fidelity", table, "--max-loras", 8, "--model", "m", "-q")
    assert code == 2
    assert "--model, --max-loras are for results of `vllm bench serve`" in error
    code, _, error = lorapack("fidelity", table, SUMMARY, *ENGINE, "-q")
    assert code == 2
    assert "name one table, or results" in error


def test_a_damaged_result_is_one_message(lorapack: Lorapack, tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(SUMMARY.read_text()[:200])
    for command in (("fidelity",), ("calibrate", "--update", LLAMA, "--out", tmp_path / "p.json")):
        code, _, error = lorapack(*command, path, *ENGINE, "-q")
        assert code == 2
        assert f"{path}: 1 problem" in error
        assert "is not valid JSON" in error
        assert "Traceback" not in error


# --- calibrate --update ------------------------------------------------------------------------------


def test_update_writes_a_profile_with_factors_and_their_source(lorapack: Lorapack, tmp_path: Path) -> None:
    out, report = tmp_path / "profile.json", tmp_path / "report.json"
    given = ("calibrate", SUMMARY, *ENGINE, "--update", LLAMA, "--out", out, "--json", report, *HERE)
    code, text, error = lorapack(*given)
    assert (code, error) == (0, "")
    assert "Factors on the step cost" in text
    profile = twin.read_profile(out)
    assert profile.name.endswith(".updated")
    assert str(SUMMARY) in profile.provenance.source
    assert "compute" in profile.provenance.note
    values = json.loads(report.read_text())
    assert [factor["group"] for factor in values["factors"]] == ["compute", "memory", "overhead"]
    first = out.read_bytes()
    assert lorapack(*given)[0] == 0
    assert out.read_bytes() == first


def test_update_takes_rows_of_a_table_of_the_profile_s_model(
    lorapack: Lorapack, tmp_path: Path, measured_tables: ModuleType
) -> None:
    measured_tables.write_runs(tmp_path)
    table, out = tmp_path / "serving_runs.csv", tmp_path / "profile.json"
    code, text, _ = lorapack("calibrate", table, "--update", LLAMA, "--out", out, *HERE)
    assert code == 0
    assert "10 of 10 runs used" in text
    other = PROFILES / "qwen-2.5-7b-instruct.h100-64gb.json"
    code, _, error = lorapack("calibrate", table, "--update", other, "--out", out, "-q")
    assert code == 2
    assert 'has no run of model "qwen-2.5-7b-instruct"; its models are llama-3.1-8b-instruct' in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((SUMMARY, *ENGINE), "--max-loras, --adapters, --ranks are for results"),
        ((SUMMARY,), "give --update PROFILE"),
        ((DATA, SUMMARY, "--model", "m"), "give --update PROFILE"),
        ((DATA,), "--model is missing"),
        ((DATA, "--model", "m", "--json", "-"), "--json: for --update"),
        (
            (SUMMARY, *ENGINE, "--update", LLAMA, "--start", LLAMA),
            "--start: for a fit from a folder",
        ),
        (
            (SUMMARY, *ENGINE, "--update", LLAMA, "--no-cross-validate"),
            "--no-cross-validate: for a fit from a folder",
        ),
        ((SUMMARY, "--update", LLAMA), "--adapters is missing"),
        ((SUMMARY, *ENGINE, "--update", SUMMARY), "not an engine profile"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    given: tuple[object, ...], said: str, lorapack: Lorapack, tmp_path: Path
) -> None:
    code, text, error = lorapack("calibrate", *given, "--out", tmp_path / "p.json", "-q")
    assert (code, text) == (2, "")
    assert said in " ".join(error.replace("│", " ").split())
    assert not (tmp_path / "p.json").exists()


def test_an_update_overwrites_no_profile_that_it_reads(lorapack: Lorapack, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_bytes(LLAMA.read_bytes())
    code, _, error = lorapack("calibrate", SUMMARY, *ENGINE, "--update", profile, "--out", profile, "-q")
    assert code == 2
    assert "is what the command reads" in error
