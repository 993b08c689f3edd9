"""``lorapack scenarios``: what it shows can be read again, and what is wrong is told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import scenarios

Lorapack = Callable[..., tuple[int, str, str]]

TEXT = """\
name: mine
model: llama-3.1-8b-instruct
adapters:
  - {name: chat, count: 48, rank: [8, 16], rate: {zipf_total: 9}}
workload: {prompt: {mean: 200, std: 200, max: 1024}, output: 195, duration_s: 3600}
devices:
  - {name: H100-64GB, count: 4}
service_levels: {ttft_ms: {p95: 900}}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_what_is_shown_is_the_scenario_again(
    lorapack: Lorapack, mine: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, shown, _ = lorapack("scenarios", "show", str(mine))
    assert code == 0
    mine.write_text(shown)
    scenario = scenarios.loads(TEXT)
    assert scenarios.read(mine) == scenario
    assert lorapack("scenarios", "show", str(mine))[1] == shown
    comments = [line for line in shown.splitlines() if line.startswith("#")]
    assert max(map(len, comments)) <= int(columns)
    assert all(group.names[0] in "".join(comments) for group in scenario.classes)


def test_every_default_is_shown_and_what_the_file_states(lorapack: Lorapack, mine: Path) -> None:
    values = yaml.safe_load(lorapack("scenarios", "show", str(mine))[1])
    assert (values["seed"], values["replications"], values["allow_replicas"]) == (0, 3, True)
    assert values["workload"]["duration_s"] == 3600
    assert values["workload"]["warmup_s"] == 0
    assert (values["acceptance"], values["headroom"]) == ("sustained", 0.05)
    assert (values["service_levels"]["patience_s"], values["service_levels"]["late_share"]) == (10, 0.01)
    assert "served_share" not in values["service_levels"]
    assert values["service_levels"]["ttft_ms"] == {
        "mean": None,
        "p50": None,
        "p90": None,
        "p95": 900,
        "p99": None,
    }
    assert values["adapters"][0]["rate"] == {"zipf_total": 9, "exponent": 1}
    further = scenarios.FurtherArguments.model_fields.keys()  # change nothing where they are not given
    assert values["engine"].keys() == scenarios.EngineConfig.model_fields.keys() - further


def problems_of(lorapack: Lorapack, file: Path, *changes: tuple[str, str]) -> list[str]:
    """What the check of the file, with pieces of its text replaced, says."""
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)
    code, _, said = lorapack("scenarios", "check", str(file))
    assert code == 2
    first, *problems = said.splitlines()
    assert first.startswith(f"lorapack: {file}: ")
    return [problem.strip() for problem in problems]


def test_unknown_models_and_devices_are_told_with_their_line_and_all_else(
    lorapack: Lorapack, mine: Path
) -> None:
    wrong_rank = ("rank: [8, 16]", "rank: 513")
    model, rank = problems_of(lorapack, mine, ("llama-3.1-8b-instruct", "llama-3.1-8b-instrct"), wrong_rank)
    assert model.startswith(
        'line 2: model is "llama-3.1-8b-instrct", for which no engine profile is shipped; '
        'did you mean "llama-3.1-8b-instruct"? use llama-3.1-8b-instruct or qwen-2.5-7b-instruct, or '
    )
    assert rank.startswith("line 4: adapters[0].rank is 513")
    rank, device = problems_of(lorapack, mine, ("{name: H100-64GB, count: 4}", "abacus"), wrong_rank)
    assert device == (
        'line 7: devices[0] is "abacus", a GPU that is not known; '
        "`lorapack devices` lists those that are known"
    )


@pytest.mark.parametrize("command", [("solve",), ("compare",), ("replan", "--from", "now.json")])
def test_searches_tell_it_too(lorapack: Lorapack, mine: Path, command: tuple[str, ...]) -> None:
    mine.write_text(TEXT.replace("H100-64GB", "H200"))
    code, _, said = lorapack(*command, str(mine), "--measured-only")
    assert code == 2
    assert 'line 7: devices[0] is "H200", for which no engine profile' in said


