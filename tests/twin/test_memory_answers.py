"""Questions about memory: how sure the answer is, a user's own log, and scenarios without profiles."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import scenarios
import twin
from scenarios import EngineConfig, ScenarioError, StartupLog
from twin.architectures import Quantization, find_architecture, read_architecture
from twin.memory import memory_model, plan_memory
from twin.startup import memory_without_profiles, unmodelled

LLAMA = "llama-3.1-8b"


def test_what_was_measured_is_said_to_be() -> None:
    measured = twin.ask_memory(LLAMA, device="H100-64GB", engine_version="0.8.5", max_loras=8)
    other = twin.ask_memory(LLAMA, device="A100-80GB", engine_version="0.8.5", max_loras=8)
    assert (measured.basis, other.basis) == ("measured", "derived")
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    assert measured.plan == plan_memory(profile.memory, measured.engine, 63.43, 8, 16)
    assert measured.usual_error
    assert other.usual_error


def test_the_defaults_are_the_engines_and_are_named() -> None:
    answer = twin.ask_memory(LLAMA, device="H100-80GB", engine_version="0.19.0", max_loras=0)
    assert (answer.engine.max_num_seqs, answer.engine.max_num_batched_tokens) == (1024, 8192)
    assert "max_model_len 131,072" in answer.assumed
    given = twin.ask_memory(LLAMA, device="H100-80GB", arguments={"max_model_len": 4096, "max_num_seqs": 64})
    assert (given.engine.max_model_len, given.engine.max_num_seqs) == (4096, 64)
    assert not any(name.startswith(("max_model_len", "max_num_seqs")) for name in given.assumed)
    assert (given.max_loras, given.max_lora_rank) == (1, 16)  # vLLM's own


def test_a_question_without_a_gpu_is_refused() -> None:
    with pytest.raises(twin.MemoryQuestionError, match="neither a device nor its memory"):
        twin.ask_memory(LLAMA)


@pytest.mark.slow
def test_ranks_are_those_that_the_release_takes() -> None:
    assert twin.ask_memory(LLAMA, device="A100-80GB", max_lora_rank=1).max_lora_rank == 1
    for version, rank, taken in (("0.10.2", 1, "8, 16"), ("0.7.0", 512, "128 or 256"), ("0.5.4", 128, "64")):
        with pytest.raises(twin.MemoryQuestionError, match=f"vLLM {version} takes .*{taken}"):
            twin.ask_memory(LLAMA, device="A100-80GB", engine_version=version, max_lora_rank=rank)
    assert twin.ask_memory(LLAMA, device="A100-80GB", max_loras=0, max_lora_rank=24).plan.starts
    surveyed = twin.survey_memory(LLAMA, engine_version="0.5.4", ranks=(8, 64, 128))
    assert set(surveyed[0].largest_max_loras) == {8, 64}


def test_gpus_before_ampere_ran_v0_longer() -> None:
    def tokens(device: str, version: str) -> int:
        arguments = {"max_model_len": 8192}
        answer = twin.ask_memory("Qwen3-4B", device=device, engine_version=version, arguments=arguments)
        return answer.engine.max_num_batched_tokens

    assert tokens("T4", "0.10.1") == 8192
    assert tokens("T4", "0.10.2") == 2048
    assert tokens("A10", "0.10.1") == 2048


def test_a_first_start_says_what_a_warm_compile_cache_saves() -> None:
    cold = twin.ask_memory("Qwen3-4B", device="RTX-4090", engine_version="0.27.1", max_loras=8)
    assert any("counts 0.62 GiB less" in remark for remark in cold.remarks)
    runner = twin.ask_memory("Qwen3-4B", device="RTX-4090", engine_version="0.19.0", max_loras=8)
    assert not any("compile cache" in remark for remark in runner.remarks)


@pytest.mark.parametrize(
    ("version", "nearest"), [("0.3.0", "0.4.0"), ("0.40.0", "0.32.0"), ("1.2.3", "0.32.0")]
)
def test_releases_that_were_not_read_are_told(version: str, nearest: str) -> None:
    answer = twin.ask_memory(LLAMA, device="A100-80GB", engine_version=version, max_loras=0)
    assert any(f"the rules are those of {nearest}" in remark for remark in answer.remarks)
    assert not twin.ask_memory(LLAMA, device="A10", engine_version="0.10.2", max_loras=0).remarks


def test_a_checkpoint_that_lists_every_matrix_is_answered_in_time() -> None:
    model = find_architecture("Qwen3-8B")
    groups = [
        {"kind": "fp8", "targets": [f"model.layers.{layer}.{name}"]}
        for layer in range(model.num_hidden_layers)
        for name in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    ]
    listed = model.model_copy(update={"quantization": Quantization(method="modelopt", groups=groups)})
    begun = time.process_time()
    assert twin.ask_memory(listed, gpu_memory_gib=79.2, max_loras=8).plan.largest_max_loras
    assert time.process_time() - begun < 5  # every number of slots once looked all of them up again


def test_an_own_log_is_met_and_extrapolated() -> None:
    log = StartupLog(
        engine_version="0.19.0",
        v1=True,
        gpu_total_gib=79.19,
        arguments={"max_model_len": 16384, "max_num_seqs": 1024, "max_num_batched_tokens": 8192}
        | {"gpu_memory_utilization": 0.95},
        weights_gib=15.3,
        activation_gib=2.5,
        non_torch_gib=0.9,
        graph_gib=1.4,
        kv_cache_gib=56.0,
        kv_cache_tokens=458_752,
    )
    same = twin.ask_memory(LLAMA, startup_log=log, max_loras=0)
    assert same.basis == "from your log"
    assert same.plan.kv_gib == pytest.approx(56.0, abs=0.01)
    assert same.plan.kv_cache_tokens == pytest.approx(458_752, rel=0.001)
    assert same.plan.weights_gib == pytest.approx(15.3, abs=0.001)
    assert same.plan.activation_gib == pytest.approx(2.5, abs=0.01)
    assert same.plan.graph_gib == pytest.approx(1.4, abs=0.01)
    more = twin.ask_memory(LLAMA, startup_log=log, max_loras=64, max_lora_rank=32)
    computed = plan_memory(memory_model(find_architecture(LLAMA), "0.19.0"), more.engine, 79.19, 64, 32)
    assert more.plan.slots_gib == pytest.approx(computed.slots_gib, abs=0.01)
    assert more.plan.kv_gib < same.plan.kv_gib - more.plan.slots_gib + 0.3
    fewer = twin.ask_memory(LLAMA, startup_log=log, max_loras=0, arguments={"max_num_seqs": 256})
    assert fewer.plan.activation_gib < same.plan.activation_gib
    lower = twin.ask_memory(LLAMA, startup_log=log, max_loras=0, arguments={"gpu_memory_utilization": 0.9})
    assert same.plan.kv_gib - lower.plan.kv_gib == pytest.approx(0.05 * 79.19, abs=0.01)


def test_a_log_that_says_little_still_counts() -> None:
    log = StartupLog(engine_version="0.8.5", gpu_total_gib=63.43, num_gpu_blocks=20_000)
    answer = twin.ask_memory(LLAMA, startup_log=log, max_loras=0, arguments={"max_model_len": 16_384})
    assert answer.plan.num_blocks == pytest.approx(20_000, abs=800)


def test_offloading_overriding_and_host_memory() -> None:
    memory = memory_model(find_architecture(LLAMA), "0.19.0")
    plain = plan_memory(memory, EngineConfig(), 23.6, 4, 16)
    offloaded = plan_memory(memory, EngineConfig(cpu_offload_gb=8), 23.6, 4, 16)
    assert offloaded.offloaded_gib == 8
    assert offloaded.weights_gib == pytest.approx(plain.weights_gib - 8)
    assert offloaded.kv_gib == pytest.approx(plain.kv_gib + 8)
    told = plan_memory(memory, EngineConfig(num_gpu_blocks_override=1000), 79.2, 4, 16)
    assert (told.num_blocks, told.kv_cache_tokens) == (1000, 16_000)
    assert told.failure == "kv_below_max_model_len"
    kept = plan_memory(memory, EngineConfig(max_cpu_loras=40), 79.2, 4, 16)
    assert kept.cpu_loras_gib == pytest.approx(
        10 * plan_memory(memory, EngineConfig(), 79.2, 4, 16).cpu_loras_gib
    )
    eager = plan_memory(memory, EngineConfig(enforce_eager=True), 79.2, 4, 16)
    assert eager.graph_gib == 0


def test_pipelines_divide_layers_and_the_last_stage_samples() -> None:
    memory = memory_model(find_architecture(LLAMA), "0.19.0")
    engine = {"max_num_seqs": 1024, "max_num_batched_tokens": 8192, "gpu_memory_utilization": 0.95}
    two = plan_memory(memory, EngineConfig(pipeline_parallel_size=2, **engine), 79.19, 0, 0)
    assert two.kv_cache_tokens == pytest.approx(1_075_312, rel=0.005)  # measured: tests/twin/data
    with pytest.raises(twin.memory.TensorParallelError, match="pipeline_parallel_size is 64"):
        plan_memory(memory, EngineConfig(pipeline_parallel_size=64), 79.19, 0, 0)


def test_more_gpus_than_a_gpu_can_give_room_for_are_refused() -> None:
    memory = memory_model(find_architecture(LLAMA), "0.19.0")
    plan = plan_memory(memory, EngineConfig(gpu_memory_utilization=1.0), 79.19, 0, 0)
    assert plan.failure == "oom_cuda"  # less than all is free when the engine begins


@pytest.mark.slow
def test_every_gpu_of_the_catalogue_is_surveyed() -> None:
    surveyed = twin.survey_memory(LLAMA, engine_version="0.19.0", max_loras=4, ranks=(8, 64))
    assert len(surveyed) == len(scenarios.gpus())
    sizes = [one.answer.plan.gpu_gib for one in surveyed]
    assert sizes == sorted(sizes)
    l4 = next(one for one in surveyed if one.device == "L4")
    h200 = next(one for one in surveyed if one.device == "H200")
    assert (l4.largest_max_loras[8] or 0) < (h200.largest_max_loras[8] or 0)
    assert (h200.largest_max_loras[64] or 0) < (h200.largest_max_loras[8] or 0)
    assert (
        json.loads(json.dumps(h200.to_dict()))["largest_max_loras_by_rank"]["8"] == h200.largest_max_loras[8]
    )


OTHER_GPU = """
name: a100
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 40, rank: 16, rate: 0.08}]
workload: {prompt: 1200, output: 250}
devices: [{name: A100-80GB, count: 2}, {name: H100-64GB}, {name: mine, memory_gib: 12}, {name: unheard-of}]
engine: {max_model_len: 8192, max_loras: 8}
"""


def test_memory_is_told_where_no_profile_is_known() -> None:
    said = list(memory_without_profiles(scenarios.loads(OTHER_GPU)))
    assert len(said) == 3
    assert "memory on A100-80GB" in said[0]
    assert "it starts, with" in said[0]
    assert "does not start" in said[1]
    assert "not known" in said[2]


def test_a_renamed_copy_of_a_profile_is_refused(tmp_path: Path) -> None:
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    path = tmp_path / "copy.json"
    twin.write_profile(profile.model_copy(update={"device": "A100-40GB", "gpu_memory_gib": 39.39}), path)
    with pytest.raises(twin.ProfileError, match=r"measured with llama-3\.1-8b-instruct on H100-64GB"):
        twin.read_profile(path)
    twin.write_profile(profile.model_copy(update={"name": "my name for it"}), path)
    assert twin.read_profile(path).name == "my name for it"


def test_a_quantised_model_is_never_read_as_16_bits(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    quantised = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantised))
    memory = memory_model(read_architecture(tmp_path, name="by ModelOpt"), "0.15.0")
    plan = plan_memory(memory, EngineConfig(max_model_len=8192), 79.1, 0, 16)
    assert plan.weights_gib == pytest.approx(67.8, rel=0.005)


@pytest.mark.parametrize(("gpus", "experts_gib"), [(2, 4.13), (4, 2.81)])
def test_experts_have_slots_of_their_own_in_newer_engines(gpus: int, experts_gib: float) -> None:
    mixtral = find_architecture("Mixtral-8x7B-Instruct-v0.1")
    engine = EngineConfig(max_model_len=8192, tensor_parallel_size=gpus)
    old, new = (plan_memory(memory_model(mixtral, v), engine, 79.1, 4, 64) for v in ("0.8.5", "0.15.0"))
    assert new.slots_gib - old.slots_gib == pytest.approx(experts_gib, abs=0.1)


def test_what_step_times_do_not_know_is_told_with_how_it_errs() -> None:
    scenario = scenarios.read("mixed_ranks", ["engine.enforce_eager=true", "engine.kv_cache_dtype=fp8"])
    said = list(unmodelled(scenario, twin.profiles_of(scenario)))
    assert len(said) == 2
    assert "engine.enforce_eager is not in the step times of H100-64GB" in said[1]
    assert said[1].endswith("plans may have too few GPUs")
    plain = scenarios.read("mixed_ranks")
    assert not list(unmodelled(plain, twin.profiles_of(plain)))


def test_fewer_adapters_in_cpu_memory_than_a_plans_slots_are_no_fault_of_an_engine_with_fewer() -> None:
    """Its own slots count, not those that a placer might choose; vLLM refuses more slots than that."""
    asked: dict[str, Any] = {"device": "A100-80GB", "arguments": {"max_cpu_loras": 4}}
    answer = twin.ask_memory("Llama-3.1-8B-Instruct", max_loras=4, **asked)
    assert answer.plan.starts
    assert (answer.engine.max_loras, answer.engine.max_cpu_loras) == (4, 4)
    assert twin.ask_memory("Llama-3.1-8B-Instruct", max_loras=0, **asked).plan.starts
    with pytest.raises(ScenarioError, match="max_cpu_loras is 4, below max_loras 8"):
        twin.ask_memory("Llama-3.1-8B-Instruct", max_loras=8, **asked)
