"""``lorapack validate``, ``simulate`` and ``replay``: texts, exit codes and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scenarios
import twin
from scenarios import PlacedGPU, Placement
from twin import Criterion, GPUVerdict, ValidationReport, Violation

SCHEDULE = next((Path(__file__).parent / "data" / "vllm_schedules").glob("*/kv_01.json.gz"))
Lorapack = Callable[..., tuple[int, str, str]]

SCENARIO = """\
name: two_kinds
model: llama-3.1-8b-instruct
devices: [H100-64GB]
workload:
  duration_s: 600
  prompt: {distribution: fixed, tokens: 200}
  output: {distribution: fixed, tokens: 100}
adapters:
  - {name: fast, count: 4, rank: 16, rate: 0.5}
  - {name: slow, count: 4, rank: 8, rate: 0.1}
acceptance: paper
replications: 1
"""


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A scenario, and a placement of all its adapters on one GPU."""
    scenario, placement = tmp_path / "two.yaml", tmp_path / "plan.json"
    scenario.write_text(SCENARIO)
    names = tuple(name for c in scenarios.read(scenario).classes for name in c.names)
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=8, max_lora_rank=16, adapters=names)
    scenarios.write_placement(Placement(gpus=(gpu,)), placement)
    return scenario, placement


# --- what a report says ------------------------------------------------------------------------------


def verdict(gpu: int, *violations: Violation, **figures: Any) -> GPUVerdict:
    return GPUVerdict(
        gpu=gpu,
        accepted=not violations,
        violations=violations,
        **{
            "offered_tok_per_s": 14764.0,
            "served_tok_per_s": 14236.0,
            "served_share": 0.96,
            "worst_adapter": "a",
            "worst_served_share": 0.977,
            "itl_ms": 106.3,
            "ttft_ms": 4730.5,
            "itl_p99_ms": 200.0,
            "ttft_p99_ms": 130195.83,
            "kv_cache_tokens": 1000,
        }
        | figures,
    )


def placed(*numbers: int) -> Placement:
    return Placement(
        gpus=tuple(
            PlacedGPU(gpu=k, device="L40S", max_loras=16, max_lora_rank=8, adapters=(f"a{k}",))
            for k in numbers
        )
    )


def margins_of(mean_ms: float, p90_ms: float) -> dict[Criterion, float]:
    return {Criterion.TTFT_MEAN: 1 - mean_ms / 9000, Criterion.TTFT_P90: 1 - p90_ms / 2000}


LATE = Violation(code=Criterion.TTFT_P90, value=130195.83, limit=2000)

REJECTED = """\
REJECTED: 1 of 2 GPUs on L40S

 GPU  LoRAs  slots  rank  twin      served  worst  TTFT mean ms  TTFT p90 ms  headroom  ITL ms
 ─────────────────────────────────────────────────────────────────────────────────────────────
   0      1     16     8  REJECTED  14,236  97.7%         4,730      130,196    -6410%   106.3
   1      1     16     8  accepted  14,236  97.7%           250        1,500       25%       –

(too narrow for: offered)
paper: 90 % of the tokens served within 600 s
limits of a GPU: TTFT mean 9,000 ms and TTFT p90 2,000 ms; headroom: distance to the nearest, as a
share of it
GPU 0: p90 TTFT is 130,195.9 ms, above 2,000 ms"""


def test_a_report_shows_every_gpu_and_what_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    late = verdict(0, LATE, margins=margins_of(4730.0, 130195.83))
    good = verdict(1, itl_ms=None, ttft_ms=250.0, margins=margins_of(250.0, 1500.0))
    report = ValidationReport(gpus=(good, late), distinct=2)  # the table is in the order of the numbers
    limits = ["service_levels.ttft_ms.p90=2000", "service_levels.ttft_ms.mean=9000"]
    assert report.summary(placed(1, 0), scenarios.loads(SCENARIO, limits)) == REJECTED
    assert repr(report) == "<ValidationReport: REJECTED: 1 of 2 GPUs>"
    assert repr(late) == "<GPUVerdict: GPU 0 REJECTED (ttft_p90)>"
    assert str(good) == "<GPUVerdict: GPU 1 accepted>"
    assert "device" not in str(report)
    assert "TTFT p90" not in str(report)


