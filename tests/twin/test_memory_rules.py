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

    assert of("0.6.4", 79.2) == (256, 131_072, 0.9)
    assert of("0.8.5", 63.4) == (256, 2048, 0.9)
    assert of("0.8.2", 79.2) == (256, 2048, 0.9)
    assert of("0.8.2", 79.2, "H100-80GB") == (1024, 8192, 0.9)
    assert of("0.19.0", 79.2) == (1024, 8192, 0.9)
    assert of("0.19.0", 79.2, "A100-80GB") == (256, 2048, 0.9)
    assert of("0.20.0", 23.6) == (256, 2048, 0.92)
    assert of("0.32.0", 178.0) == (1024, 16_384, 0.92)


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
