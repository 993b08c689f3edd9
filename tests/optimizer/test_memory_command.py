"""``lorapack memory``: one GPU, all of them, a log of one's own, and what is asked wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import scenarios

Lorapack = Callable[..., tuple[int, str, str]]
LLAMA = ("memory", "--model", "Llama-3.1-8B-Instruct")
NAMES = (
    "starts",
    "failure",
    "kv_cache_tokens",
    "weights_gib",
    "slots_gib",
    "activation_gib",
    "graph_gib",
    "other_gib",
    "largest_max_loras",
    "largest_max_model_len",
    "max_concurrency",
)


def test_one_gpu_is_answered(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text, said = lorapack(*LLAMA, "--device", "a100 80gb", "--max-loras", "32")
    assert (code, said) == (0, "")
    assert "Llama-3.1-8B-Instruct on A100-80GB (79.15 GiB), vLLM 0.32.0, 32 slots of rank 16" in text
    assert "starts     yes" in text
    assert "how sure   derived" in text
    assert "vLLM's defaults, as nothing else was given: max_num_seqs 256" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_hosts_memory_is_told(lorapack: Lorapack) -> None:
    given = (*LLAMA, "--device", "H200", "--max-loras", "8", "--set", "engine.max_cpu_loras=400")
    assert "GiB of the host's memory, for 400 adapters" in lorapack(*given)[1]
    assert "of 16 GiB of the host's memory, for 400 adapters (max_cpu_loras): too much" in " ".join(
        lorapack(*given, "--host-memory-gib", "16")[1].split()
    )


def test_what_does_not_start_says_what_repairs_it(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("memory", "--model", "Qwen2.5-32B-Instruct", "--device", "L4")
    assert code == 3
    assert "no: the engine needs more memory than the GPU has" in text
    assert "raise tensor_parallel_size from 1 to" in text


def test_json_has_the_parts_by_their_names(lorapack: Lorapack, tmp_path: Path) -> None:
    code, text, _ = lorapack(*LLAMA, "--device", "L40S", "--max-loras", "0", "--json", "-")
    assert code == 0
    answer = json.loads(text)
    assert set(NAMES) <= set(answer)
    assert answer["slots_gib"] == 0
    assert answer["largest_max_loras"] is None
    file = tmp_path / "memory.json"
    code, _, _ = lorapack(*LLAMA, "--gpu-memory-gib", "10", "--json", str(file))
    assert code == 3
    refused = json.loads(file.read_text())
    assert (refused["starts"], refused["failure"], refused["device"]) == (False, "oom_cuda", None)
    assert refused["remedies"]


@pytest.mark.slow
def test_without_a_device_the_whole_catalogue_is_answered(
    lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = lorapack(*LLAMA, "--set", "engine.max_model_len=8192")
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    assert {gpu.name for gpu in scenarios.gpus()} <= {words[0] for words in lines if words}
    assert max(map(len, text.splitlines())) <= 80
    code, text, _ = lorapack(*LLAMA, "--set", "engine.max_model_len=8192", "--json", "-")
    assert set(json.loads(text)[0]["largest_max_loras_by_rank"]) == {"8", "16", "32", "64", "128"}


def test_a_log_of_ones_own_is_taken(lorapack: Lorapack, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "INFO 08-01 10:00:00 [core.py:71] Initializing a V1 LLM engine (v0.10.0) with config: "
        "model='meta-llama/Llama-3.1-8B-Instruct', dtype=torch.bfloat16, max_seq_len=8192, "
        "tensor_parallel_size=1, pipeline_parallel_size=1, enforce_eager=False, kv_cache_dtype=auto\n"
        "INFO 08-01 10:00:09 [gpu_model_runner.py:1892] Model loading took 14.9889 GiB and 5 seconds\n"
        "INFO 08-01 10:00:39 [gpu_worker.py:255] Available KV cache memory: 4.20 GiB\n"
        "INFO 08-01 10:00:39 [kv_cache_utils.py:833] GPU KV cache size: 34,400 tokens\n"
        "INFO 08-01 10:00:59 [gpu_model_runner.py:2485] Graph capturing finished in 20 secs, took 0.52 GiB\n"
    )
    given = ("--device", "RTX-4090", "--startup-log", str(log))
    code, text, _ = lorapack(*LLAMA, *given, "--json", "-")
    answer = json.loads(text)
    assert code == 0
    assert answer["basis"] == "from your log"
    assert answer["engine_version"] == "0.10.0"
    assert answer["kv_cache_tokens"] == pytest.approx(34_400, rel=0.002)
    assert answer["graph_gib"] == pytest.approx(0.52, abs=0.01)


def test_the_memory_is_drawn(lorapack: Lorapack, tmp_path: Path) -> None:
    for ending in ("png", "svg"):
        picture = tmp_path / f"memory.{ending}"
        code, _, _ = lorapack(*LLAMA, "--device", "L4", "--plot", str(picture))
        assert code == 3  # 131,072 tokens do not fit
        assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--device", "A200"), 'GPU "A200" is not known; did you mean "H200"?'),
        (("--device", "L4", "--engine-version", "newest"), 'engine_version is "newest"'),
        (("--device", "L4", "--set", "engine.max_modellen=3"), 'did you mean "max_model_len"?'),
        (("--device", "L4", "--set", "engine.max_model_len=x"), 'max_model_len is the text "x"'),
        (("--device", "L4", "--set", "max_model_len=3"), "is none of engine.KEY=VALUE"),
        (("--device", "L4", "--set", "engine.max_loras=3"), "has a flag of its own"),
        (("--device", "L4", "--plot", "memory.txt"), "its ending names no format"),
        (("--startup-log", "nothing.log"), "nothing.log"),
        (("--device", "L4", "--set", "engine.tensor_parallel_size=3"), "choose a divisor of both"),
        (("--device", "L4", "--set", "engine.max_model_len=true"), "max_model_len is true, not a number"),
        (("--device", "L4", "--set", "engine.lora_target_modules=[nosuch]"), "none of which is a module"),
        (("--device", "L4", "--max-lora-rank", "24"), "an adapter of rank 24 needs 32"),
        (("--device", "L4", "--max-lora-rank", "1024"), "takes 1, 8, 16, 32, 64, 128, 256, 320 or 512"),
        (("--device", "L4", "--max-loras", "100000000"), "max_loras is 100,000,000"),
        (("--device", "L4", "--engine-version", ""), 'engine_version is ""'),
        (("--gpu-memory-gib", "inf"), "gpu_memory_gib is inf; give GiB above 0"),
        (("--gpu-memory-gib", "1e30"), "gpu_memory_gib is 1e+30"),
    ],
)
def test_what_is_asked_wrongly_ends_with_one_message(
    lorapack: Lorapack, given: tuple[str, ...], told: str
) -> None:
    code, text, said = lorapack(*LLAMA, *given)
    assert (code, text) == (2, "")
    assert told in " ".join(said.split())
    assert "Traceback" not in said


def test_an_unknown_model_is_told_with_those_that_are_near(lorapack: Lorapack) -> None:
    code, _, said = lorapack("memory", "--model", "Llama-9-1B", "--device", "L4")
    assert code == 2
    assert "no shipped model is called" in said


@pytest.mark.parametrize("name", ["", "   ", "a" * 5000, "Llama\x00-9-8B", "/nosuch/config.json"])
def test_what_can_be_no_name_of_a_model_is_told_shortly(lorapack: Lorapack, name: str) -> None:
    code, text, said = lorapack("memory", "--model", name, "--device", "L4")
    assert (code, text) == (2, "")
    assert "no shipped model is called" in said
    assert len(said) < 400


def test_a_log_of_another_model_is_refused(lorapack: Lorapack, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "INFO 07-20 10:00:00 [api_server.py:1395] vLLM API server version 0.10.0\n"
        "INFO 07-20 10:00:01 [utils.py:326] non-default args: {'model': 'Qwen/Qwen3-8B'}\n"
        "INFO 07-20 10:00:10 [gpu_model_runner.py:1801] Model loading took 15.2683 GiB and 5.1 seconds\n"
    )
    code, _, said = lorapack(*LLAMA, "--device", "L4", "--startup-log", str(log))
    assert code == 2
    assert "the log is of Qwen/Qwen3-8B, not of Llama-3.1-8B-Instruct" in said
    code, text, _ = lorapack(
        "memory", "--model", "Qwen3-8B", "--device", "A100-80GB", "--startup-log", str(log)
    )
    assert code == 0
    assert "the log tells no KV cache" in " ".join(text.split())


def test_scenarios_of_other_gpus_are_answered_as_far_as_memory_goes(
    lorapack: Lorapack, tmp_path: Path
) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(
        "name: a100\nmodel: llama-3.1-8b-instruct\nadapters: [{name: a, count: 40, rank: 16, rate: 0.08}]\n"
        "workload: {prompt: 1200, output: 250}\ndevices: [{name: A100-80GB, count: 2}]\n"
        "engine: {max_model_len: 8192, max_loras: 8}\n"
    )
    for command in (("scenarios", "check"), ("solve",), ("compare",), ("simulate",)):
        code, text, said = lorapack(*command, str(scenario), "--measured-only")
        assert code == 2
        assert "memory on A100-80GB (79.15 GiB), vLLM 0.32.0, 8 slots of rank 16: it starts" in text
        assert "no engine profile of llama-3.1-8b-instruct is shipped" in " ".join(said.split())
