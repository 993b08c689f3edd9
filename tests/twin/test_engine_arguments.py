"""Every argument of an engine is modelled, said not to be, or refused with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

import scenarios
import twin
from scenarios import EngineConfig, FurtherArguments, PlacedGPU, Placement, ScenarioError
from scenarios.engine import MaxLoraRank
from tests.scenario_schema import scenario_validator
from twin.load import GPULoad
from twin.memory.versions import lora_ranks
from twin.startup import unmodelled
from twin.startup.from_log import arguments_of
from twin.startup.unmodelled import EFFECTS, UNMODELLED

ROOT = Path(__file__).parents[2]
SCENARIO = """
name: t
model: llama-3.1-8b-instruct
adapters: [{{name: a, rank: 16, rate: 0.5}}]
workload: {{prompt: 200, output: 100}}
devices: [{{name: H100-64GB, count: 2}}]
engine: {{{engine}}}
"""
"""A scenario whose engine is to be filled in."""

FLAGS = (
    "kv_cache_dtype: fp8",
    "quantization: awq",
    "enforce_eager: true",
    "pipeline_parallel_size: 2",
    "enable_prefix_caching: true",
    "max_num_partial_prefills: 2",
    "num_gpu_blocks_override: 1000",
    "fully_sharded_loras: true",
    "lora_dtype: bfloat16",
    "enable_expert_parallel: true",
    "cpu_offload_gb: 8",
    "speculative_config: {}",
    "enable_chunked_prefill: true",
    "data_parallel_size: 2",
)
"""Arguments that users of vLLM set in public reports."""

MODELLED_BESIDE = (
    "speculative_config",
    "enable_prefix_caching",
    "async_scheduling",
    "scheduler_reserve_full_isl",
    "watermark",
    "max_num_scheduled_tokens",
    "max_num_active_seqs",
    "kv_cache_memory_bytes",
    "enable_lora",
    "enable_chunked_prefill",
)

WITHOUT_A_LINE = (
    "num_gpu_blocks_override: 1000",
    "enable_chunked_prefill: true",
    "enable_prefix_caching: true",
)
"""Those of them that are modelled in full."""


def read(engine: str) -> scenarios.Scenario:
    return scenarios.loads(SCENARIO.format(engine=engine))


def said(engine: str) -> list[str]:
    scenario = read(engine)
    return list(unmodelled(scenario, twin.profiles_of(scenario)))


@pytest.mark.parametrize("flag", FLAGS)
def test_arguments_of_public_reports_are_modelled_or_accepted_with_one_line(flag: str) -> None:
    lines = said(flag)
    if flag in WITHOUT_A_LINE:
        assert not lines
        return
    (line,) = lines
    assert line.startswith(f"engine.{flag.partition(':')[0]} ")
    assert re.search(r"(plans|they) (may (have|be) (more GPUs|too few GPUs|off)|do not depend)", line)


@pytest.mark.parametrize("flag", FLAGS)
def test_the_schema_knows_the_arguments_of_public_reports(flag: str) -> None:
    name, _, value = flag.partition(": ")
    values = {"true": True, "{}": {}}
    given: Any = values.get(value, int(value) if value.isdigit() else value)
    document = read("").model_dump(mode="json")
    scenario_validator().validate(document | {"engine": {name: given}})


def test_every_argument_that_may_be_left_out_is_modelled_or_told_of() -> None:
    assert UNMODELLED.keys() | set(MODELLED_BESIDE) == FurtherArguments.model_fields.keys()
    assert not UNMODELLED.keys() & set(MODELLED_BESIDE)


def test_the_page_tells_what_the_lines_tell() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    page = text.partition("## Arguments of the engine")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", page, flags=re.M)
    effects = {name: effect for names, effect in rows for name in re.findall(r"`(\w+)`", names)}
    expected = EFFECTS | {name: argument.effect for name, argument in UNMODELLED.items()}
    assert {name: effects.get(name) for name in expected} == expected
    assert EngineConfig.model_fields.keys() <= set(re.findall(r"`(\w+)`", page))


@pytest.mark.parametrize("name", UNMODELLED)
def test_what_vllm_takes_by_default_is_not_told(name: str) -> None:
    for value in UNMODELLED[name].modelled:
        engine = EngineConfig.model_validate({name: value})
        scenario = read("").model_copy(update={"engine": engine})
        assert not list(unmodelled(scenario, {}))


@pytest.mark.parametrize(
    ("engine", "path", "remedy"),
    [
        ("enable_chunked_prefill: false", "engine.enable_chunked_prefill", "leave it out"),
        ("enable_lora: false", "engine.enable_lora", "leave it out"),
        ("max_model_len: auto", "engine.max_model_len", "give the longest sequence"),
        ("max_model_len: -1", "engine.max_model_len", "give the longest sequence"),
        (
            "served_model_name: mine",
            "engine.served_model_name",
            "`lorapack scenarios schema` tells the keys",
        ),
        ("max_lora_rank: 24", "engine.max_lora_rank", "use 1, 8, 16"),
        ("watermark: 1", "engine.watermark", "below 1"),
        ("swap_space: true", "engine.swap_space", "give a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(engine: str, path: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(engine)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert remedy in str(problem)


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ("{step_factor: 1.2}", "mean_acceptance_length", "is missing beside step_factor"),
        ("{mean_acceptance_length: 2, step_factor: 1}", "num_speculative_tokens", "is missing beside"),
        (
            "{num_speculative_tokens: 2, mean_acceptance_length: 3.5, step_factor: 1}",
            "mean_acceptance_length",
            "is 3.5, above 1 + num_speculative_tokens, 3",
        ),
        ("{tokens_per_step: 2}", "tokens_per_step", "is not a key"),
    ],
)
def test_figures_of_speculation_that_cannot_be_are_refused(config: str, key: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(f"speculative_config: {config}")
    (problem,) = caught.value.problems
    assert problem.path == f"engine.speculative_config.{key}"
    assert message in str(problem)


MEASURED = "num_speculative_tokens: 3, mean_acceptance_length: 2.4, step_factor: 1.3"


def test_a_model_that_proposes_is_told_to_take_memory_until_the_blocks_are_said() -> None:
    (line,) = said(f"speculative_config: {{method: eagle3, {MEASURED}}}")
    assert line.endswith("set engine.num_gpu_blocks_override to what your server logs")
    assert not said(f"speculative_config: {{method: ngram, {MEASURED}}}")
    assert not said(f"speculative_config: {{method: eagle3, {MEASURED}}}, num_gpu_blocks_override: 9000")


def test_what_is_not_given_is_neither_written_nor_part_of_a_digest() -> None:
    plain, given = read(""), read("scheduling_policy: priority, kv_transfer_config: {kv_role: kv_both}")
    written = scenarios.dumps(plain, defaults=True)
    assert not [name for name in FurtherArguments.model_fields if name in written]
    assert not plain.engine.model_dump().keys() & FurtherArguments.model_fields.keys()
    assert "scheduling_policy" not in repr(plain.engine)
    assert plain.digest != given.digest
    assert scenarios.loads(scenarios.dumps(given)) == given


def test_arguments_of_a_scheduler_reach_the_engine() -> None:
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    load = GPULoad.from_classes(read("").classes)
    engine = EngineConfig(
        scheduler_reserve_full_isl=True, watermark=0.02, max_num_active_seqs=64, max_num_scheduled_tokens=1024
    )
    setup = twin.build_setup(profile, engine, load, max_loras=8, max_lora_rank=16)
    assert (setup.rules.reserve_full_isl, setup.rules.watermark) == (True, 0.02)
    assert (setup.max_num_seqs, setup.max_num_batched_tokens) == (64, 1024)
    plain = twin.build_setup(profile, EngineConfig(), load, max_loras=8, max_lora_rank=16)
    assert plain.rules is profile.rules
    assert setup.usable_blocks == plain.usable_blocks


def test_the_engine_keeps_one_block_to_itself() -> None:
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    load = GPULoad.from_classes(read("").classes)
    plan = twin.plan_memory(profile.memory, EngineConfig(), profile.gpu_memory_gib, 8, 16)
    setup = twin.build_setup(profile, EngineConfig(), load, max_loras=8, max_lora_rank=16)
    assert setup.usable_blocks == plan.num_blocks - 1
    stated = twin.build_setup(
        profile, EngineConfig(), load, max_loras=8, max_lora_rank=16, kv_cache_tokens=1600
    )
    assert stated.usable_blocks == 100 - 1


def test_bytes_of_the_kv_cache_count_whatever_share_of_the_gpu_is_used() -> None:
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    plans = [
        twin.plan_memory(
            profile.memory,
            EngineConfig(kv_cache_memory_bytes=8 * 2**30, gpu_memory_utilization=share),
            profile.gpu_memory_gib,
            8,
            16,
        )
        for share in (0.6, 0.9)
    ]
    assert [plan.kv_gib for plan in plans] == [8.0, 8.0]
    # 32 layers, keys and values of 8 heads of 128 numbers of 2 bytes
    assert plans[0].kv_cache_tokens == 8 * 2**30 // (32 * 2 * 8 * 128 * 2)


def test_ranks_of_slots_are_those_of_the_release() -> None:
    old = set(lora_ranks((0, 8, 5)))
    assert set(lora_ranks((0, 11, 1))) == set(get_args(MaxLoraRank)) == old | {1}
    assert set(scenarios.engine.MAX_LORA_RANKS) == old


def test_a_rank_that_the_release_does_not_take_is_refused() -> None:
    scenario = scenarios.override(read(""), ["adapters[0].rank=1", "engine.max_lora_rank=1"])
    with pytest.raises(twin.EngineArgumentError, match=r"is 1; vLLM 0\.8\.5 on H100-64GB takes 8, 16"):
        twin.profiles_of(scenario)


def test_an_answer_about_memory_tells_what_is_not_modelled() -> None:
    answers = [
        twin.ask_memory("Llama-3.1-8B-Instruct", device="A100-80GB", arguments=arguments)
        for arguments in ({}, {"enable_sleep_mode": True})
    ]
    more = set(answers[1].remarks) - set(answers[0].remarks)
    assert {line.partition(":")[0] for line in more} == {"engine.enable_sleep_mode is not modelled"}
    assert answers[0].plan == answers[1].plan


def test_a_log_tells_only_arguments_that_memory_depends_on() -> None:
    given = "{'enable_chunked_prefill': False, 'data_parallel_size': 2, 'max_num_seqs': 64}"
    lines = [f"INFO 05-05 10:00:00 non-default args: {given}", "INFO Model loading took 14.99 GiB"]
    log = scenarios.parse_startup_log(lines)
    assert log.arguments["data_parallel_size"] == 2
    assert arguments_of(log) == {"max_num_seqs": 64}


def test_a_release_that_nobody_has_read_is_told_with_every_verdict() -> None:
    shipped = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    newer = shipped.model_copy(update={"engine_version": "0.99.0"})
    scenario = scenarios.override(scenarios.read("paper_high_32"), ["replications=1"])
    scenario = scenarios.override(scenario, ["acceptance=paper", "workload.duration_s=600"])
    names = tuple(name for group in scenario.classes for name in group.names)
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=32, max_lora_rank=32, adapters=names)
    placement = Placement(gpus=(gpu,))
    told = "vLLM 0.99.0 of H100-64GB is newer than 0.33.0"
    report = twin.validate(scenario, placement, profiles={"H100-64GB": newer})
    assert any(told in note for note in report.notes)
    assert report.to_dict()["unread"] == {"H100-64GB": "0.99.0"}
    assert any(told in line for line in unmodelled(scenario, {"H100-64GB": newer}))
    known = twin.validate(scenario, placement, profiles={"H100-64GB": shipped})
    assert "unread" not in known.to_dict()
    assert known.gpus == report.gpus


def test_asynchronous_scheduling_is_refused_where_the_release_has_none() -> None:
    scenario = scenarios.override(scenarios.read("paper_high_32"), ["engine.async_scheduling=true"])
    with pytest.raises(twin.EngineArgumentError, match=r"vLLM 0\.8\.5.* has no asynchronous scheduling"):
        twin.profiles_of(scenario)