def test_the_verdict_counts_what_it_names() -> None:
    gpus = tuple(verdict(k, LATE) for k in range(3))
    assert ValidationReport(gpus=gpus, distinct=3).headline == "REJECTED: 3 of 3 GPUs"
    assert ValidationReport(gpus=(verdict(0),), distinct=1).headline == "accepted: 1 of 1 GPUs"


# --- validate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "code", "word"), [(60_000, 0, "accepted"), (1, 1, "REJECTED")])
def test_validate_shows_figures_in_either_case(
    limit: int, code: int, word: str, lorapack: Lorapack, files: tuple[Path, Path]
) -> None:
    change = ("--set", f"service_levels.ttft_ms.p99={limit}")
    done, text, error = lorapack("validate", *files, *change, "--quiet")
    assert (done, error) == (code, "")
    assert text.startswith(f"{word}: 1 of 1 GPUs on H100-64GB\n")
    heading, row = text.splitlines()[2], text.splitlines()[4]
    for column in ("GPU", "LoRAs", "slots", "rank", "twin", "worst", "TTFT p99 ms", "headroom", "ITL ms"):
        assert column in heading
    assert row.split()[:5] == ["0", "8", "8", "16", word]
    assert ("p99 TTFT is" in text) == bool(code)


def test_validate_names_the_file_and_counts_adapters_of_another_scenario(
    lorapack: Lorapack, files: tuple[Path, Path]
) -> None:
    scenario, placement = files
    placement.write_text(placement.read_text().replace('"fast', '"chat'))
    code, _, error = lorapack("validate", *files, "-q")
    assert code == 2
    assert error.startswith(f"lorapack: {placement}: ")
    assert error.count("unknown to the scenario") == 4  # few: each with its place
    placement.write_text(placement.read_text().replace('"slow', '"mail'))
    code, _, error = lorapack("validate", scenario, placement)
    assert code == 2
    assert "gpus hold chat-1, chat-2, chat-3, chat-4, mail-1 and 3 more, unknown to the scenario" in error
    assert len(error.splitlines()) == 3