def test_devices_with_commas_are_a_list(lorapack: Lorapack, mine: Path) -> None:
    devices = "\n  - {name: H100-64GB, count: 4}"
    (problem,) = problems_of(lorapack, mine, (devices, " H100-64GB, L40S"))
    assert problem.startswith('line 6: devices is "H100-64GB, L40S", ')
    assert problem.endswith("; write [H100-64GB, L40S]")


def test_a_device_with_a_profile_of_its_own_is_not_looked_up(lorapack: Lorapack, mine: Path) -> None:
    import twin

    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    twin.write_profile(profile, mine.parent / "own.json")
    mine.write_text(TEXT.replace("{name: H100-64GB,", "{name: H200, profile: own.json,"))
    assert lorapack("scenarios", "check", str(mine))[0] == 0


def test_prompts_that_the_engine_refuses_are_told(lorapack: Lorapack, mine: Path) -> None:
    (problem,) = problems_of(lorapack, mine, ("devices:", "engine: {max_model_len: 1024}\ndevices:"))
    assert problem.startswith(
        "line 5: workload.prompt.max lets prompts have 1,024 tokens, and the engine refuses"
    )


def test_a_traces_prompts_that_the_engine_refuses_are_told(lorapack: Lorapack, mine: Path) -> None:
    rows = [f"2024-05-10 00:00:{k:02d},{20_000 if k == 5 else 100},50" for k in range(60)]
    (mine.parent / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    trace = "arrivals: {process: trace, file: trace.csv, lengths: true}, output: 195, duration_s: 60}"
    mine.write_text(TEXT.replace("output: 195, duration_s: 3600}", trace))
    code, _, said = lorapack("scenarios", "check", str(mine))
    assert code == 2
    assert "an engine of max_model_len 16,384 refuses " in said
    rows[5], rows[59] = (
        rows[0],
        "2024-05-10 02:00:00,20000,50",
    )  # after the first minute, in which it is stretched
    (mine.parent / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    assert "refuses 1 of 60 prompts" in lorapack("scenarios", "check", str(mine))[2]
    (mine.parent / "trace.csv").write_text("TIMESTAMP\n")
    code, _, said = lorapack("scenarios", "check", str(mine))
    assert code == 2
    assert "trace.csv" in said


def test_what_is_taken_of_a_trace_is_said_and_adapters_that_it_lacks_are_refused(
    lorapack: Lorapack, mine: Path
) -> None:
    names = scenarios.read(mine).adapters[0].names()
    rows = [f"{k}.5,100,50,{name}" for k, name in enumerate([*names, "other", "other"])]
    head = "arrival_time,prompt_tokens,completion_tokens,lora_name"
    (mine.parent / "trace.csv").write_text("\n".join([head, *rows]))
    trace = "arrivals: {process: trace, file: trace.csv, columns: {adapter: lora_name}}"
    mine.write_text(TEXT.replace("output: 195,", f"{trace}, output: 195,"))
    code, said, _ = lorapack("scenarios", "check", str(mine))
    assert code == 0
    _, columns, others = said.splitlines()
    assert (
        "columns: time arrival_time (s), prompt prompt_tokens, output completion_tokens, adapter" in columns
    )
    assert others.endswith("left out here: 2 requests under 1 other name")
    (mine.parent / "trace.csv").write_text("\n".join([head, *rows[1:]]))
    code, _, wrong = lorapack("scenarios", "check", str(mine))
    assert code == 2
    said = f"{mine}: workload.arrivals: the trace has no request for {names[0]}, but for "
    assert said in wrong
    assert "say by adapter_name under which of these their requests are, or set columns: {adapter" in wrong
    (mine.parent / "folder").mkdir()
    mine.write_text(TEXT.replace("output: 195,", "arrivals: {process: servegen, folder: no}, output: 195,"))
    assert "there is no folder" in lorapack("scenarios", "check", str(mine))[2]
