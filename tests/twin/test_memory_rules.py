"""What each release of vLLM counts and captures, and public start-up logs of other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scenarios import EngineConfig
from twin.architectures import ModelArchitecture, find_architecture
from twin.memory import EngineVersionError, MemoryPlan, memory_model, plan_memory
from twin.memory.defaults import default_arguments
from twin.memory.graphs import CapturedGraphs, captured_graphs
from twin.memory.launch import version_of
from twin.memory.versions import counts_graphs, is_v1, rules_of

LOGS = {
    log["name"]: log
    for log in yaml.safe_load((Path(__file__).parent / "data" / "startup_logs.yaml").read_text())
}
LLAMA = find_architecture("Llama-3.1-8B-Instruct")


def _captured(version: str, max_loras: int = 0, **arguments: Any) -> CapturedGraphs:
    release = version_of(version)
    given = {"max_num_seqs": 256, "max_num_batched_tokens": 2048} | arguments
    engine = EngineConfig(**given)
    return captured_graphs(engine, rules_of(release, is_v1(release, engine, max_loras)), max_loras)


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.8.5", (0, 8, 5)), ("v0.9.0.1", (0, 9, 0)), ("0.10.2rc1+cu128", (0, 10, 2)), ("0.11", (0, 11, 0))],
)
def test_releases_are_read_as_they_are_written(text: str, version: tuple[int, int, int]) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize("text", ["", "newest", "1", "v", "x0.8.5"])
def test_what_names_no_release_is_refused(text: str) -> None:
    with pytest.raises(EngineVersionError, match="give it as vLLM does"):
        version_of(text)


@pytest.mark.parametrize(
    ("version", "arguments", "graphs"),
    [
        ("0.6.4", {}, 35),  # public logs print "35/35" for 256 sequences
        ("0.6.4", {"max_num_seqs": 320}, 43),
        ("0.6.4", {"max_num_seqs": 3}, 3),
        ("0.8.5", {}, 67),
        ("0.8.5", {"max_num_seqs": 8}, 67),
        ("0.9.2", {"max_num_seqs": 1024, "max_num_batched_tokens": 8192}, 67),
        ("0.10.2", {"max_num_seqs": 64}, 19),
        ("0.14.0", {}, 51 + 35),  # "PIECEWISE=51 (largest=512), FULL=35 (largest=256)"
        ("0.19.0", {"max_num_seqs": 1024, "max_num_batched_tokens": 8192}, 51 + 51),
        ("0.19.0", {"max_num_seqs": 128}, 35 + 19),
        ("0.32.0", {"max_num_seqs": 256, "max_num_batched_tokens": 256}, 35 + 35),
    ],
)
def test_as_many_graphs_are_captured_as_logs_tell(
    version: str, arguments: dict[str, int], graphs: int
) -> None:
    assert _captured(version, **arguments) == CapturedGraphs(graphs, 0)
    assert _captured(version, enforce_eager=True, **arguments) == CapturedGraphs(0, 0)


def test_adapters_double_the_graphs_of_newer_engines() -> None:
    assert _captured("0.8.5", max_loras=4) == CapturedGraphs(0, 67)
    assert _captured("0.27.1", max_loras=4) == CapturedGraphs(86, 86)  # 102 + 70 in a log of 0.27.1
    # With 64 slots graphs for 1, 2, 4 ... 64 and 65 adapters: 459 + 315 in the same log.
    special = _captured("0.27.1", max_loras=64, specialize_active_lora=True)
    assert sum(special) == 459 + 315


def test_early_releases_fall_back_to_v0() -> None:
    plain, exact = EngineConfig(), EngineConfig(dtype="float32")
    assert not is_v1(version_of("0.7.3"), plain, 0)
    assert all(is_v1(version_of(v), plain, 0) for v in ("0.8.0", "0.8.5", "0.32.0"))
    assert [is_v1(version_of(v), plain, 4) for v in ("0.8.3", "0.8.4")] == [False, True]
    assert [is_v1(version_of(v), exact, 0) for v in ("0.9.1", "0.9.2")] == [False, True]
    auto = memory_model(LLAMA, "0.8.2")
    with_lora, without = (plan_memory(auto, plain, 79.2, slots, 16) for slots in (1, 0))
    assert with_lora == plan_memory(memory_model(LLAMA, "0.8.2", v1=False), plain, 79.2, 1, 16)
    assert without == plan_memory(memory_model(LLAMA, "0.8.2", v1=True), plain, 79.2, 0, 16)


def test_graphs_are_counted_from_0_20_on_but_for_the_new_runner_until_0_29() -> None:
    assert not counts_graphs((0, 19, 1), LLAMA)
    assert counts_graphs((0, 20, 0), LLAMA)
    assert not counts_graphs((0, 23, 0), LLAMA)
    assert counts_graphs((0, 23, 0), find_architecture("Qwen2.5-7B-Instruct"))
    assert not counts_graphs((0, 27, 1), find_architecture("Qwen2.5-7B-Instruct"))
    assert counts_graphs((0, 27, 1), find_architecture("Mixtral-8x7B-Instruct-v0.1"))
    assert counts_graphs((0, 32, 0), LLAMA)


def test_defaults_are_those_of_the_release_and_the_gpu() -> None:
    def of(version: str, gib: float, device: str = "") -> tuple[Any, ...]:
        given = default_arguments(LLAMA, version_of(version), gib, device)
        return given["max_num_seqs"], given["max_num_batched_tokens"], given["gpu_memory_utilization"]

    assert of("0.8.5", 63.4) == (256, 2048, 0.9)
    assert of("0.8.4", 79.2) == (256, 2048, 0.9)
    assert of("0.8.2", 79.2) == (1024, 2048, 0.9)
    assert of("0.8.2", 79.2, "H100-80GB") == (1024, 8192, 0.9)
    assert of("0.19.0", 79.2) == (1024, 8192, 0.9)
    assert of("0.19.0", 79.2, "A100-80GB") == (256, 2048, 0.9)
    assert of("0.20.0", 23.6) == (256, 2048, 0.92)
    assert of("0.32.0", 178.0) == (1024, 16_384, 0.92)


@pytest.mark.parametrize(
    ("version", "model", "max_model_len", "max_loras", "tokens"),
    [
        ("0.4.2", LLAMA, 131_072, 0, 131_072),
        ("0.6.4", LLAMA, 20_000, 0, 20_000),  # "peak torch" of a log grows with max_model_len
        ("0.6.4", LLAMA, 35_000, 0, 512),
        ("0.7.3", LLAMA, 131_072, 0, 2048),
        ("0.7.3", LLAMA, 1024, 0, 2048),
        ("0.7.3", LLAMA, 131_072, 1, 131_072),
        ("0.8.2", LLAMA, 131_072, 1, 131_072),  # adapters fall back to V0 there
        ("0.8.4", LLAMA, 131_072, 1, 2048),
        ("0.7.3", find_architecture("Mistral-Small-3.1-24B-Instruct-2503"), 65_536, 0, 65_536),
        ("0.7.3", find_architecture("Mistral-Small-3.1-24B-Instruct-2503"), 1024, 0, 5120),
        ("0.7.0", find_architecture("DeepSeek-V2-Lite-Chat"), 65_536, 0, 2048),
        ("0.7.3", find_architecture("Gemma-2-9B-it"), 65_536, 0, 65_536),
    ],
)
def test_v0_engines_run_prompts_whole_or_chunk_long_ones(
    version: str, model: ModelArchitecture, max_model_len: int, max_loras: int, tokens: int
) -> None:
    given = {"max_model_len": max_model_len}
    defaults = default_arguments(model, version_of(version), 23.58, given=given, max_loras=max_loras)
    assert defaults["max_num_batched_tokens"] == tokens


def test_a_batch_has_no_more_than_all_requests_can_have() -> None:
    given = {"max_model_len": 300, "max_num_seqs": 2}
    assert default_arguments(LLAMA, (0, 20, 0), 23.5, given=given)["max_num_batched_tokens"] == 600
    assert default_arguments(LLAMA, (0, 11, 0), 23.5, given=given)["max_num_batched_tokens"] == 2048
    few = default_arguments(LLAMA, (0, 20, 0), 23.5, given={"max_num_batched_tokens": 64})
    assert few["max_num_seqs"] == 64


def _plan(name: str) -> MemoryPlan:
    log = LOGS[name]
    model = log["model"]
    architecture = (
        find_architecture(model)
        if isinstance(model, str)
        else ModelArchitecture.model_validate({"name": name, **model})
    )
    memory = memory_model(architecture, str(log["vllm"]), log.get("weights_gib"))
    engine = EngineConfig(**log["engine"])
    return plan_memory(memory, engine, log["gpu_gib"], log["max_loras"], log["max_lora_rank"])


@pytest.mark.parametrize("name", [name for name in LOGS if name[:2] in ("06", "07", "09", "10", "11", "13")])
def test_public_logs_are_met(name: str) -> None:
    measured, plan = LOGS[name]["measured"], _plan(name)
    assert plan.kv_cache_tokens == pytest.approx(measured["kv_tokens"], rel=0.02)
    assert plan.starts == measured["starts"]
    if "loaded_gib" in measured:
        assert plan.weights_gib + plan.slots_gib == pytest.approx(measured["loaded_gib"], rel=0.02)
    if "graph_gib" in measured:
        assert plan.graph_gib == pytest.approx(measured["graph_gib"], abs=0.3)


@pytest.mark.parametrize(
    ("version", "counts_loss"), [("0.8.5", True), ("0.9.1", False), ("0.26.0", False), ("0.27.0", True)]
)
def test_what_engines_count_beside_weights_grows_with_a_second_gpu_and_what_is_lost(
    version: str, counts_loss: bool
) -> None:
    memory = memory_model(LLAMA, version)
    for gpus in (1, 2, 4):
        plan = plan_memory(memory, EngineConfig(tensor_parallel_size=gpus), 79.2, 8, 16)
        counted = memory.context_gib + memory.lora_gib - memory.uncounted_gib
        counted += memory.nccl_gib if gpus > 1 else 0.0
        assert plan.lost_gib > 0.001
        assert plan.other_gib == pytest.approx(counted + (plan.lost_gib if counts_loss else 0.0), abs=1e-9)


def test_what_was_there_before_is_no_room_for_the_engine() -> None:
    """Of 80 GiB the CUDA context has 0.51, so that the engine is not given 99.5 %."""
    memory = memory_model(LLAMA, "0.19.0")
    assert memory.uncounted_gib == 0.51
    for share, failure in ((0.99, None), (0.995, "oom_cuda")):
        engine = EngineConfig(gpu_memory_utilization=share, enforce_eager=True)
        assert plan_memory(memory, engine, 80.0, 0, 0).failure == failure


def test_a_refused_context_is_told_with_what_holds() -> None:
    plan = _plan("11_3090_llama31_8b_29k")
    assert plan.failure == "kv_below_max_model_len"
    assert plan.largest_max_model_len == pytest.approx(23_648, rel=0.02)
    assert f"lower max_model_len from 29000 to {plan.largest_max_model_len}" in plan.remedies


def test_an_engine_that_dies_at_its_graphs_has_told_its_cache() -> None:
    plan = _plan("09_48gx2_qwen3_32b_lora_tp2")
    assert plan.failure == "oom_cuda"
    assert plan.num_blocks > 0
    assert any("enforce_eager" in remedy for remedy in plan.remedies)


def _of_qwen3_4b(slots: int, **constants: float) -> MemoryPlan:
    """A start of 0.27.1 on an RTX 4090 with slots of rank 16, as a public record of nine tells it."""
    memory = memory_model(find_architecture("Qwen3-4B"), "0.27.1").model_copy(update=constants)
    engine = EngineConfig(max_model_len=8192, gpu_memory_utilization=0.85)
    return plan_memory(memory, engine, 23.52, slots, 16)


@pytest.mark.parametrize(
    ("slots", "loaded_gib", "activation_gib", "tokens"),
    [(8, 8.17, 0.83, 77_488), (16, 8.78, 0.87, 72_912), (64, 12.49, 1.09, 44_224)],
)
def test_a_first_start_on_the_new_runner_compiles_beside_a_copy_of_the_embedding(
    slots: int, loaded_gib: float, activation_gib: float, tokens: int
) -> None:
    plan = _of_qwen3_4b(slots)
    assert plan.weights_gib + plan.slots_gib == pytest.approx(loaded_gib, abs=0.015)
    assert plan.activation_gib == pytest.approx(activation_gib, abs=0.015)
    assert plan.kv_cache_tokens == pytest.approx(tokens, rel=0.01)
    assert plan.graph_gib == pytest.approx(1.28, abs=0.02)
    assert _of_qwen3_4b(slots, embedding_copies=0.0).kv_cache_tokens > plan.kv_cache_tokens


def test_the_new_runner_is_for_some_models_first_and_quantised_ones_later() -> None:
    quantised = find_architecture("Qwen3-8B-FP8")
    assert not counts_graphs((0, 22, 0), find_architecture("Qwen3-8B"))
    assert counts_graphs((0, 23, 0), quantised)
    assert not counts_graphs((0, 24, 0), quantised)
    assert memory_model(quantised, "0.23.0").embedding_copies == 0
    assert memory_model(quantised, "0.24.0").embedding_copies == 1
    assert memory_model(LLAMA, "0.27.0", v1=False).embedding_copies == 0


@pytest.mark.parametrize(("version", "times"), [("0.15.0", 0), ("0.27.1", 3), ("0.28.0", 2)])
def test_a_tied_output_layer_that_is_the_embedding_has_slots_of_both(version: str, times: int) -> None:
    model, engine = find_architecture("Qwen3-4B"), EngineConfig(max_model_len=8192)
    with_all, of_layers = (
        plan_memory(memory_model(model, version), engine.model_copy(update=change), 79.2, 64, 16).slots_gib
        for change in ({}, {"lora_target_modules": _LAYERS})
    )
    of_a_table = 64 * 16 * (model.vocab_size + model.hidden_size) * 2 / 2**30
    assert with_all - of_layers == pytest.approx(times * of_a_table, rel=0.02, abs=0.001)


_LAYERS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    ("tokens", "counted_gib"),
    # Budget less weights, KV cache and estimate of the graphs in three public starts of one author.
    [(8192, 3.68), (32_768, 7.55), (65_536, 12.38)],
)
def test_experts_in_8_bits_need_both_buffers_and_their_inputs(tokens: int, counted_gib: float) -> None:
    memory = memory_model(find_architecture("Qwen3-235B-A22B-FP8"), "0.20.0")
    engine = EngineConfig(
        max_num_seqs=128,
        max_num_batched_tokens=tokens,
        max_model_len=32_768,
        tensor_parallel_size=4,
        enable_expert_parallel=True,
    )
    plan = plan_memory(memory, engine, 79.19, 0, 0)
    assert plan.activation_gib + plan.other_gib == pytest.approx(counted_gib, abs=0.3)


def test_graphs_follow_the_kind_of_gpu_and_of_model() -> None:
    def graphs(name: str, version: str, capability: str | None, **arguments: Any) -> float:
        memory = memory_model(find_architecture(name), version)
        memory = memory if capability is None else memory.on_gpu(capability)
        given = {"max_num_seqs": 1024, "max_num_batched_tokens": 8192} | arguments
        return plan_memory(memory, EngineConfig(**given), 141.0, 0, 0).graph_gib

    hopper, ampere = (graphs("Llama-3.1-8B-Instruct", "0.19.0", kind) for kind in ("9.0", "8.0"))
    assert hopper == graphs("Llama-3.1-8B-Instruct", "0.19.0", None)  # by its memory
    assert hopper - ampere == pytest.approx(32 * 512 * 4096 * 4 / 2**30)
    before, since = (graphs("Llama-3.1-8B-Instruct", version, "10.0") for version in ("0.27.0", "0.28.0"))
    assert since > 1.5 * before
    # 67 piecewise and 67 whole graphs took 2.37 GiB of an H200 in a log of 0.10.2.
    states = graphs("Qwen3-Next-80B-A3B-Instruct", "0.10.2", "9.0", tensor_parallel_size=2)
    assert states == pytest.approx(2.37, abs=0.2)


def test_gpt_oss_has_graphs_up_to_1024_whatever_the_requests() -> None:
    memory = memory_model(find_architecture("gpt-oss-20b"), "0.19.0").on_gpu("8.0")
    engine = EngineConfig(max_num_seqs=1, max_num_batched_tokens=8192)
    plan = plan_memory(memory, engine, 79.15, 0, 0)
    # 83 sizes and a whole graph of one request, each 0.19 MiB × 1.25 in 24 layers.
    assert plan.graph_gib == pytest.approx(0.04 + 84 * 24 * 1.25 * memory.graph_layer_gib / 67)


def test_a_v0_engine_that_chunks_prompts_has_room_for_the_logits_alone() -> None:
    memory = memory_model(LLAMA, "0.7.3")
    engine = EngineConfig(max_num_batched_tokens=2048, max_model_len=131_072)
    plan = plan_memory(memory, engine, 22.07, 0, 0)
    assert plan.activation_gib == pytest.approx(0.22, abs=0.01)
    assert plan.kv_cache_tokens == pytest.approx(37_696, rel=0.005)
    assert plan.failure == "kv_below_max_model_len"
    with_adapters = plan_memory(memory, engine, 22.07, 1, 16)
    assert with_adapters.activation_gib == pytest.approx(1.22, abs=0.01)


def test_gpt_oss_ran_on_marlins_kernels_until_tritons_came_with_the_release() -> None:
    model = find_architecture("gpt-oss-120b")
    engine = EngineConfig(max_num_seqs=1024, max_num_batched_tokens=8192, max_model_len=131_072)
    plan = plan_memory(memory_model(model, "0.10.1"), engine, 79.19, 0, 0)
    assert plan.weights_gib == pytest.approx(65.9651, abs=0.02)
    assert plan.kv_gib == pytest.approx(-2.14, abs=0.1)
    assert plan.failure == "no_kv_memory"
    assert plan_memory(memory_model(model, "0.12.0"), engine, 79.19, 0, 0).weights_gib < 63
