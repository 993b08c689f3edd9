"""Results of ``vllm bench serve``: read, replayed, compared; what they do not say is asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import twin
from scenarios import ScenarioError
from tests.slow import slow
from twin.engine.run import UnservableRequestError
from twin.measured.bench_runs import BenchEngine, BenchRun, bench_runs
from twin.measured.bench_serve import read_bench_results
from twin.measured.predict import predict
from twin.measured.replayed import run_requests, run_setup
from twin.measured.sources import is_table, read_sources

DATA = Path(__file__).parent / "data" / "bench_serve"
SUMMARY, DETAILED = DATA / "summary.json", DATA / "detailed.json"
LLAMA = "llama-3.1-8b-instruct"
ENGINE = BenchEngine(model=LLAMA, max_loras=8, adapters=16, ranks=(8, 16), max_num_seqs=64)


def changed(folder: Path, source: Path = DETAILED, drop: tuple[str, ...] = (), **values: Any) -> Path:
    """A copy of a result with other values, or without some."""
    result = json.loads(source.read_text()) | values
    path = folder / "result.json"
    path.write_text(json.dumps({name: value for name, value in result.items() if name not in drop}))
    return path


# --- the file ----------------------------------------------------------------------------------------


def test_a_result_without_details_is_read() -> None:
    (result,) = read_bench_results(SUMMARY)
    assert (result.model_id, result.completed, result.duration) == (
        "meta-llama/Llama-3.2-3B-Instruct",
        100,
        12.4,
    )
    assert (result.ttft_ms, result.tpot_ms, result.itl_ms) == (54.6, 13.6, 13.5)
    assert not result.detailed
    assert result.sent_s() == ()


def test_a_detailed_result_tells_when_each_request_came() -> None:
    (result,) = read_bench_results(DETAILED)
    came = result.sent_s()
    assert len(came) == 80
    assert 0 <= min(came) < 0.5
    # The last answer comes at the end of the benchmark.
    raw = json.loads(DETAILED.read_text())
    ends = [at + latency for at, latency in zip(came, raw["latencies"], strict=True)]
    assert max(ends) == pytest.approx(result.duration, abs=0.1)


def test_means_that_were_not_saved_are_those_of_the_lists(tmp_path: Path) -> None:
    (whole,) = read_bench_results(DETAILED)
    names = ("mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms")
    (bare,) = read_bench_results(changed(tmp_path, drop=names))
    for name in ("ttft_ms", "tpot_ms", "itl_ms"):
        assert getattr(bare, name) == pytest.approx(getattr(whole, name), rel=1e-4)


def test_requests_that_failed_are_left_out(tmp_path: Path) -> None:
    raw = json.loads(DETAILED.read_text())
    raw["output_lens"][3], raw["itls"][3], raw["ttfts"][3] = 0, [], 0.0
    path = changed(tmp_path, completed=79, failed=1, **{k: raw[k] for k in ("output_lens", "itls", "ttfts")})
    (result,) = read_bench_results(path)
    assert len(result.sent_s()) == 79
    (run,) = bench_runs([path], ENGINE)
    assert (run.completed, len(run.prompt_lens), run.arrivals) == (79, 79, 79)


def test_all_at_once_and_several_results_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "appended.json"
    first = json.loads(SUMMARY.read_text()) | {"request_rate": "inf", "max_concurrency": 4}
    path.write_text(json.dumps(first) + "\n" + SUMMARY.read_text())
    one, other = bench_runs([path], ENGINE)
    assert (one.run_id, other.run_id) == (f"{path}#1", f"{path}#2")
    profile = twin.find_profile(LLAMA, None)
    assert not run_requests(one, profile).arrival_s.any()
    assert one.max_open_requests == 4
    assert one.request_rate is None
    assert other.request_rate == 10


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty; name a file that `vllm bench serve --save-result` wrote"),
        ('{"duration": 12.4, "comp', "the file is not valid JSON"),
        ("[1, 2]", "the file is no result of `vllm bench serve`"),
        (
            '{"elapsed_time": 3.1, "num_requests": 10}',
            "it has no duration, completed, total_input_tokens and total_output_tokens",
        ),
        ('{"duration": 1, "completed": 2, "total_input_tokens": 3}', "of a benchmark that generates nothing"),
        (
            '{"duration": 1, "completed": 0, "total_input_tokens": 0, "total_output_tokens": 0}',
            "completed is 0: every request failed",
        ),
        (
            '{"duration": -1, "completed": 2, "total_input_tokens": 3, "total_output_tokens": 4}',
            "duration is -1; give a number above 0",
        ),
        (
            '{"duration": 1, "completed": 2, "total_input_tokens": 3, "total_output_tokens": 4, '
            '"mean_ttft_ms": "fast"}',
            'mean_ttft_ms is the text "fast"; give a number',
        ),
    ],
)
def test_a_file_that_is_none_ends_in_one_clear_error(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ScenarioError) as caught:
        read_bench_results(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ttfts": [0.1]}, "ttfts has 1 requests, output_lens 80"),
        ({"completed": 70}, "completed is 70, but output_lens holds 80 answers"),
        ({"ramp_up_strategy": "linear", "start_times": None}, 'ramp_up_strategy is "linear"'),
    ],
)
def test_lists_that_contradict_each_other_are_refused(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ScenarioError, match=said):
        read_bench_results(changed(tmp_path, **values))


def test_tables_and_results_are_told_apart_by_name_or_content(tmp_path: Path) -> None:
    for name, content, table in (
        ("runs.csv.gz", "", True),
        ("result.json", "", False),
        ("result.out", '  {"duration": 1}', False),
        ("runs.txt", "run_id,model", True),
    ):
        (tmp_path / name).write_text(content)
        assert is_table(tmp_path / name) is table
    assert is_table(tmp_path / "absent")


# --- what it does not say ----------------------------------------------------------------------------


def test_all_that_is_missing_is_named_in_one_message() -> None:
    with pytest.raises(ScenarioError) as caught:
        bench_runs([SUMMARY], BenchEngine())
    assert [problem.path for problem in caught.value.problems] == ["--max-loras", "--adapters", "--ranks"]


def test_an_engine_without_lora_needs_nothing_more() -> None:
    (run,) = bench_runs([SUMMARY], BenchEngine(max_loras=0))
    assert (run.max_loras, run.n_adapters, run.max_lora_rank) == (0, 0, 0)
    profile = twin.find_profile(LLAMA, None)
    said = predict(run, profile)
    with_adapters = predict(bench_runs([SUMMARY], ENGINE)[0], profile)
    assert 0 < said.predicted_itl_ms < with_adapters.predicted_itl_ms


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adapters": 0}, "--adapters is 0 with slots for adapters"),
        ({"max_lora_rank": 8}, "--ranks has 16, above --max-lora-rank 8"),
        ({"ranks": (600,)}, "--ranks has 600; vLLM's slots have 8, 16"),
        ({"max_cpu_loras": 4}, "--max-cpu-loras is 4, below --max-loras 8"),
    ],
)
def test_arguments_that_no_engine_starts_with_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        bench_runs([SUMMARY], ENGINE.model_copy(update=values))


def test_a_server_without_a_name_for_its_model_needs_one(tmp_path: Path) -> None:
    path = changed(tmp_path, SUMMARY, drop=("model_id",))
    with pytest.raises(ScenarioError, match=f"--model is missing; {path} has no model_id"):
        bench_runs([path], ENGINE.model_copy(update={"model": None}))
    assert bench_runs([path], ENGINE)[0].model == LLAMA


def test_rates_are_dealt_in_turn_and_share_the_offered_rate() -> None:
    (run,) = bench_runs([SUMMARY], ENGINE.model_copy(update={"rates": (0.1, 0.05)}))
    assert run.rate.sum() == pytest.approx(10)
    assert run.rate[0] == pytest.approx(2 * run.rate[1])
    assert run.rank.tolist() == [8, 16] * 8
    assert any("they are taken as shares of the file's" in note for note in run.assumed)
    (fitting,) = bench_runs([SUMMARY], ENGINE.model_copy(update={"rates": (10 / 16,)}))
    assert not any("shares" in note for note in fitting.assumed)


def test_the_rank_of_the_slots_is_the_least_that_holds_all_ranks() -> None:
    (run,) = bench_runs([SUMMARY], ENGINE.model_copy(update={"ranks": (8, 24)}))
    assert run.max_lora_rank == 32
    assert "max_lora_rank 32, the least that holds the ranks" in run.assumed


# --- the replay --------------------------------------------------------------------------------------


def test_a_run_is_played_to_its_last_answer_with_the_tokens_of_the_file() -> None:
    (run,) = bench_runs([DETAILED], ENGINE)
    requests = run_requests(run, twin.find_profile(LLAMA, None))
    assert int(requests.prompt_tokens.sum()) == 8024
    assert int(requests.output_tokens.sum()) == 3200
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert math.isinf(run.horizon_s)
    (short,) = bench_runs([SUMMARY], ENGINE)
    drawn = run_requests(short, twin.find_profile(LLAMA, None))
    assert (int(drawn.prompt_tokens.sum()), int(drawn.output_tokens.sum())) == (21_500, 12_800)
    # As the benchmark rescales its gaps: the last of 100 requests is sent after 10 s at 10 a second.
    assert drawn.arrival_s[-1] == pytest.approx(10)


def test_adapters_beyond_cpu_memory_are_read_from_disk_again() -> None:
    """vLLM keeps max_loras adapters in CPU memory unless it is told to keep more."""
    profile = twin.find_profile(LLAMA, None)
    (few,) = bench_runs([SUMMARY], ENGINE)
    (all_,) = bench_runs([SUMMARY], ENGINE.model_copy(update={"max_cpu_loras": 16}))
    fixed = {"kv_cache_tokens": 200_000}
    setups = [run_setup(run.model_copy(update=fixed), profile) for run in (few, all_)]
    assert [setup.max_cpu_loras for setup in setups] == [8, 16]
    slow, fast = (predict(run, profile) for run in (few, all_))
    assert slow.predicted_ttft_ms > fast.predicted_ttft_ms


def made_by_the_twin(folder: Path) -> Path:
    """A detailed result whose figures are the twin's own."""
    (run,) = bench_runs([DETAILED], ENGINE)
    said = predict(run, twin.find_profile(LLAMA, None))
    tokens = 8024 + 3200
    values: dict[str, Any] = {
        "duration": tokens / said.predicted_total_throughput,
        "mean_ttft_ms": said.predicted_ttft_ms,
        "mean_tpot_ms": said.predicted_tpot_ms,
        "mean_itl_ms": said.predicted_itl_ms,
    }
    return changed(folder, **values)


