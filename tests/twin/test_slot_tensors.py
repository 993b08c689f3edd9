"""Adapter slots follow from modules, release and arguments of the engine."""

from __future__ import annotations

import pytest

from scenarios import EngineConfig
from twin.architectures import find_architecture
from twin.memory.launch import Launch
from twin.memory.slots import adapts_embeddings, slot_bytes

GIB = 2**30
NEW = (0, 19, 0)


def _slots(
    model: str, version: tuple[int, int, int] = NEW, slots: int = 4, rank: int = 64, **engine: object
) -> int:
    config = EngineConfig.model_validate(engine)
    return sum(slot_bytes(Launch(find_architecture(model), config, version, slots, rank), 0))


def test_an_engine_without_adapters_has_no_slots() -> None:
    assert _slots("Llama-3.1-8B-Instruct", slots=0) == 0


@pytest.mark.parametrize(("tp", "gib"), [(2, 4.13), (4, 2.81)])
def test_experts_have_slots_since_0_11_1(tp: int, gib: float) -> None:
    experts = _slots("Mixtral-8x7B-Instruct-v0.1", tensor_parallel_size=tp, lora_target_modules=["experts"])
    assert experts / GIB == pytest.approx(gib, abs=0.01)
    rest = [
        _slots("Mixtral-8x7B-Instruct-v0.1", version, tensor_parallel_size=tp)
        for version in ((0, 11, 0), (0, 11, 1))
    ]
    assert rest[1] - rest[0] == experts


def test_stacked_experts_share_the_input_matrix_of_gate_and_upward_projection() -> None:
    apart, joined = (
        _slots("gpt-oss-20b", version, 1, 8, lora_target_modules=["experts"])
        for version in ((0, 11, 2), (0, 12, 0))
    )
    assert apart - joined == 24 * 32 * 8 * 2880 * 2


def test_whole_experts_have_whole_slots() -> None:
    sliced, whole = (
        _slots(
            "Qwen3-30B-A3B",
            (0, 26, 0),
            1,
            8,
            tensor_parallel_size=4,
            enable_expert_parallel=parallel,
            lora_target_modules=["experts"],
        )
        for parallel in (False, True)
    )
    assert sliced == 48 * 128 * 8 * 2 * (3 * 2048 + 3 * 768 // 4)
    assert whole == 48 * 32 * 8 * 2 * (3 * 2048 + 3 * 768)


def test_embeddings_are_adapted_by_model_and_release() -> None:
    def adapted(model: str, version: tuple[int, int, int]) -> bool:
        return adapts_embeddings(Launch(find_architecture(model), EngineConfig(), version, 1, 8))

    assert adapted("Llama-3.1-8B-Instruct", (0, 8, 5))
    assert adapted("granite-3.1-8b-instruct", (0, 8, 5))
    assert not adapted("Qwen2.5-7B-Instruct", NEW)
    assert not adapted("Qwen3-8B", (0, 14, 0))
    assert adapted("Qwen3-8B", (0, 16, 0))
    # 151,936 rows and 4,096 columns at one end, the same at the other.
    added = _slots("Qwen3-8B", (0, 16, 0), 1, 8) - _slots("Qwen3-8B", (0, 14, 0), 1, 8)
    assert added == 2 * 8 * 2 * (151_936 + 4096)


def test_targets_leave_the_other_modules_without_slots() -> None:
    every = _slots("Llama-3.1-8B-Instruct", slots=1, rank=8)
    layer = 32 * 8 * 2
    query = layer * (3 * 4096 + 4096 + 2 * 1024)
    assert _slots("Llama-3.1-8B-Instruct", slots=1, rank=8, lora_target_modules=["q_proj"]) == query
    assert _slots("Llama-3.1-8B-Instruct", slots=1, rank=8, lora_target_modules=["qkv_proj"]) == query
    down = _slots("Llama-3.1-8B-Instruct", slots=1, rank=8, lora_target_modules=["down_proj"])
    assert down == layer * (14336 + 4096)
    assert query + down < every
    assert _slots("Llama-3.1-8B-Instruct", slots=1, rank=8, lora_target_modules=["nothing"]) == 0


def test_fully_sharded_slots_divide_what_is_whole_otherwise() -> None:
    half, whole = (
        _slots("Qwen2.5-7B-Instruct", slots=1, rank=8, tensor_parallel_size=4, fully_sharded_loras=sharded)
        for sharded in (False, True)
    )
    hidden, queries, keys, inter = 3584, 3584 // 4, 512 // 4, 18944 // 4
    columns = 5 * hidden, queries + 2 * keys + 2 * inter
    rows = queries + inter, 2 * hidden
    assert half == 28 * 8 * 2 * (sum(columns) + sum(rows))
    assert whole == 28 * 8 * 2 * (columns[0] // 4 + columns[1] + rows[0] + rows[1] // 4)


def test_slots_are_of_the_activations_type_whatever_the_weights() -> None:
    plain = _slots("Llama-3.1-8B-Instruct")
    assert _slots("Llama-3.1-8B-Instruct-AWQ-INT4") == plain
    assert _slots("Llama-3.1-8B-Instruct", quantization="fp8") == plain
    assert _slots("Llama-3.1-8B-Instruct", dtype="float32") == 2 * plain
    assert _slots("Llama-3.1-8B-Instruct", dtype="float32", lora_dtype="bfloat16") == plain


def test_latent_attention_and_delta_nets_have_slots() -> None:
    # Query, compressed vectors, their expansion, and the projection back.
    latent = _slots(
        "DeepSeek-V2-Lite-Chat",
        slots=1,
        rank=8,
        lora_target_modules=["q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"],
    )
    widths = (2048 + 3072) + (2048 + 576) + (512 + 4096) + (2048 + 2048)
    assert latent == 27 * 8 * 2 * widths
    delta = _slots("Qwen3.5-35B-A3B", slots=1, rank=8, lora_target_modules=["in_proj_qkvz", "out_proj"])
    assert delta == 30 * 8 * 2 * ((4 * 2048 + 2 * 2048 + 2 * 4096) + (4096 + 2048))


def test_slots_of_stages_add_up() -> None:
    model, engine = find_architecture("Llama-3.1-8B-Instruct"), EngineConfig(pipeline_parallel_size=2)
    stages = [sum(slot_bytes(Launch(model, engine, NEW, 4, 64), stage)) for stage in (0, 1)]
    assert sum(stages) == _slots("Llama-3.1-8B-Instruct")
