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

# Parameters as counted from the published checkpoints.
PARAMETERS = {
    "Llama-3.1-8B-Instruct": 8_030_261_248,
    "Llama-3.1-70B-Instruct": 70_553_706_496,
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "Llama-2-7B": 6_738_415_616,
    "Llama-2-13B": 13_015_864_320,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen2.5-72B-Instruct": 72_706_203_648,
    "Qwen3-8B": 8_190_735_360,
    "Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "Gemma-2-9B-it": 9_241_705_984,
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "Phi-4": 14_659_507_200,
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


def test_every_shipped_model_has_its_published_number_of_parameters() -> None:
    assert {a.name: a.parameters for a in shipped_architectures()} == PARAMETERS


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
    ],
)
def test_names_are_found_however_they_are_written(name: str, found: str) -> None:
    assert find_architecture(name).name == found


@pytest.mark.parametrize("name", ["", "/", "gpt-5", "Llama-3.1", "Llama-3.1-80B"])
def test_unknown_names_list_what_is_shipped(name: str) -> None:
    with pytest.raises(ArchitectureError, match=r"shipped are Llama-3\.1-8B-Instruct"):
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
        ({"model_type": "gpt2"}, 'model_type is "gpt2", whose layers are not known'),
        ({"model_type": None}, "whose layers are not known"),
        ({"hidden_size": None}, "hidden_size: Field required"),
        ({"hidden_size": "big"}, "hidden_size: Input should be a valid integer"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: Input should be greater than or equal to 1"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_key_value_heads": 7}, "is no multiple of num_key_value_heads 7"),
        ({"torch_dtype": "int4"}, "torch_dtype"),
        ({"quantization_config": {"bits": 4}}, "quantised weights are not computed"),
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
