"""Measuring a live server: what it is sent, what is kept, limits, and going on."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
import yaml

from scenarios import EngineConfig
from scenarios.stopping import interrupts
from tests.live_server import LiveServer
from twin.live import ServerAnswers, ServerError
from twin.measured.measurement import read_measurement
from twin.measuring import About, FolderError, MeasureParams, Subject, SubjectError, ask_subject, measure
from twin.measuring.stages import stages, token_costs
from twin.measuring.subject import MeasuredAdapter, subject_of

QUICK = MeasureParams(
    batch_s=0.05,
    watch_s=0.2,
    load_factors=(0.4, 1.2),
    run_requests=20,
    batch_sizes=2,
    prompt_tokens=30,
    output_tokens=20,
)


def subject(url: str = "http://127.0.0.1:1", **engine: object) -> Subject:
    values = {"max_num_seqs": 8, "max_num_batched_tokens": 256, "max_model_len": 1024, "max_loras": 2}
    values |= {"max_lora_rank": 16, "max_cpu_loras": 4, **engine}
    return Subject(
        url=url,
        base="base",
        model="llama-3.1-8b-instruct",
        device="H100-80GB",
        gpu_memory_gib=79.0,
        engine_version="0.32.0",
        engine=EngineConfig(**values),
        kv_cache_tokens=65_536,
        adapters=tuple(MeasuredAdapter(name=f"a{k}", rank=8 * (1 + k % 2)) for k in range(6)),
    )


@pytest.fixture
def server():
    with LiveServer(
        adapters=tuple(f"a{k}" for k in range(6)), step_s=0.0005, max_num_seqs=8
    ).serving() as one:
        yield one


def test_a_measurement_leaves_the_tables_that_a_calibration_reads(server, tmp_path):
    found = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK)
    assert not found.stopped
    kinds = [one.kind for one in found.outcomes]
    assert list(dict.fromkeys(kinds)) == ["warm", "alone", "prefill", "batch", "cold", "run"]
    assert read_measurement(tmp_path / "m").engine.max_loras == 2
    probes = pd.read_csv(tmp_path / "m" / "probes.csv")
    assert set(probes["n_adapters"]) <= {0, 1, 2}
    assert (probes["step_ms"] > 0.1).all()
    assert probes[probes["decodes"] == 0]["batched_tokens"].max() >= 30
    loads = pd.read_csv(tmp_path / "m" / "adapter_loads.csv")
    assert loads["adapter_rank"].tolist() == [8, 16]
    runs = pd.read_csv(tmp_path / "m" / "serving_runs.csv")
    assert len(runs) == 2
    assert runs["tpot_mean_ms"].between(0.3, 100).all()
    for run in runs.itertuples():
        sent = pd.read_csv(tmp_path / "m" / run.requests_file)
        assert run.arrivals_est == len(sent)
        assert sent["arrival_s"].is_monotonic_increasing
        assert (sent["follows"] == -1).all()
    assert "run_1" in found.summary()


def test_lanes_follow_one_another_and_share_adapters_evenly():
    every = {stage.name: stage for stage in stages(subject(), {}, QUICK, 60, 0)}
    batch = every["batch_8_2"].requests
    assert (batch.follows[:8] == -1).all()
    assert batch.follows[8:].tolist() == list(range(len(batch) - 8))
    assert np.bincount(batch.adapter).tolist() == [len(batch) // 2] * 2
    assert every["alone_base"].requests.adapter.tolist() == [6] * 8
    assert every["cold_slot"].requests.adapter.max() == 3
    assert every["cold_disk"].requests.adapter.max() == 5


def test_nothing_is_cold_where_every_adapter_has_a_slot():
    names = [one.name for one in stages(subject(max_loras=6, max_cpu_loras=6), {}, QUICK, 60, 0)]
    assert not [name for name in names if name.startswith("cold")]


def test_the_same_seed_sends_the_same_and_another_seed_does_not():
    first, same, other = (list(stages(subject(), {}, QUICK, 60, seed)) for seed in (0, 0, 1))
    for a, b, c in zip(first, same, other, strict=True):
        assert np.array_equal(a.requests.arrival_s, b.requests.arrival_s)
        assert a.kind != "run" or not np.array_equal(a.requests.arrival_s, c.requests.arrival_s)


def test_no_request_is_longer_than_the_engine_takes():
    for stage in stages(subject(max_model_len=64), {}, MeasureParams(), 900, 0):
        requests = stage.requests
        assert (requests.prompt_tokens + requests.output_tokens <= 64).all()
        assert min(requests.prompt_tokens.min(), requests.output_tokens.min()) >= 1


def test_a_run_is_as_heavy_as_the_batches_say():
    sent = {one.name: one for one in stages(subject(), {}, MeasureParams(load_factors=(0.5, 1.0)), 900, 0)}
    half, whole = (len(sent[name].requests) for name in ("run_0", "run_1"))
    assert whole == pytest.approx(2 * half, rel=0.01)
    assert token_costs({})[1] == 0.02


def test_what_was_broken_off_goes_on(server, tmp_path):
    told = []

    def progress(label: str, _done: int, _total: int) -> None:
        told.append(label)
        if label == "prefill_64":
            interrupts.request()

    first = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK, progress=progress)
    assert first.stopped == "interrupted"
    assert [one.name for one in first.outcomes][-1].startswith("prefill")
    sent = len(server.bodies)
    told.clear()
    again = measure(
        subject(server.url),
        tmp_path / "m",
        total_s=0.5,
        params=QUICK,
        progress=lambda *one: told.append(one[0]),
    )
    assert not again.stopped
    assert "warm" not in told
    assert again.outcomes[: len(first.outcomes)] == first.outcomes
    assert len(server.bodies) > sent


def test_a_stage_whose_file_is_damaged_is_repeated(server, tmp_path):
    folder = tmp_path / "m"
    before = measure(subject(server.url), folder, total_s=0.5, params=QUICK)
    (folder / "requests" / "alone.csv.gz").write_bytes(b"\x1f\x8bnothing")
    told = []
    measure(subject(server.url), folder, total_s=0.5, params=QUICK, progress=lambda *one: told.append(one[0]))
    assert set(told) == {"alone"}
    assert len(before.outcomes) == len(list((folder / "stages").glob("*.json")))


def test_a_folder_of_something_else_is_left_alone(server, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match="not empty"):
        measure(subject(server.url), tmp_path, params=QUICK)
    measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK)
    with pytest.raises(FolderError, match="planned otherwise"):
        measure(subject(server.url, max_num_seqs=9), tmp_path / "m", total_s=0.5, params=QUICK)


def test_a_server_that_fails_ends_it_and_says_why(server, tmp_path):
    server.fault = lambda number, _body: "500" if number > 60 else None
    found = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK)
    assert "on demand" in found.stopped
    assert found.outcomes
    server.fault = lambda _number, _body: None
    assert not measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK).stopped


def test_a_limit_of_requests_is_kept(server, tmp_path):
    few = QUICK.model_copy(update={"max_requests": 40})
    found = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=few)
    assert "40 requests" in found.stopped
    assert len(server.bodies) <= 40


def about(tmp_path, **flags: object) -> list:
    script = tmp_path / "start.sh"
    modules = []
    for k in range(6):
        folder = tmp_path / "adapters" / f"a{k}"
        folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 8 * (1 + k % 2), "base_model_name_or_path": "base"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        modules.append(f"a{k}={folder}")
    words = ["vllm", "serve", "base", "--served-model-name", "base", "--enable-lora", "--max-loras", "2"]
    for flag, value in flags.items():
        words += [f"--{flag.replace('_', '-')}", str(value)]
    script.write_text(shlex.join([*words, "--lora-modules", *modules]) + "\n")
    return [script, tmp_path / "adapters"]


def told(**more: object) -> ServerAnswers:
    values = {"url": "http://127.0.0.1:1", "base": ("base",), "adapters": tuple(f"a{k}" for k in range(6))}
    values |= {"version": "0.32.0", "max_model_len": 2048, "kv_cache_tokens": 4096, "block_size": 16}
    return ServerAnswers(**{**values, **more})


def test_what_a_server_does_not_tell_comes_from_its_files(tmp_path):
    files = about(tmp_path, max_num_seqs=32, max_lora_rank=16, max_cpu_loras=6)
    found = subject_of(told(), About(files, "llama-3.1-8b-instruct", device="H100-80GB"))
    assert [one.rank for one in found.adapters] == [8, 16] * 3
    assert (found.max_loras, found.max_lora_rank, found.max_cpu_loras) == (2, 16, 6)
    assert found.engine.max_num_seqs == 32
    assert found.engine.max_model_len == 2048
    assert found.origins["max_num_batched_tokens"] == "vLLM's default"
    assert found.origins["max_model_len"] == "the server"
    assert found.names[-1] == "base"
    changed = subject_of(
        told(),
        About(files, "llama-3.1-8b-instruct", device="H100-80GB", overrides=["engine.max_num_seqs=4"]),
    )
    assert changed.engine.max_num_seqs == 4


def test_all_that_is_missing_is_told_at_once():
    with pytest.raises(SubjectError) as error:
        subject_of(told(version=None, kv_cache_tokens=None, base=("mystery",)), About())
    text = str(error.value)
    for word in ("mystery", "--device", "/version", "cache_config_info", "max_loras", "ranks of a0"):
        assert word in text


def test_a_rank_above_the_slots_is_no_server_that_runs(tmp_path):
    files = about(tmp_path, max_lora_rank=8)
    with pytest.raises(SubjectError, match="below rank 16"):
        subject_of(told(), About(files, "llama-3.1-8b-instruct", device="H100-80GB"))


def test_another_gpu_needs_its_memory(tmp_path):
    files = about(tmp_path)
    with pytest.raises(SubjectError, match="gpu-memory-gib"):
        subject_of(told(), About(files, "llama-3.1-8b-instruct", device="CPU"))
    found = subject_of(told(), About(files, "llama-3.1-8b-instruct", device="CPU", gpu_memory_gib=12))
    assert found.gpu_memory_gib == 12


def test_no_adapters_is_nothing_to_measure():
    with pytest.raises(SubjectError, match="lists no adapter"):
        subject_of(told(adapters=()), About(model="llama-3.1-8b-instruct", device="H100-80GB"))


def test_the_whole_from_an_address(server, tmp_path):
    files = about(tmp_path, max_num_seqs=8, max_lora_rank=16)
    asked = ask_subject(server.url, About(files, "llama-3.1-8b-instruct", device="H100-80GB"))
    assert not server.bodies
    found = measure(asked, tmp_path / "m", total_s=0.5, params=QUICK)
    assert found.subject.kv_cache_tokens == 8192 * 16
    assert yaml.safe_load((tmp_path / "m" / "measurement.yaml").read_text())["device"] == "H100-80GB"


def test_a_server_that_moved_is_measured_where_it_is_now(server, tmp_path):
    server.fault = lambda number, _body: "500" if number > 60 else None
    first = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK)
    sent = len(server.bodies)
    with LiveServer(adapters=server.adapters, step_s=0.0005, max_num_seqs=8).serving() as moved:
        again = measure(subject(moved.url), tmp_path / "m", total_s=0.5, params=QUICK)
        assert len(moved.bodies) > 10
    assert first.stopped
    assert not again.stopped
    assert len(server.bodies) == sent


def test_no_server_there():
    with pytest.raises(ServerError, match="no connection"):
        ask_subject("http://127.0.0.1:9", About())


@pytest.mark.slow
def test_tokens_that_come_together_tell_no_step(server, tmp_path):
    server.bunch = True
    found = measure(subject(server.url), tmp_path / "m", total_s=0.5, params=QUICK)
    assert all(one.bunched > 0.9 for one in found.outcomes if one.kind == "batch")
    assert "came together" in found.summary()
    probes = pd.read_csv(tmp_path / "m" / "probes.csv")
    assert not probes["decodes"].any()
