"""Blocks and tokens of the KV cache are those of real engines, and follow from groups of layers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import EngineConfig
from twin.architectures import find_architecture, shipped_architectures
from twin.memory.kv_cache import LONGEST, KVCache, _group_size, kv_cache
from twin.memory.launch import Launch, version_of

GIB = 2**30
TABLE = Path(__file__).parent / "data" / "memory_h100_80.csv"
ROWS = [row for row in csv.DictReader(TABLE.read_text().splitlines()) if row["status"] == "ok"]


def _cache(model: str, version: str = "0.19.0", stage: int = 0, **engine: object) -> KVCache:
    config = EngineConfig.model_validate({"max_num_batched_tokens": 8192, "max_model_len": 8192, **engine})
    return kv_cache(Launch(find_architecture(model), config, version_of(version), 0, 8), stage)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']} tp{row['tp']} pp{row['pp']}")
def test_blocks_and_tokens_are_those_that_the_engine_reports(row: dict[str, str]) -> None:
    stages = int(row["pp"])
    caches = [
        _cache(
            row["model"],
            row["vllm"],
            stage,
            max_model_len=int(row["max_model_len"]),
            tensor_parallel_size=int(row["tp"]),
            pipeline_parallel_size=stages,
            dtype=row["dtype"].removeprefix("torch."),
            kv_cache_dtype=row["kv_cache_dtype"],
        )
        for stage in range(stages)
    ]
    gib, blocks = float(row["kv_cache_memory_gib"]), int(row["kv_cache_blocks"])
    least, most = (min(c.num_blocks((gib + off) * GIB) for c in caches) for off in (-0.0051, 0.0051))
    if stages == 1:
        assert least <= blocks <= most
    else:  # the table has the memory of the first GPU, and another that has less decides
        assert 0.98 * least <= blocks <= most
    assert caches[0].tokens(blocks) == int(row["kv_cache_tokens"])


def test_layers_with_windows_share_blocks_with_those_without() -> None:
    gemma3 = _cache("Gemma-3-12B-it")
    assert [len(group.layers) for group in gemma3.groups] == [8] * 6
    assert gemma3.tokens(48_867) == 130_304
    gemma2 = _cache("Gemma-2-9B-it")
    assert [len(group.layers) for group in gemma2.groups] == [21, 21]
    assert gemma2.tokens(21_110) == 168_880


def test_nearly_equal_counts_of_layers_make_two_groups_in_newer_engines() -> None:
    # 23 layers with a window and as many without.
    assert [len(group.layers) for group in _cache("Gemma-2-27B-it").groups] == [23, 23]
    gemma3 = _cache("Gemma-3-1B-it")  # 22 layers with a window, 4 without
    assert [len(group.layers) for group in gemma3.groups] == [4, 4, 4, 4, 3, 3, 4]


@pytest.mark.parametrize(
    ("version", "least", "most", "size"),
    [
        ((0, 11, 2), 8, 9, 8),
        ((0, 12, 0), 8, 9, 9),
        ((0, 12, 0), 8, 10, 8),  # just 1.25 times as many
        ((0, 17, 1), 8, 11, 8),
        ((0, 18, 0), 8, 11, 11),
        ((0, 18, 0), 8, 12, 8),  # just 1.5 times as many
    ],
)
def test_a_group_has_as_many_layers_as_the_larger_of_nearly_equal_counts(
    version: tuple[int, int, int], least: int, most: int, size: int
) -> None:
    assert _group_size(version, least, most) == size


def test_old_engines_keep_a_window_as_if_there_were_none() -> None:
    for version in ("0.5.4", "0.8.5"):
        cache = _cache("Gemma-2-9B-it", version, tensor_parallel_size=8)
        assert len(cache.groups) == 1
        assert cache.block_bytes == 16 * 42 * 2 * 256 * 2
    assert _cache("Gemma-2-9B-it", "0.5.4", tensor_parallel_size=8).tokens(22_982) == 367_712


def test_a_window_in_every_layer_needs_few_blocks() -> None:
    cache = _cache("Mistral-7B-v0.1", max_model_len=32_768)
    assert cache.needed_blocks(32_768) == -(-(4095 + 8192) // 16) + 1
    assert cache.needed_blocks(100) == 7 + 1
    assert cache.longest(2000) == LONGEST


def test_newer_engines_report_tokens_of_the_longest_sequences() -> None:
    old, new = (_cache("Gemma-3-12B-it", version, max_model_len=131_072) for version in ("0.20.0", "0.21.0"))
    needed = 131_072 // 16 + 5 * (-(-(1023 + 8192) // 16) + 1)
    assert old.needed_blocks(131_072) == new.needed_blocks(131_072) == needed
    assert old.tokens(48_867) == 130_304
    assert new.tokens(48_867) == int(48_867 / needed * 131_072)
    assert new.max_concurrency(2 * needed) == 2.0


def test_latent_attention_keeps_one_vector_on_every_gpu() -> None:
    one, four = (_cache("DeepSeek-V2-Lite-Chat", tensor_parallel_size=tp) for tp in (1, 4))
    assert one.block_bytes == four.block_bytes == 16 * 27 * 576 * 2
    old = _cache("DeepSeek-V2-Lite-Chat", "0.6.4")
    assert old.block_bytes == 16 * 27 * 16 * 2 * 256 * 2
    assert _cache("DeepSeek-V2-Lite-Chat", "0.7.0").block_bytes == 16 * 27 * 16 * 2 * 192 * 2


def test_states_set_the_size_of_blocks() -> None:
    cache = _cache("Qwen3.5-35B-A3B", max_model_len=32_768)
    state = 32 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 32 * 128) * 2
    token = 2 * 2 * 256 * 2
    block = 16 * -(-state // (16 * token))
    assert cache.block_size == block
    assert cache.block_bytes == 10 * block * token
    assert len(cache.groups) == 4
    # One block of each of three groups of states, and those of the attention.
    assert cache.needed_blocks(32_768) == 3 + -(-32_768 // block)
    aligned = _cache("Qwen3.5-35B-A3B", "0.32.0", max_model_len=32_768)
    assert aligned.needed_blocks(32_768) == 6 + -(-32_768 // block)


def test_the_size_of_blocks_is_that_of_a_log() -> None:
    # "Setting attention block size to 784 tokens", 1568 with 8-bit keys and values, and 1056: public logs of
    # models of these shapes.
    assert _cache("Qwen3.5-27B").block_size == 784
    assert _cache("Qwen3.5-27B", kv_cache_dtype="fp8").block_size == 1568
    assert _cache("Qwen3.5-35B-A3B").block_size == 1056


def test_chunks_are_kept_whole() -> None:
    cache = _cache("Llama-4-Scout-17B-16E-Instruct", tensor_parallel_size=4)
    assert len(cache.groups) == 1
    assert cache.block_bytes == 16 * 48 * 2 * 2 * 128 * 2


def test_the_type_of_the_cache() -> None:
    plain = _cache("Llama-3.1-70B-Instruct").block_bytes
    assert _cache("Llama-3.1-70B-Instruct", kv_cache_dtype="fp8").block_bytes == plain // 2
    assert _cache("Llama-3.1-70B-Instruct", kv_cache_dtype="fp8_e5m2").block_bytes == plain // 2
    assert _cache("Llama-3.1-70B-Instruct", dtype="float32").block_bytes == plain * 2
    # A ModelOpt checkpoint asks for 8 bits, and engines listen since 0.14.
    assert _cache("nvidia/Llama-3.1-70B-Instruct-FP8", "0.12.0").block_bytes == plain
    assert _cache("nvidia/Llama-3.1-70B-Instruct-FP8", "0.19.0").block_bytes == plain // 2


def test_heads_are_copied_where_gpus_are_more() -> None:
    eight, sixteen = (_cache("Llama-3.1-8B-Instruct", tensor_parallel_size=tp) for tp in (8, 16))
    assert eight.block_bytes == sixteen.block_bytes == 16 * 32 * 2 * 128 * 2


def test_a_stage_holds_the_cache_of_its_layers() -> None:
    whole = _cache("Llama-3.1-8B-Instruct").block_bytes
    assert _cache("Llama-3.1-8B-Instruct", stage=1, pipeline_parallel_size=4).block_bytes == whole // 4
    gemma = [_cache("Gemma-3-12B-it", stage=stage, pipeline_parallel_size=2) for stage in (0, 1)]
    assert [cache.block_bytes for cache in gemma] == [_cache("Gemma-3-12B-it").block_bytes // 2] * 2


@given(
    model=st.sampled_from([architecture.name for architecture in shipped_architectures()]),
    version=st.sampled_from(["0.6.4", "0.8.5", "0.11.2", "0.19.0", "0.32.0"]),
    blocks=st.integers(0, 100_000),
    length=st.integers(1, 1_000_000),
)
def test_what_is_longest_fits_and_no_more_does(model: str, version: str, blocks: int, length: int) -> None:
    cache = _cache(model, version)
    assert cache.num_blocks(blocks * cache.block_bytes) == blocks
    assert cache.num_blocks(-1.0) == 0
    longest = cache.longest(blocks)
    usable = blocks - (version == "0.32.0")  # newer engines keep one to themselves
    assert longest == 0 or cache.needed_blocks(longest) <= usable
    assert longest == LONGEST or cache.needed_blocks(longest + 1) > usable
    assert (cache.needed_blocks(length) <= usable) == (length <= longest)
    assert cache.tokens(0) == 0
