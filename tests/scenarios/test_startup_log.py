"""What logs of starting servers say, in every release's wording."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest

from scenarios import StartupLog, parse_startup_log, read_startup_log
from scenarios.importers.startup_logs.log_wordings import FACTS, REFUSALS, compiled

FIELD = Path(__file__).parents[2].parent / "shared" / "field"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param(
            "OLDEST",
            {
                "engine_version": "0.4.2",
                "v1": False,
                "model": "meta-llama/Meta-Llama-3-70B",
                "weights_gib": 16.4606,
                "num_gpu_blocks": 1000,
                "num_cpu_blocks": 6553,
                "kv_cache_tokens": 16_000,
                "attention_backend": "FlashAttention-2",
                "graph_gib": None,
                "started": True,
                "workers": 8,
            },
            id="0.4",
        ),
        pytest.param(
            "v05_gemma2_9b_8xl4",
            {
                "v1": False,
                "weights_gib": 2.3463,
                "kv_cache_tokens": 367_712,
                "gpu_total_gib": 22.05,
                "failure": "oom_cuda",
                "failure_text": "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total "
                "capacity of "
                "22.05 GiB of which 300.12 MiB is free",
                "started": False,
                "workers": 2,
            },
            id="0.5",
        ),
        pytest.param(
            "SERVING_V0",
            {
                "engine_version": "0.6.4.post1",
                "v1": False,
                "gpu_total_gib": 23.58,
                "weights_gib": 14.9888,
                "activation_gib": 2.0712,  # the peak holds the weights too
                "non_torch_gib": 0.36,
                "graph_gib": 0.22,
                "kv_cache_gib": 3.8,
                "kv_cache_tokens": 31_232,
                "max_concurrency": 1.56,
                "concurrency_tokens": 20_000,
                "started": True,
                "workers": 1,
            },
            id="0.6.4",
        ),
        pytest.param(
            "REFUSED",
            {
                "activation_gib": 2.99,
                "non_torch_gib": 0.36,
                "weights_gib": 14.9888,
                "kv_cache_gib": 2.88,
                "kv_cache_tokens": 23_648,
                "failure": "kv_below_max_model_len",
                "failure_text": "The model's max seq len (29000) is larger than the maximum number of tokens "
                "that "
                "can be stored in KV cache (23648)",
                "started": False,
            },
            id="0.6.6",
        ),
        pytest.param(
            "v07_v1_llama31_70b_h100",
            {
                "v1": True,
                "weights_gib": 67.7229,
                "num_gpu_blocks": 1381,
                "kv_cache_tokens": 22_096,
                "num_cpu_blocks": None,
                "attention_backend": "Flash Attention",
                "max_concurrency": 10.79,
                "started": None,
            },
            id="0.7 V1",
        ),
        pytest.param(
            "v08_v0_phi4_a100",
            {
                "v1": False,
                "gpu_total_gib": 79.15,
                "weights_gib": 8.6253,
                "load_s": 12.1,
                "graph_gib": 1.12,
                "kv_cache_tokens": 237_040,
                "started": True,
            },
            id="0.8 V0",
        ),
        pytest.param(
            "TWO_WORKERS",
            {
                "v1": True,
                "gpu_total_gib": 47.4,
                "weights_gib": 30.6125,  # the most
                "load_s": 61.25,
                "compile_s": 18.15,
                "kv_cache_tokens": 82_128,  # the least
                "max_concurrency": 2.51,
                "graph_gib": 0.7,
                "failure": "oom_cuda",
                "started": False,
                "workers": 2,
            },
            id="0.8 V1",
        ),
        pytest.param(
            "SERVING",
            {
                "weights_gib": 15.2683,
                "graph_gib": 2.24,
                "kv_cache_gib": 18.69,
                "kv_cache_tokens": 136_080,
                "concurrency_tokens": 40_960,
                "started": True,
            },
            id="0.9",
        ),
        pytest.param(
            "NEWER",
            {
                "model": "https://hub.example/mistralai/Mistral-7B",
                "v1": True,
                "gpu_total_gib": 94.97,
                "free_gib": 94.4,
                "weights_gib": 13.58,
                "kv_cache_tokens": 622_464,
                "attention_backend": "FLASH_ATTN",
                "started": True,
                "workers": 1,
            },
            id="0.14",
        ),
        pytest.param(
            "v32_refused",
            {
                "engine_version": "0.32.0",
                "model": "some/model",
                "activation_gib": 1.89,
                "weights_gib": 14.99,
                "non_torch_gib": 0.25,  # consumed, without the weights
                "kv_cache_gib": 0.5,
                "failure": "kv_below_max_model_len",
                "failure_text": "To serve at least one request with the model's max seq len (131072), (16.0 "
                "GiB KV cache is needed, which is larger than the available KV cache memory (0.5 GiB). "
                "Based on the available memory, the estimated maximum model length is 4096",
                "started": False,
            },
            id="0.32",
        ),
    ],
)
def test_each_release_is_understood(logs: ModuleType, name: str, told: dict[str, object]) -> None:
    text = logs.text_of(name)
    log = logs.parsed(text)
    assert {name: getattr(log, name) for name in told} == told


def test_arguments_come_from_wherever_they_are_told(logs: ModuleType) -> None:
    assert logs.parsed(logs.OLDEST).arguments == {
        "dtype": "bfloat16",
        "tensor_parallel_size": 8,
        "block_size": 16,
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 256,
        "enforce_eager": False,
        "enable_lora": False,
        "max_loras": 1,
        "max_lora_rank": 16,
        "max_model_len": 8192,
        "kv_cache_dtype": "auto",
    }
    announced = logs.parsed(logs.TWO_WORKERS).arguments
    assert announced["max_num_batched_tokens"] == 2048
    assert announced["max_loras"] == 1  # not what an adapter is called
    given_only = logs.parsed(logs.NEWER).arguments
    assert given_only == {
        "max_model_len": 4096,  # not the draft model's
        "gpu_memory_utilization": 0.95,
        "enable_lora": True,
        "max_lora_rank": 16,
    }
    assert logs.parsed(logs.text_of("v08_v0_phi4_a100")).arguments["quantization"] == "bitsandbytes"


@pytest.mark.parametrize("name", ["OLDEST", "TWO_WORKERS", "NEWER"])
def test_no_secret_is_kept(logs: ModuleType, name: str) -> None:
    text = logs.text_of(name)
    told = logs.parsed(text).model_dump_json()
    assert "secret" not in told
    assert "sk-" not in told


def test_every_fact_says_its_line(logs: ModuleType) -> None:
    log = logs.parsed(logs.SERVING)
    lines = logs.SERVING.splitlines()
    assert "136,080" in lines[log.where["kv_cache_tokens"] - 1]
    assert "18.69" in lines[log.where["kv_cache_gib"] - 1]
    assert "max_seq_len=40960" in lines[log.where["max_model_len"] - 1]
    told = {name for name, value in logs.facts(log).items() if value is not None} - {"arguments", "workers"}
    assert log.where.keys() == told | log.arguments.keys()


def test_the_last_of_several_starts_counts(logs: ModuleType) -> None:
    restarted = logs.parsed(logs.REFUSED + logs.SERVING_V0)
    assert logs.facts(restarted) == logs.facts(logs.parsed(logs.SERVING_V0))
    first = len(logs.REFUSED.splitlines())
    assert min(restarted.where.values()) > first
    again = logs.parsed(logs.SERVING_V0 + logs.REFUSED)
    assert again.failure == "kv_below_max_model_len"
    killed = "".join(logs.SERVING.splitlines(keepends=True)[:8])  # no end, then the next
    assert logs.facts(logs.parsed(killed + logs.NEWER)) == logs.facts(logs.parsed(logs.NEWER))


def test_what_is_served_is_not_taken_for_the_start(logs: ModuleType) -> None:
    prompt = (
        "INFO 07-20 11:00:00 [logger.py:41] Received request cmpl-1: prompt: 'GPU KV "
        "cache size: 5 tokens, CUDA out of "
        "memory. Tried to allocate 1.00 GiB. vLLM API server version 9.9.9 # GPU blocks: "
        "1, # CPU blocks: 1'\n"
    )
    assert logs.parsed(logs.SERVING + prompt) == logs.parsed(logs.SERVING)


def test_an_out_of_memory_that_was_survived_is_no_failure(logs: ModuleType) -> None:
    lines = logs.SERVING.splitlines(keepends=True)
    lines.insert(
        6, "WARNING 07-20 10:00:29 [x.py:1] CUDA out of memory. Tried to allocate 2.00 GiB; trying again\n"
    )
    log = parse_startup_log(lines)
    assert (log.started, log.failure, log.failure_text) == (True, None, None)
    assert "failure" not in log.where


@pytest.mark.parametrize(
    ("line", "failure", "told"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing it", "no_kv_memory", {}),
        (
            "ValueError: To serve at least one request with the models's max seq len (4096), "
            "(1.50 GB KV cache is "
            "needed, which is larger than the available KV cache memory (0.30 GB). Try",
            "kv_below_max_model_len",
            {"kv_cache_gib": 0.3},
        ),
        (
            "ValueError: Free memory on device cuda:0 (10.5/79.19 GiB) on startup is less "
            "than desired GPU memory "
            "utilization (0.9, 71.27 GiB). Decrease GPU memory utilization",
            "no_free_memory",
            {"free_gib": 10.5, "gpu_total_gib": 79.19},
        ),
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.63 GiB "
            "(GPU 0; 44.56 GiB total "
            "capacity; 27.91 GiB already allocated; 565.31 MiB free; 27.93 GiB reserved in total by PyTorch)",
            "oom_cuda",
            {"gpu_total_gib": 44.56},
        ),
        (
            "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 3.50 GiB. GPU 0 "
            "has a total capacty of "
            "191.98 GiB of which 3.09 GiB is free.",
            "oom_cuda",
            {"gpu_total_gib": 191.98},
        ),
        (
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 "
            "dummy requests. Please try",
            "oom_cuda",
            {},
        ),
        ("Failed to load model - not enough GPU memory. Try lowering", "oom_cuda", {}),
    ],
)
def test_every_refusal_is_known(line: str, failure: str, told: dict[str, float]) -> None:
    log = parse_startup_log([f"(EngineCore pid=9) ERROR 10-22 10:00:21 [core.py:1100] {line}"])
    assert (log.failure, log.started, log.where["failure"]) == (failure, False, 1)
    assert {name: getattr(log, name) for name in told} == told
    assert log.failure_text
    assert "Error" not in log.failure_text


def test_of_two_messages_of_one_failure_the_fuller_is_quoted() -> None:
    sampler = "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests."
    torch = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 786.00 MiB."
    for lines in ([sampler, torch], [torch, sampler]):
        log = parse_startup_log(lines)
        assert log.failure_text == "CUDA out of memory. Tried to allocate 786.00 MiB"


def test_another_server_that_writes_into_the_log_ends_no_start(logs: ModuleType) -> None:
    proxy = "INFO:     Started server process [7]\nINFO:     Application startup complete.\n"
    log = logs.parsed(proxy + logs.SERVING)
    assert logs.facts(log) == logs.facts(logs.parsed(logs.SERVING))
    assert logs.parsed(proxy + logs.REFUSED).started is False
    lines = logs.SERVING.splitlines(keepends=True)
    assert logs.parsed(proxy + "".join(lines[:4])).started is None
    assert logs.parsed("".join(lines[:4]) + proxy).started is True  # at warnings only, no memory is told


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        (["# CUDA blocks: 5519, # CPU blocks: 9362"], 5519 * 16),
        (
            [
                "# cuda blocks: 5519, # CPU blocks: 0",
                "Maximum concurrency for 32768 tokens per request: 2.69x",
            ],
            5519 * 16,
        ),
        (
            [
                "# HPU blocks: 1000, # CPU blocks: 0",
                "Maximum concurrency for 32000 tokens per request: 4.00x",
            ],
            128_000,
        ),
        (["args: Namespace(block_size=32)", "# GPU blocks: 100, # CPU blocks: 0"], 3200),
        (["# GPU blocks: 0, # CPU blocks: 1024"], 0),
        (
            ["vllm cache_config_info with initialization after num_gpu_blocks is: 48867"],
            None,
        ),  # of several kinds
    ],
)
def test_tokens_follow_from_blocks_where_only_these_are_told(lines: list[str], tokens: int | None) -> None:
    assert parse_startup_log(lines).kv_cache_tokens == tokens


def test_the_oldest_engines_do_not_tell_their_release() -> None:
    log = parse_startup_log(
        [
            "INFO 08-22 15:27:08 llm_engine.py:70] Initializing an LLM engine with config: model='llama', "
            "dtype=torch.float16, tensor_parallel_size=2, seed=0)"
        ]
    )
    assert (log.model, log.v1, log.engine_version) == ("llama", False, None)
    assert log.arguments == {"dtype": "float16", "tensor_parallel_size": 2}


def test_engines_of_data_parallel_ranks_are_one_start() -> None:
    told = [
        (0, "Initializing a V1 LLM engine (v0.14.0) with config: model='m', dtype=torch.bfloat16, a=1"),
        (1, "Initializing a V1 LLM engine (v0.14.0) with config: model='m', dtype=torch.bfloat16, a=1"),
        (0, "Model loading took 13.58 GiB and 4.5 seconds"),
        (1, "Model loading took 13.6 GiB and 4.5 seconds"),
        (0, "GPU KV cache size: 1,024 tokens"),
        (1, "GPU KV cache size: 1,008 tokens"),
    ]
    log = parse_startup_log(
        f"(EngineCore_DP{k} pid={k}) INFO 01-22 10:00:30 [x.py:1] {text}" for k, text in told
    )
    assert (log.weights_gib, log.kv_cache_tokens, log.workers) == (13.6, 1008, 2)


def test_a_start_that_fails_for_another_reason_says_so(logs: ModuleType) -> None:
    text = logs.SERVING.splitlines(keepends=True)[:4]
    log = parse_startup_log([*text, "ERROR 07-20 10:00:04 [core.py:586] EngineCore failed to start.\n"])
    assert (log.started, log.failure) == (False, None)


def test_memory_below_zero_is_kept_as_it_is_said(logs: ModuleType) -> None:
    assert (
        logs.parsed(
            "INFO 07-20 10:00:30 [gpu_worker.py:232] Available KV cache memory: -2.34 GiB"
        ).kv_cache_gib
        == -2.34
    )


def test_other_backends_and_profiling_are_no_facts(logs: ModuleType) -> None:
    log = logs.parsed(
        "INFO 04-22 01:47:27 [cuda.py:400] Using backend FLASH_ATTN for vit attention\n"
        "INFO 04-22 01:47:27 [fp8.py:100] Using CUTLASS Fp8 MoE backend.\n"
        "INFO 04-22 01:47:54 [kv_cache_utils.py:829] Overriding num_gpu_blocks=0 with "
        "num_gpu_blocks_override=512\n"
        "INFO 04-22 01:47:54 [kv_cache_utils.py:1319] GPU KV cache size: 476,016 tokens\n"
    )
    assert (log.attention_backend, log.num_gpu_blocks) == (None, None)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            "Config file not found at /x/E=8,N=14336,device_name=NVIDIA_H100_80GB_HBM3.json",
            "NVIDIA H100 80GB HBM3",
        ),
        ("Your Tesla T4 GPU has compute capability 7.5. You can use float16", "Tesla T4"),
        ("GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)", "NVIDIA A100-SXM4-80GB"),
    ],
)
def test_the_card_is_named_where_it_comes_up(logs: ModuleType, line: str, name: str) -> None:
    assert logs.parsed(f"{line}\nGPU KV cache size: 1,024 tokens").gpu_name == name


def test_every_wording_names_facts_that_there_are() -> None:
    names = {
        name for wording in (*FACTS, *REFUSALS) for name in compiled(wording.begin, wording.rest).groupindex
    }
    computed_from = {"utilization", "torch_peak_gib", "consumed_gib", "gpu_total_mib", "weights_mib"}
    arguments = {"max_num_batched_tokens", "max_num_seqs", "max_model_len"}
    assert names - computed_from - arguments <= set(StartupLog.model_fields)
    assert all(wording.versions for wording in (*FACTS, *REFUSALS))


def test_a_real_log_is_read(logs: ModuleType) -> None:
    log = read_startup_log(logs.LOGS / "v32_real_cpu.log")
    assert (log.engine_version, log.v1, log.started) == ("0.32.0", True, True)
    assert (log.kv_cache_tokens, log.max_concurrency, log.concurrency_tokens) == (262_144, 128, 2048)
    assert log.arguments["max_loras"] == 4
    assert log.arguments["max_lora_rank"] == 32
    assert log.arguments["max_num_seqs"] == 64


COLUMNS = {
    "model": "model",
    "engine_version": "vllm",
    "gpu_total_gib": "init_total_memory_gib",
    "free_gib": "init_free_memory_gib",
    "weights_gib": "weight_memory_gib",
    "activation_gib": "activation_memory_gib",
    "non_torch_gib": "non_torch_forward_gib",
    "graph_gib": "cuda_graph_actual_gib",
    "graph_estimated_gib": "cuda_graph_estimated_gib",
    "kv_cache_gib": "kv_cache_memory_gib",
    "kv_cache_tokens": "kv_cache_tokens",
    "num_gpu_blocks": "kv_cache_blocks",
}
"""The published table's name of each fact."""

SIZES = {"max_model_len": "max_model_len", "tensor_parallel_size": "tp", "pipeline_parallel_size": "pp"}


@pytest.mark.skipif(not FIELD.exists(), reason="the whole logs are not there")
def test_whole_logs_give_what_their_publishers_read_in_them() -> None:
    with (FIELD / "memory_h100_80.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    compared = 0
    for path in sorted((FIELD / "logs_h100_80").glob("*.gz")):
        log = read_startup_log(path)
        row = next(
            row
            for row in rows
            if row["model"] == log.model
            and all(int(row[column]) == log.arguments[name] for name, column in SIZES.items())
            and row["kv_cache_dtype"] == log.arguments["kv_cache_dtype"]
            and row["quantization"] == log.arguments.get("quantization", "None")
            and row["dtype"] == f"torch.{log.arguments['dtype']}"
        )
        told = {name: getattr(log, name) for name in COLUMNS}
        published = {name: type(told[name])(row[column]) for name, column in COLUMNS.items()}
        assert told == published, path.name
        assert log.started is (row["status"] == "ok")
        assert log.workers == int(row["tp"]) * int(row["pp"])
        compared += 1
    assert compared == 4