@pytest.mark.parametrize(("name", "said"), [("plan.json", "valid JSON"), ("plan.yaml", "valid YAML")])
def test_a_broken_placement_is_called_what_it_is(
    name: str, said: str, lorapack: Lorapack, files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"gpus": [')
    code, _, error = lorapack("validate", files[0], tmp_path / name)
    assert code == 2
    assert said in error


# --- simulate ----------------------------------------------------------------------------------------


def test_simulate_says_what_was_simulated_and_whether_it_suffices(
    lorapack: Lorapack, files: tuple[Path, Path]
) -> None:
    code, text, error = lorapack("simulate", files[0], "-q")
    assert (code, error) == (0, "")
    lines = text.splitlines()
    assert lines[0] == "two_kinds, one H100-64GB: accepted in this run"
    assert lines[1:3] == ["paper: 90 % of the tokens served within 600 s", ""]
    assert lines[3].split() == ["adapters", "8", "in", "8", "slots", "of", "rank", "16"]
    assert {line.index(line.split("  ")[-1].strip()) for line in lines[3:] if "  " in line} == {15}
    code, text, _ = lorapack("simulate", files[0], "-q", "--set", "service_levels.itl_ms.mean=0.5")
    assert code == 0
    assert text.splitlines()[0] == "two_kinds, one H100-64GB: REJECTED in this run"
    assert "ms, above 0.5 ms" in text.splitlines()[2]


def test_simulate_by_the_default_criterion_judges_by_runs_of_its_own(
    lorapack: Lorapack, files: tuple[Path, Path]
) -> None:
    """The figures are of the file's 600 s; whether the load is sustained is not."""
    code, text, _ = lorapack("simulate", files[0], "-q", "--acceptance", "sustained")
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "two_kinds, one H100-64GB: accepted by longer runs of its own"
    assert " ".join(lines[1 : lines.index("")]) == (
        "sustained: at most 1 % of the requests wait over 10 s, for ever; judged at 1.05 times the load; "
        "figures are of one run at the load itself"
    )
    _, by_paper, _ = lorapack("simulate", files[0], "-q")
    assert lines[lines.index("") :] == by_paper.splitlines()[2:]


def test_simulate_and_validate_count_the_base_model_apart_from_the_adapters(
    lorapack: Lorapack, tmp_path: Path
) -> None:
    served = "[{name: base, rate: 0.5}, {name: a, count: 2, rank: 8, rate: {low: 0.1, high: 0.2}}]"
    rest = "workload: {prompt: 100, output: 50, duration_s: 60}\ndevices: [{name: H100-64GB}]\n"
    (tmp_path / "s.yaml").write_text(f"name: s\nmodel: llama-3.1-8b-instruct\nadapters: {served}\n{rest}")
    _, text, said = lorapack("simulate", tmp_path / "s.yaml", "-q", "--max-loras", 2)
    assert "adapters       2 + base in 2 slots of rank 8" in text
    assert "max_cpu_loras" not in said  # two slots are enough for two adapters
    assert "worst corner" not in text  # high rates are judged, and the figures are of them
    gpu = "{gpu: 0, device: H100-64GB, max_loras: 2, max_lora_rank: 8, adapters: [base, a-1, a-2]}"
    (tmp_path / "p.yaml").write_text(f"gpus: [{gpu}]\n")
    _, text, _ = lorapack("validate", tmp_path / "s.yaml", tmp_path / "p.yaml", "-q")
    (row,) = [line for line in text.splitlines() if line.split()[:1] == ["0"]]
    assert row.split()[:6] == ["0", "2", "+", "base", "2", "8"]


def test_simulate_says_where_no_request_came(lorapack: Lorapack, files: tuple[Path, Path]) -> None:
    rare = "adapters=[{name: a, rank: 8, rate: 1e-9}]"
    _, text, _ = lorapack("simulate", files[0], "-q", "--set", rare)
    assert "requests       0 in 600 s, 0 completed" in text
    assert "served share   no request came" in text


def test_simulate_refuses_a_rank_that_does_not_suffice(lorapack: Lorapack, files: tuple[Path, Path]) -> None:
    code, text, error = lorapack("simulate", files[0], "--max-lora-rank", 8)
    assert (code, text) == (2, "")
    assert 'max_lora_rank 8 is too small for "fast-1" (rank 16)' in error


def test_simulate_in_python_has_the_defaults_of_the_command(
    lorapack: Lorapack, files: tuple[Path, Path]
) -> None:
    scenario = scenarios.read(files[0])
    load = twin.GPULoad.from_classes(scenario.classes)
    profile = twin.profiles_of(scenario)["H100-64GB"]
    result = twin.simulate(load, scenario.workload, scenario.engine, profile, seed=scenario.seed)
    _, text, _ = lorapack("simulate", files[0], "--json", "-", "-q")
    assert json.loads(text) == result.to_dict()
    assert (result.max_loras, result.max_lora_rank) == (8, 16)
    assert repr(result).startswith("<SimulationResult: 8 in 8 slots, ")
    assert str(result) == result.summary()


# --- replay ------------------------------------------------------------------------------------------


def test_replay_says_whether_schedules_agree(lorapack: Lorapack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, error = lorapack("replay", SCHEDULE, "--out", out, "-q")
    assert (code, error) == (0, "")
    assert text.startswith(f"{SCHEDULE}: ")
    assert text.endswith(f" steps, agrees with the recorded schedule; {out / 'kv_01.json'}\n")
    document = json.loads((out / "kv_01.json").read_text())
    document["result"]["preemptions"][0] += 1
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    code, text, _ = lorapack("replay", SCHEDULE, changed, "--out", out)
    assert code == 1
    first, second = text.splitlines()
    assert "agrees" in first
    assert "DIFFERS from the recorded schedule: request 1 has preemptions 1, the twin 0" in second


def test_replay_speaks_of_a_file_that_is_no_schedule_in_our_words(lorapack: Lorapack, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"gpus": []}')
    code, text, error = lorapack("replay", path, "--out", tmp_path / "out")
    assert (code, text) == (2, "")
    assert "requests is missing; add it (Arrival in seconds, prompt tokens" in error
    assert "Field required" not in error


# --- files of measurements ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file does not exist; check its name and folder"),
        (b"", "the file is empty; give a table with the columns run_id, model, "),
        (b"a,b\n1,2\n1,2,3\n", "the file is no CSV: line 3 has 3 cells, the lines before it 2; give"),
        (b"a\xff,b\n1,2\n", "the file is no text in UTF-8; give a table"),
    ],
)
def test_no_words_of_libraries_on_tables(
    content: bytes | None, said: str, lorapack: Lorapack, tmp_path: Path
) -> None:
    runs = tmp_path / "serving_runs.csv"
    if content is not None:
        runs.write_bytes(content)
    code, _, error = lorapack("fidelity", runs, "--out", tmp_path / "out.csv")
    assert code == 2
    assert said in error
    for raw in ("Errno", "tokenizing", "C error", "codec"):
        assert raw not in error


def test_calibrate_without_a_folder(lorapack: Lorapack, tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "no", "does not exist"), (Path(__file__), "is a file")):
        code, _, error = lorapack("calibrate", folder, "--model", "m", "--out", tmp_path / "p.json")
        assert code == 2
        assert f"the folder {said}; name a folder with measurement.yaml and tables" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file does not exist"),
        (b"{", "the file is not valid JSON"),
        (b'{"name": 1}', "model is missing; add it (Base model"),
    ],
)
def test_a_profile_that_is_none(
    content: bytes | None, said: str, lorapack: Lorapack, tmp_path: Path, measured_tables: ModuleType
) -> None:
    measured_tables.write_tables(tmp_path)
    profile = tmp_path / "profile.json"
    if content is not None:
        profile.write_bytes(content)
    runs, out = tmp_path / "serving_runs.csv", tmp_path / "out.csv"
    code, _, error = lorapack("fidelity", runs, "--profile", profile, "--out", out)
    assert code == 2
    assert said in error
    assert "Errno" not in error
    assert "Field required" not in error