@pytest.mark.parametrize("workers", [1, *slow([2])])
def test_what_the_twin_made_itself_is_foretold(tmp_path: Path, workers: int) -> None:
    report = twin.bench_fidelity([made_by_the_twin(tmp_path)], ENGINE)
    assert report.table()["error %"].abs().max() < 1
    again = twin.bench_fidelity([made_by_the_twin(tmp_path)], ENGINE, workers=workers)
    assert report.to_json() == again.to_json()


def test_a_result_beside_the_twin_as_text_and_as_json(tmp_path: Path) -> None:
    report = twin.bench_fidelity([SUMMARY, DETAILED], ENGINE)
    assert repr(report) == "<BenchFidelity: 2 runs>"
    text = str(report)
    for word in (str(SUMMARY), "throughput tok/s", "TTFT ms", "TPOT ms", "ITL ms", "--save-detailed"):
        assert word in text
    values = json.loads(report.to_json())
    first = values["results"][0]
    assert first["figures"]["itl_mean_ms"]["measured"] == 13.5
    assert first["figures"]["itl_mean_ms"]["twin"] > 0
    out = tmp_path / "out.csv"
    report.write_predictions(out)
    assert "predicted_starved" not in out.read_text()


def test_an_engine_that_does_not_start_says_so_and_has_no_figures() -> None:
    big = ENGINE.model_copy(update={"max_loras": 384, "adapters": 384, "max_lora_rank": 64})
    report = twin.bench_fidelity([SUMMARY], big)
    assert report.table()["twin"].isna().all()
    assert "does not start by the profile's memory" in report.summary()
    assert json.loads(report.to_json())["results"][0]["figures"]["itl_mean_ms"]["twin"] is None
    # The server did start: its log tells the KV cache.
    told = twin.bench_fidelity([SUMMARY], big.model_copy(update={"kv_cache_tokens": 100_000}))
    assert told.table()["twin"].notna().all()


def test_a_request_that_no_cache_holds_is_named() -> None:
    with pytest.raises(UnservableRequestError, match=r"summary\.json: request"):
        twin.bench_fidelity([SUMMARY], ENGINE.model_copy(update={"kv_cache_tokens": 64}))


def test_sources_of_both_kinds_are_read_in_their_order(tmp_path: Path, measured_tables: ModuleType) -> None:
    table = tmp_path / "runs.csv"
    measured_tables.run_rows().to_csv(table, index=False)
    runs = read_sources([table, SUMMARY], LLAMA, ENGINE)
    assert len(runs) == 11
    assert {run.model for run in runs} == {LLAMA}
    with pytest.raises(ScenarioError, match='has no run of model "other"; its models are llama'):
        read_sources([table], "other")


def test_runs_are_frozen_and_copied_whole() -> None:
    (run,) = bench_runs([DETAILED], ENGINE)
    copy = run.model_copy(update={"kv_cache_tokens": 1000})
    assert isinstance(copy, BenchRun)
    assert copy.sent_s == run.sent_s
    assert BenchRun.model_validate(run.model_dump()) == run
