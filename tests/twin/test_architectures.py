"""Shipped architectures have the published sizes; damaged config.json files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twin.architectures import (
    ArchitectureError,
    ModelArchitecture,
    find_architecture,
    read_architecture,
    shipped_architectures,
)

# Parameters as counted from the published checkpoints, without layers that only predict further tokens.
PARAMETERS = {
    "Llama-3.1-8B-Instruct": 8_030_261_248,
    "Llama-3.1-70B-Instruct": 70_553_706_496,
    "Llama-3.1-405B-Instruct": 405_853_388_800,
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "Llama-2-7B": 6_738_415_616,
    "Llama-2-13B": 13_015_864_320,
    "Llama-2-70B": 68_976_648_192,
    "CodeLlama-7b": 6_738_546_688,
    "CodeLlama-13b": 13_016_028_160,
    "CodeLlama-34b": 33_743_970_304,
    "TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "Yi-1.5-34B-Chat": 34_388_917_248,
    "SmolLM2-135M-Instruct": 134_515_008,
    "SmolLM2-360M-Instruct": 361_821_120,
    "SmolLM2-1.7B-Instruct": 1_711_376_384,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen2.5-72B-Instruct": 72_706_203_648,
    "DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Qwen3-235B-A22B": 235_093_634_560,
    "Qwen1.5-MoE-A2.7B-Chat": 14_315_784_192,
    "Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "OLMo-2-1124-7B-Instruct": 7_298_617_344,
    "OLMoE-1B-7B-0924-Instruct": 6_919_161_856,
    "Phi-3-medium-4k-instruct": 13_960_238_080,
    "granite-3.3-8b-instruct": 8_170_864_640,
    "Ministral-8B-Instruct-2410": 8_019_808_256,
    "Codestral-22B-v0.1": 22_247_282_688,
    "Falcon3-7B-Instruct": 7_455_550_464,
    "Llama-4-Maverick-17B-128E-Instruct": 401_583_781_376,
    # 110,468,824,832, 358,337,791,296 and 81,324,862,720 with the layers that predict a further token.
    "GLM-4.5-Air": 106_852_251_264,
    "GLM-4.5": 352_797_829_024,
    "Qwen3-Next-80B-A3B-Instruct": 79_674_391_296,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "Mistral-Small-3.1-24B-Instruct-2503": 24_011_361_280,
    "Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "Gemma-2b": 2_506_172_416,
    "Gemma-7b": 8_537_680_896,
    "Gemma-2-2B-it": 2_614_341_888,
    "Gemma-2-9B-it": 9_241_705_984,
    "Gemma-2-27B-it": 27_227_128_320,
    "Gemma-3-1B-it": 999_885_952,
    "Gemma-3-4B-it": 4_300_079_472,
    "Gemma-3-12B-it": 12_187_325_040,
    "Gemma-3-27B-it": 27_432_406_640,
    "Phi-2": 2_779_683_840,
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "Phi-4": 14_659_507_200,
    "Phi-4-mini-instruct": 3_836_021_760,
    "DeepSeek-V2-Lite-Chat": 15_706_484_224,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "GLM-4-9B-0414": 9_400_279_040,
    "Llama-4-Scout-17B-16E-Instruct": 108_641_793_536,
}

# As their makers round them, in billions.
BILLIONS = {
    "DeepSeek-V3": 671,
    "Kimi-K2-Instruct": 1026,
    "MiniMax-M2.5": 229,
    "Qwen3-Coder-480B-A35B-Instruct": 480,
    "Qwen3.5-122B-A10B": 123,
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31.6,
    "Llama-3.3-Nemotron-Super-49B-v1": 49.9,
    "Mixtral-8x22B-v0.1": 140.6,
    "granite-3.1-8b-instruct": 8.17,
    "Qwen3-VL-4B-Instruct": 4.44,
    "Qwen3-VL-8B-Instruct": 8.77,
}

CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "rope_theta": 500000.0,
}


def _write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_shipped_models_have_their_published_numbers_of_parameters() -> None:
    counted = {a.name: a.parameters for a in shipped_architectures()}
    assert {name: counted[name] for name in PARAMETERS} == PARAMETERS
    for name, billions in BILLIONS.items():
        assert counted[name] / 1e9 == pytest.approx(billions, rel=0.005), name


def test_every_shipped_model_is_found_by_its_own_name_and_says_where_its_facts_are_from() -> None:
    shipped = shipped_architectures()
    assert len(shipped) >= 60
    assert len({architecture.name for architecture in shipped}) == len(shipped)
    for architecture in shipped:
        assert find_architecture(architecture.name) is architecture
        assert architecture.source


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("qwen-2.5-7b-instruct", "Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-7B", "Qwen2.5-7B-Instruct"),
        ("google/gemma-2-9b", "Gemma-2-9B-it"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama-2-7B"),
        ("microsoft/phi-4", "Phi-4"),
        ("mistralai/Mistral-7B-Instruct-v0.1", "Mistral-7B-v0.1"),
        ("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", "Llama-3.3-70B-Instruct-FP8-dynamic"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "nvidia/Llama-3.1-70B-Instruct-FP8"),
        ("Llama-3.1-70B-FP8", "nvidia/Llama-3.1-70B-Instruct-FP8"),
    ],
)
def test_names_are_found_however_they_are_written(name: str, found: str) -> None:
    assert find_architecture(name).name == found


@pytest.mark.parametrize("name", ["", "/", "gpt-5", "Llama-3.1", "Llama-3.1-80B"])
def test_unknown_names_list_the_nearest_that_are_shipped(name: str) -> None:
    with pytest.raises(ArchitectureError, match=r"the nearest of \d+ are .*path of the model's config.json"):
        find_architecture(name)


@pytest.mark.parametrize(
    "name",
    [
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
        "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
        "Qwen/Qwen3-8B-AWQ",
        "Qwen/Qwen3-4B-FP8",
        "RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8",
    ],
)
def test_a_quantised_checkpoint_is_not_answered_with_another(name: str) -> None:
    with pytest.raises(ArchitectureError, match="no shipped model"):
        find_architecture(name)


def test_a_config_is_read_from_the_file_or_its_folder(tmp_path: Path) -> None:
    path = _write(tmp_path, CONFIG)
    read = read_architecture(path, name="mine")
    assert (read.name, read.head_dim, read.parameters) == ("mine", 128, PARAMETERS["Llama-3.1-8B-Instruct"])
    assert read_architecture(tmp_path).name == tmp_path.name
    assert read_architecture(_write(tmp_path, {**CONFIG, "_name_or_path": "x/y"})).name == "x/y"


def test_what_a_family_leaves_unsaid_is_filled_in(tmp_path: Path) -> None:
    assert read_architecture(_write(tmp_path, {**CONFIG, "model_type": "qwen2"})).attention_bias
    assert read_architecture(_write(tmp_path, {**CONFIG, "model_type": "gemma2"})).tie_word_embeddings
    multi_head = {key: value for key, value in CONFIG.items() if key != "num_key_value_heads"}
    assert read_architecture(_write(tmp_path, multi_head)).num_key_value_heads == 32
    newer = {key: value for key, value in CONFIG.items() if key != "torch_dtype"} | {"dtype": "float16"}
    assert read_architecture(_write(tmp_path, newer)).torch_dtype == "float16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "rwkv"}, 'model_type is "rwkv", whose layers are not known'),
        ({"model_type": "t5"}, 'model_type is "t5", of which is missing: encoders'),
        ({"model_type": None}, "states no model_type"),
        ({"model_type": ["llama"]}, "states no model_type"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "big"}, 'hidden_size is the text "big"; give a whole number'),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1; give at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_key_value_heads": 7}, "is no multiple of num_key_value_heads 7"),
        ({"torch_dtype": "int4"}, "torch_dtype"),
        ({"quantization_config": {"bits": 4}}, "method None, whose weights are not computed"),
        ({"layer_types": ["full_attention"]}, "layer_types has not one entry for each"),
        ({"layer_types": ["linear_attention"] * 32}, "linear_attention, which is no layer of a llama model"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000; give at most 1,000,000"),
        ({"model_type": "mixtral", "num_local_experts": -8}, "num_local_experts is -8; give at least"),
        ({"model_type": "deepseek_v2"}, "is not understood as a deepseek_v2 model"),
        ({"model_type": "qwen3_moe"}, "a qwen3_moe model needs num_local_experts, moe_intermediate_size"),
        ({"model_type": "gpt_oss"}, "a gpt_oss model needs num_local_experts, sliding_window"),
    ],
)
def test_wrong_values_are_named_with_the_file(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        read_architecture(_write(tmp_path, {**CONFIG, **change}))
    assert "config.json" in str(caught.value)


def test_files_that_are_no_config_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="cannot be read"):
        read_architecture(tmp_path / "absent.json")
    with pytest.raises(ArchitectureError, match="holds no object"):
        read_architecture(_write(tmp_path, [1, 2]))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArchitectureError, match="is no JSON"):
        read_architecture(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArchitectureError, match="is no JSON"):
        read_architecture(tmp_path)


def test_an_architecture_survives_json() -> None:
    for architecture in shipped_architectures():
        assert ModelArchitecture.model_validate_json(architecture.model_dump_json()) == architecture
