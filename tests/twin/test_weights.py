"""Weights of real engines: every start of a public table, and single logs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from scenarios import EngineConfig
from twin.architectures import Quantization, QuantizedGroup, find_architecture
from twin.memory.allocator import CachingAllocator
from twin.memory.launch import Launch, version_of
from twin.memory.slots import slot_bytes
from twin.memory.weights import weight_bytes

GIB = 2**30
TABLE = Path(__file__).parent / "data" / "memory_h100_80.csv"
"""Facts of start-up logs of vLLM on an H100 80 GB (llm-d-incubation/llm-d-planner, Apache-2.0)."""
ROWS = [row for row in csv.DictReader(TABLE.read_text().splitlines()) if row["status"] == "ok"]


def _launch(row: dict[str, str]) -> Launch:
    engine = EngineConfig.model_validate(
        {
            "max_num_seqs": 1024,
            "max_num_batched_tokens": 8192,
            "max_model_len": int(row["max_model_len"]),
            "tensor_parallel_size": int(row["tp"]),
            "pipeline_parallel_size": int(row["pp"]),
            "dtype": row["dtype"].removeprefix("torch."),
            "quantization": "fp8" if row["quantization"] == "fp8" else None,
            "kv_cache_dtype": row["kv_cache_dtype"],
        }
    )
    return Launch(find_architecture(row["model"]), engine, version_of(row["vllm"]), 0, 8)


def _loaded_gib(launch: Launch, stage: int = 0) -> float:
    allocator = CachingAllocator()
    allocator.allocate(weight_bytes(launch, stage))
    allocator.allocate(slot_bytes(launch, stage))
    return allocator.allocated / GIB


def _name(row: dict[str, str]) -> str:
    kinds = (row["dtype"], row["quantization"], row["kv_cache_dtype"])
    return f"{row['model']} tp{row['tp']} pp{row['pp']} {' '.join(kinds)} {row['max_model_len']}"


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 41
    assert len({row["model"] for row in ROWS}) == 16


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_weights_are_those_that_the_engine_reports(row: dict[str, str]) -> None:
    # The log rounds to 0.01 GiB.
    assert _loaded_gib(_launch(row)) == pytest.approx(float(row["weight_memory_gib"]), rel=0.002, abs=0.005)


@pytest.mark.parametrize(
    ("model", "version", "engine", "slots", "loaded"),
    [
        ("Qwen3-8B", (0, 9, 2), {}, 0, 15.2683),
        ("Llama-3.1-8B-Instruct", (0, 6, 4), {}, 0, 14.9888),
        # In 4 bits, with one adapter's slot of rank 16.
        ("Phi-4", (0, 8, 2), {"quantization": "bitsandbytes"}, 1, 8.6253),
        ("Mistral-7B-Instruct-v0.2", (0, 14, 0), {}, 1, 13.58),
        ("Gemma-4-26B-A4B", (0, 19, 0), {}, 0, 48.5),
    ],
)
def test_weights_are_those_of_single_logs(
    model: str, version: tuple[int, int, int], engine: dict[str, object], slots: int, loaded: float
) -> None:
    config = EngineConfig.model_validate(engine)
    launch = Launch(find_architecture(model), config, version, slots, 16)
    assert _loaded_gib(launch) == pytest.approx(loaded, rel=0.005)


def test_a_large_model_in_8_bits() -> None:
    # 67.7229 GiB in the log of Llama-3.1-70B w8a8 under 0.7.
    group = QuantizedGroup(kind="int8", scales="channel")
    quantization = Quantization(method="compressed-tensors", groups=(group,), ignore=("lm_head",))
    model = find_architecture("Llama-3.1-70B-Instruct").model_copy(update={"quantization": quantization})
    assert _loaded_gib(Launch(model, EngineConfig(), (0, 7, 0), 0, 8)) == pytest.approx(67.7229, rel=0.001)


def test_each_layer_of_gemma_2_once_had_a_rotary_table_of_its_own() -> None:
    engine, model = EngineConfig(tensor_parallel_size=8), find_architecture("Gemma-2-9B-it")
    old, new = (_loaded_gib(Launch(model, engine, version, 0, 8)) for version in ((0, 5, 4), (0, 6, 2)))
    assert old - new == pytest.approx(41 * 8192 * 256 * 2 / GIB, abs=0.01)
    # 2.3463 GiB in the log.
    assert old == pytest.approx(2.3463, rel=0.015)


def test_layers_that_do_not_divide_go_to_the_middle_stages() -> None:
    engine = EngineConfig(pipeline_parallel_size=4)
    qwen = find_architecture("Qwen2.5-7B-Instruct")
    layer = (qwen.layer_parameters // 28) * 2

    def layers(version: tuple[int, int, int], model: str = "Gemma-2-9B-it") -> list[float]:
        launch = Launch(find_architecture(model), engine, version, 0, 8)
        return [round(_loaded_gib(launch, stage), 2) for stage in range(4)]

    new, old = layers((0, 19, 0)), layers((0, 7, 0))
    # 42 layers: 10, 11, 11 and 10, once 10, 10, 10 and 12.
    assert new[1] == new[2] > old[1] == old[2]
    assert new[0] == old[0]
    assert old[3] - new[3] == pytest.approx(2 * (new[1] - old[1]), abs=0.03)
    assert sum(weight_bytes(Launch(qwen, engine, (0, 19, 0), 0, 8), 1)) == pytest.approx(7 * layer, rel=0.01)


def test_experts_are_divided_whole_or_sliced() -> None:
    model = find_architecture("Qwen3-30B-A3B")
    sliced = Launch(model, EngineConfig(tensor_parallel_size=4), (0, 19, 0), 0, 8)
    whole = sliced._replace(engine=EngineConfig(tensor_parallel_size=4, enable_expert_parallel=True))
    assert sum(weight_bytes(sliced, 0)) == sum(weight_bytes(whole, 0))
    eight = Launch(model, EngineConfig(tensor_parallel_size=3), (0, 19, 0), 0, 8)
    parts = eight._replace(engine=EngineConfig(tensor_parallel_size=3, enable_expert_parallel=True))
    # 128 experts over 3 GPUs: the first holds 43.
    assert sum(weight_bytes(parts, 0)) > sum(weight_bytes(eight, 0))


def test_tied_models_keep_the_embedding_on_either_end() -> None:
    model = find_architecture("Gemma-2-2B-it")
    engine = EngineConfig(pipeline_parallel_size=2)
    first, last = (sum(weight_bytes(Launch(model, engine, (0, 19, 0), 0, 8), stage)) for stage in (0, 1))
    rows = 256_000 * 2304 * 2
    assert min(first, last) > rows
    assert first + last == pytest.approx(2 * model.parameters + rows, rel=0.01)


def test_the_vocabulary_is_padded_to_64_rows_and_to_256_before_the_slots_of_old_engines() -> None:
    model, engine = find_architecture("CodeLlama-7b"), EngineConfig()
    assert model.vocab_size == 32_016
    plain, adapted = (list(weight_bytes(Launch(model, engine, (0, 8, 5), slots, 8), 0)) for slots in (0, 2))
    row = 4096 * 2
    assert (plain[0], plain[-1]) == (32_064 * row, 32_064 * row)
    assert (adapted[0], adapted[-1]) == ((32_064 + 2 * 256) * row, 32_512 * row)  # 32,016 + 256, in 256s