def test_fidelity_reads_the_parameters_of_calibrate(
    lorapack: Lorapack, tmp_path: Path, measured_tables: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_tables.write_tables(tmp_path)
    params = tmp_path / "params.toml"
    params.write_text("[fit]\nsaturated_weight = 0.6\n[fidelity]\nmax_replications = 2\n")
    asked: list[object] = []

    def stop(*_: object, **given: object) -> None:
        asked.append(given["params"])
        raise scenarios.ScenarioError([scenarios.Problem("it", "is enough")])

    monkeypatch.setattr(twin, "fidelity", stop)
    runs = tmp_path / "serving_runs.csv"
    code, _, _ = lorapack("fidelity", runs, "--params", params, "--out", tmp_path / "out.csv")
    assert code == 2
    assert asked == [twin.FidelityParams(max_replications=2)]


# --- progress ----------------------------------------------------------------------------------------


def steps_of(calls: list[tuple[str, int, int]]) -> None:
    """Every step of known size begins with nothing done, and ends when all is."""
    for label in {label for label, *_ in calls}:
        counts = [(done, total) for name, done, total in calls if name == label]
        assert counts[0][0] == 0, label
        assert counts[-1][0] == counts[-1][1], label
        assert counts == sorted(counts), label


def test_validate_tells_progress(files: tuple[Path, Path]) -> None:
    calls: list[tuple[str, int, int]] = []
    scenario, placement = scenarios.read(files[0]), scenarios.read_placement(files[1])
    twin.validate(scenario, placement, progress=lambda *call: calls.append(call))
    assert [done for _, done, _ in calls] == [0, 1]
    steps_of(calls)


def test_replay_and_fidelity_tell_progress(tmp_path: Path, measured_tables: ModuleType) -> None:
    calls: list[tuple[str, int, int]] = []
    twin.replay_files([SCHEDULE], tmp_path / "out", progress=lambda *call: calls.append(call))
    measured_tables.write_tables(tmp_path)
    twin.fidelity(tmp_path / "serving_runs.csv", progress=lambda *call: calls.append(call))
    assert len({label for label, *_ in calls}) == 2
    steps_of(calls)
