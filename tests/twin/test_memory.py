"""Memory follows from shapes: measured capacities, failures, remedies and their consistency."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenarios import MAX_LORA_RANKS, EngineConfig
from twin import MemoryModel, MemoryPlan, plan_memory
from twin.architectures import find_architecture
from twin.memory import TensorParallelError, kv_cache_if_started, memory_model
from twin.memory.allocator import MIB, CachingAllocator
from twin.memory.kv_cache import kv_cache
from twin.memory.launch import Launch
from twin.memory.slots import slot_bytes

ROOT = Path(__file__).resolve().parents[2]
H100 = 63.43
GIB = 2**30

LLAMA = memory_model(find_architecture("Llama-3.1-8B-Instruct"))
QWEN = memory_model(find_architecture("Qwen2.5-7B-Instruct"))


def _engine(max_model_len: int = 16_384, max_num_seqs: int = 2048, **change: object) -> EngineConfig:
    return EngineConfig.model_validate(
        {"max_model_len": max_model_len, "max_num_seqs": max_num_seqs, **change}
    )


def _plan(memory: MemoryModel, engine: EngineConfig, slots: int, rank: int) -> MemoryPlan:
    return plan_memory(memory, engine, H100, slots, rank)


# (slots, rank, GiB of model and slots, KV tokens) as measured with vLLM 0.8.5 on an H100 64 GB.
MEASURED_LLAMA = [
    (8, 8, 15.3885, 305_104),
    (128, 8, 21.2488, 253_568),
    (352, 8, 32.2884, 166_016),
    (64, 16, 20.8738, 256_640),
    (96, 32, 32.0730, 168_064),
]
MEASURED_QWEN = [
    (8, 8, 14.5501, 700_816),
    (128, 8, 19.1435, 601_664),
    (352, 16, 40.7597, 202_528),
    (224, 32, 48.2646, 67_136),
]


@pytest.mark.parametrize(
    ("memory", "row"),
    [*itertools.product([LLAMA], MEASURED_LLAMA), *itertools.product([QWEN], MEASURED_QWEN)],
    ids=lambda value: value.architecture.name if isinstance(value, MemoryModel) else str(value[:2]),
)
def test_weights_slots_and_kv_capacity_are_those_measured(
    memory: MemoryModel, row: tuple[int, int, float, int]
) -> None:
    slots, rank, held_gib, tokens = row
    plan = _plan(memory, _engine(), slots, rank)
    assert plan.weights_gib + plan.slots_gib == pytest.approx(held_gib, abs=0.005)
    assert plan.kv_cache_tokens == pytest.approx(tokens, rel=0.01)
    assert plan.kv_cache_tokens == plan.num_blocks * 16


@pytest.mark.parametrize(
    ("memory", "max_model_len", "slots", "rank", "failure"),
    [
        (LLAMA, 131_072, 224, 16, None),
        (LLAMA, 131_072, 256, 16, "kv_below_max_model_len"),
        (LLAMA, 16_384, 256, 16, None),
        (LLAMA, 131_072, 224, 32, "no_kv_memory"),
        (LLAMA, 131_072, 256, 32, "oom_cuda"),
        (LLAMA, 131_072, 384, 32, "oom_cuda"),
        (QWEN, 32_768, 224, 32, None),
        (QWEN, 32_768, 288, 32, "no_kv_memory"),
        (QWEN, 32_768, 320, 32, "oom_cuda"),
    ],
)
def test_start_up_fails_as_it_did(
    memory: MemoryModel, max_model_len: int, slots: int, rank: int, failure: str | None
) -> None:
    plan = _plan(memory, _engine(max_model_len), slots, rank)
    assert plan.failure == failure
    assert plan.starts == (failure is None)
    assert bool(plan.remedy) == (failure is not None)


def test_kv_bytes_per_token() -> None:
    def per_token(memory: MemoryModel, tp: int) -> int:
        launch = Launch(memory.architecture, _engine(tensor_parallel_size=tp), (0, 8, 5), 0, 8)
        return kv_cache(launch, 0).block_bytes // 16

    assert per_token(LLAMA, 1) == 131_072
    assert per_token(QWEN, 1) == 57_344
    assert per_token(LLAMA, 8) == 16_384
    assert per_token(LLAMA, 16) == 16_384  # a head is copied, not divided


@pytest.mark.parametrize(
    "stated",
    [{"kv_cache_memory_bytes": 10**12}, {"num_gpu_blocks_override": 3}],
    ids=lambda one: next(iter(one)),
)
def test_a_cache_of_a_stated_size_that_keeps_the_engine_from_starting_may_be_left_out(
    stated: dict[str, object],
) -> None:
    plan = _plan(LLAMA, _engine(16_384, 2048, **stated), 8, 8)
    assert not plan.starts
    assert plan.remedies[0] == f"leave {next(iter(stated))} out, so that the cache takes what is left"
    assert _plan(LLAMA, _engine(), 8, 8).starts
    hopeless = _plan(LLAMA, _engine(10_000_000, num_gpu_blocks_override=3), 8, 8)
    assert not any("leave" in remedy for remedy in hopeless.remedies)


@pytest.mark.parametrize("slots", [1, 64, 384])
@pytest.mark.parametrize("gib", [12.0, 18.0, H100])
def test_the_cache_of_an_engine_that_starts_is_that_of_its_plan(gib: float, slots: int) -> None:
    plan = plan_memory(LLAMA, _engine(), gib, slots, 32)
    tokens = kv_cache_if_started(LLAMA, _engine(), gib, slots, 32)
    assert tokens == (plan.kv_cache_tokens if plan.starts else None)


def test_remedies_name_values_that_work() -> None:
    engine = _engine(131_072)
    plan = _plan(LLAMA, engine, 256, 16)
    assert plan.largest_max_loras is not None
    assert _plan(LLAMA, engine, plan.largest_max_loras, 16).starts
    assert not _plan(LLAMA, engine, plan.largest_max_loras + 1, 16).starts
    assert f"lower max_loras from 256 to {plan.largest_max_loras}" in plan.remedy
    assert "lower max_lora_rank from 16 to 8" in plan.remedy
    assert f"lower max_model_len from 131072 to {plan.largest_max_model_len}" in plan.remedy
    assert _plan(LLAMA, _engine(plan.largest_max_model_len), 256, 16).starts
    assert not _plan(LLAMA, _engine(plan.largest_max_model_len + 1), 256, 16).starts
    assert "set gpu_memory_utilization to 0.94 instead of 0.9" in plan.remedy
    assert _plan(LLAMA, _engine(131_072, gpu_memory_utilization=0.94), 256, 16).starts


def test_a_model_too_large_for_the_gpu_asks_for_another_gpu() -> None:
    plan = _plan(memory_model(find_architecture("Llama-3.1-70B-Instruct")), _engine(), 8, 8)
    assert plan.failure == "oom_cuda"
    assert plan.largest_max_loras is None
    assert plan.remedy == "raise tensor_parallel_size from 1 to 4, or use a GPU with more memory"


def test_graphs_need_room_beside_the_budget() -> None:
    plan = _plan(LLAMA, _engine(max_num_seqs=64, gpu_memory_utilization=1.0), 8, 8)
    assert plan.failure == "oom_cuda"
    assert "set gpu_memory_utilization to 0.9" in plan.remedy


def test_an_engine_without_lora() -> None:
    plan = _plan(LLAMA, _engine(131_072, max_num_seqs=400), 0, 0)
    assert plan.slots_gib == 0
    assert plan.largest_max_loras is None
    assert plan.weights_gib == pytest.approx(14.9889, abs=0.002)
    assert plan.kv_gib == pytest.approx(40.68, rel=0.005)


def test_newer_engines_have_no_extra_vocabulary() -> None:
    newer = memory_model(LLAMA.architecture, engine_version="0.33.0")
    assert newer.version == (0, 33, 0)
    old, new = _plan(LLAMA, _engine(), 128, 8), _plan(newer, _engine(), 128, 8)
    # Three tensors of 256 rows of 4096 weights: in the embedding, and beside either end of the model.
    assert old.slots_gib - new.slots_gib == pytest.approx(128 * 3 * 256 * 4096 * 2 / GIB, abs=0.006)
    with pytest.raises(ValueError, match="give it as vLLM does"):
        memory_model(LLAMA.architecture, engine_version="newest")


def test_tensor_parallelism_divides_weights_and_kv() -> None:
    memory = memory_model(find_architecture("Llama-3.1-70B-Instruct"))
    two, four = (_plan(memory, _engine(tensor_parallel_size=tp), 8, 16) for tp in (2, 4))
    assert two.failure == "oom_cuda"
    assert four.starts
    assert four.weights_gib == pytest.approx(memory.architecture.parameters * 2 / 4 / GIB, rel=0.01)
    one_gpu = sum(slot_bytes(Launch(memory.architecture, _engine(), (0, 8, 5), 8, 16), 0))
    # Inputs of split columns and outputs of split rows stay whole on each GPU.
    assert one_gpu / 4 / GIB < four.slots_gib < one_gpu / GIB
    with pytest.raises(TensorParallelError, match="choose a divisor"):
        _plan(memory, _engine(tensor_parallel_size=3), 8, 16)
    with pytest.raises(TensorParallelError, match="28 attention and 4 key-value heads; choose a divisor"):
        _plan(QWEN, _engine(tensor_parallel_size=7), 8, 16)  # divides 28, and copies 4 unevenly


def test_mixture_of_experts_adapts_attention_and_router_only() -> None:
    mixtral = find_architecture("Mixtral-8x7B-Instruct-v0.1")
    layer = 2 * 1 * 8 * ((3 * 4096 + 4096 + 1024 + 1024) + (4096 + 4096) + (4096 + 8))
    embeddings = 2 * 8 * (32_000 + 4096 + 4096 + 32_256) + 2 * (256 * 4096 * 2)
    assert sum(slot_bytes(Launch(mixtral, _engine(), (0, 8, 5), 1, 8), 0)) == 32 * layer + embeddings


def test_measured_weights_replace_computed_ones() -> None:
    quantised = memory_model(LLAMA.architecture, weights_gib=5.4)
    more = _plan(quantised, _engine(), 64, 16).kv_gib - _plan(LLAMA, _engine(), 64, 16).kv_gib
    assert more == pytest.approx(_plan(LLAMA, _engine(), 64, 16).weights_gib - 5.4)


@pytest.mark.slow
@given(
    slots=st.integers(1, 400),
    rank=st.sampled_from(MAX_LORA_RANKS),
    seqs=st.integers(1, 2048),
    length=st.integers(1, 131_072),
    gpu=st.floats(16, 192),
)
@example(slots=1, rank=8, seqs=1, length=7073, gpu=18.0)  # once the KV cache holds it, graphs do not fit
@settings(max_examples=60, deadline=None)
def test_more_memory_never_hurts_and_remedies_hold(
    slots: int, rank: int, seqs: int, length: int, gpu: float
) -> None:
    engine = _engine(length, seqs)
    plan = plan_memory(QWEN, engine, gpu, slots, rank)
    larger = plan_memory(QWEN, engine, gpu + 8, slots, rank)
    assert larger.kv_gib > plan.kv_gib
    assert larger.starts or not plan.starts
    assert plan.kv_cache_tokens >= length or not plan.starts
    if plan.largest_max_loras is not None:
        assert plan_memory(QWEN, engine, gpu, plan.largest_max_loras, rank).starts
    if plan.starts:
        assert plan.largest_max_loras is not None
        assert plan.largest_max_loras >= slots
    if plan.largest_max_model_len:
        assert plan_memory(QWEN, _engine(plan.largest_max_model_len, seqs), gpu, slots, rank).starts


def test_the_model_survives_json() -> None:
    assert MemoryModel.model_validate_json(LLAMA.model_dump_json()) == LLAMA


def test_asking_again_takes_a_fraction_of_the_first_answer() -> None:
    def seconds(slots: Iterable[int]) -> float:
        start = time.process_time()
        for one in slots:
            _plan(LLAMA, engine, one, 16)
        return time.process_time() - start

    engine = _engine(max_model_len=2050)  # that no other test asks about
    first, again = seconds(range(1, 201)), min(seconds(range(1, 201)) for _ in range(5))
    assert again < first / 20


def test_allocator_rounds_splits_and_reuses_blocks() -> None:
    allocator = CachingAllocator()
    allocator.allocate([1])
    assert (allocator.allocated, allocator.reserved) == (512, 2 * MIB)
    allocator.allocate([MIB])  # from the same small segment
    assert allocator.reserved == 2 * MIB
    allocator.allocate([7 * MIB, 7 * MIB])  # two fit a segment of 20 MiB, 6 MiB are left
    assert allocator.reserved == 22 * MIB
    allocator.allocate([6 * MIB - 1000])  # what is left is not split off, so the whole block counts
    assert allocator.reserved == 22 * MIB
    assert allocator.allocated == 512 + MIB + 20 * MIB
    allocator.allocate([11 * MIB])  # rounded up to 12 MiB, and again not split
    assert allocator.reserved == 34 * MIB
    assert allocator.lost == MIB - 512


@pytest.mark.parametrize(
    ("size", "reserved"), [(MIB, 2), (MIB + 1, 20), (10 * MIB - 512, 20), (10 * MIB, 10)]
)
def test_segments_are_of_2_and_20_mib_until_tensors_have_10(size: int, reserved: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate([size])
    assert allocator.reserved == reserved * MIB


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "memory_fidelity", ROOT / "benchmarks" / "memory_fidelity.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_measured_engine() -> None:
    table = _benchmark().compare(ROOT / "benchmarks" / "measured")
    error = table["error_percent"].abs().dropna()
    assert len(error) > 1000
    assert error.median() < 0.2
    assert error.max() < 2.0
    judged = table[table["failure"].notna()]
    assert (judged["failure"] == judged["computed_failure"]).mean() >= 0.995


def test_the_comparison_says_where_measurements_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["memory_fidelity", "--measurements", str(tmp_path)])
    assert _benchmark().main() == 2
    assert "no measurements here" in capsys.readouterr().err
