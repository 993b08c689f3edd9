"""Quantised checkpoints: what their files say, what is refused, and the bytes that follow."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from scenarios import EngineConfig
from twin.architectures import ArchitectureError, ModelArchitecture, find_architecture, read_architecture
from twin.memory.launch import Launch
from twin.memory.quantised import QuantizationError
from twin.memory.weights import weight_bytes

GIB = 2**30
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
SMALL = {**LLAMA, "hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 512, "vocab_size": 1024}


def _linear(num_bits: int, kind: str, **more: object) -> dict[str, object]:
    weights = {"num_bits": num_bits, "type": kind, "symmetric": True, **more}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]}


def _read(folder: Path, quantization: object, config: object = LLAMA) -> ModelArchitecture:
    assert isinstance(config, dict)
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    return read_architecture(folder)


def _weights(model: ModelArchitecture, version: tuple[int, int, int] = (0, 19, 0), **engine: object) -> int:
    launch = Launch(model, EngineConfig.model_validate(engine), version, 0, 8)
    return sum(weight_bytes(launch, 0))


# Weights of the matrices of Llama-3.1-8B's layers, and what is in 16 bits whatever their quantisation.
MATRICES = 6_979_321_856
REST = 2 * (8_030_261_248 - MATRICES) + 131_072 * 128 * 2
OUTPUTS = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static"}, MATRICES + 32 * 7 * 4),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            MATRICES + MATRICES // 128 // 128 * 4,
        ),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, MATRICES + OUTPUTS * 4),
        (_linear(8, "float", strategy="channel"), MATRICES + OUTPUTS * 4),
        (_linear(8, "int", strategy="channel"), MATRICES + OUTPUTS * 4),
        (_linear(8, "float", strategy="block", block_structure=[128, 128]), MATRICES + MATRICES // 4096),
        (_linear(4, "int", strategy="group", group_size=128), MATRICES // 2 + MATRICES // 128 * 2),
        (_linear(4, "float", group_size=16), MATRICES // 2 + MATRICES // 16),
        (_linear(4, "float", group_size=32), MATRICES // 2 + MATRICES // 32),
        (_linear(8, "float", group_size=32), MATRICES + MATRICES // 32),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            MATRICES // 2 + MATRICES // 128 * 2 + MATRICES // 128 // 2,
        ),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True},
            MATRICES + OUTPUTS * 2,
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, MATRICES // 2 + MATRICES // 64 * 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, MATRICES + OUTPUTS * 4),
        ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, MATRICES // 2 + MATRICES // 16),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bytes_of_each_format(tmp_path: Path, quantization: dict[str, object], expected: int) -> None:
    assert _weights(_read(tmp_path, quantization)) == expected + REST


def test_modules_that_are_left_alone_stay_in_16_bits(tmp_path: Path) -> None:
    whole = _weights(_read(tmp_path, _linear(8, "int", strategy="channel")))
    attention = 4096 * (4096 + 2 * 1024 + 4096)
    scales = (4096 + 2 * 1024 + 4096) * 4
    for ignore in (
        ["lm_head", "re:.*layers\\.3\\.self_attn.*"],
        ["lm_head", "model.layers.3.self_attn*"],
        ["language_model.model.layers.3.self_attn"],
        [f"model.layers.3.self_attn.{name}_proj" for name in "qkvo"],
    ):
        spared = _weights(_read(tmp_path, {**_linear(8, "int", strategy="channel"), "ignore": ignore}))
        assert spared - whole == attention - scales, ignore


def test_layers_may_be_quantised_each_in_its_way(tmp_path: Path) -> None:
    layers = {
        f"model.layers.{index}.{name}": {"quant_algo": "FP8" if "attn" in name else "NVFP4"}
        for index in range(32)
        for name in (
            *(f"self_attn.{p}_proj" for p in "qkvo"),
            *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
        )
    }
    model = _read(tmp_path, {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    attention = 32 * 4096 * (4096 + 2 * 1024 + 4096)
    network = MATRICES - attention
    assert _weights(model) == attention + 32 * 4 * 4 + network // 2 + network // 16 + REST


def test_modelopt_states_its_quantisation_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert read_architecture(tmp_path).quantization is None
    stated = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": stated}))
    model = read_architecture(tmp_path)
    assert model.quantization is not None
    assert (model.quantization.method, model.quantization.kv_cache) == ("modelopt", "fp8")
    assert _weights(model) == MATRICES + 32 * 7 * 4 + REST
    (tmp_path / "hf_quant_config.json").write_text("[")
    with pytest.raises(ArchitectureError, match=r"hf_quant_config\.json: is no JSON"):
        read_architecture(tmp_path)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "hqq"}, "method 'hqq', whose weights are not computed; known are fp8"),
        ({"bits": 4}, "method None"),
        ("fp8", "quantization_config is no object"),
        ({"quant_method": "gptq", "bits": 5}, "is not understood .5 bits."),
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, "its lm_head is quantised"),
        ({"quant_method": "bitsandbytes"}, "neither load_in_4bit nor load_in_8bit"),
        ({"quant_method": "compressed-tensors"}, "is not understood .config_groups is missing"),
        (_linear(3, "int"), "int weights of 3 bits"),
        ({"quant_algo": "W4A8_AWQ"}, "quant_algo 'W4A8_AWQ'"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "is not understood .a value is of another"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "blocks of 0 by 128 weights"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "is not understood"),
        ({"quant_method": "fp8", "ignored_layers": "lm_head"}, "a list of modules is no list"),
        ({"quant_method": "fp8", "weight_block_size": ["a", "b"]}, "is not understood"),
    ],
)
def test_what_is_not_known_of_a_quantisation_is_refused(
    tmp_path: Path, quantization: object, message: str
) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        _read(tmp_path, quantization)
    assert "config.json" in str(caught.value)


def test_an_engine_quantises_while_it_loads() -> None:
    llama = find_architecture("Llama-3.1-8B-Instruct")
    assert _weights(llama, quantization="fp8") / GIB == pytest.approx(8.49, abs=0.005)
    assert _weights(llama, quantization="bitsandbytes") < 0.4 * _weights(llama)
    with pytest.raises(QuantizationError, match=r'engine\.quantization is "awq", but Llama-3.1-8B-Instruct'):
        _weights(llama, quantization="awq")
    quantised = find_architecture("Llama-3.1-8B-Instruct-AWQ-INT4")
    assert _weights(quantised, quantization="awq") == _weights(quantised)


def test_experts_alone_are_quantised_in_mxfp4() -> None:
    model = find_architecture("gpt-oss-20b")
    experts = 24 * 32 * 3 * 2880 * 2880
    # Rows of 1,440 bytes are padded to 1,472.
    expected = experts * (0.5 * 1472 / 1440 + 1 / 32) + 2 * (model.parameters - experts) + 131_072 * 64 * 2
    assert _weights(model) == pytest.approx(expected, rel=1e-6)
    # 13.03 GiB in a log of a Hopper GPU with Triton's kernels.
    assert _weights(model) / GIB == pytest.approx(13.03, abs=0.01)
    # 13.72 GiB in logs with Marlin's, which serve adapters, under 0.19.
    launch = Launch(model, EngineConfig(), (0, 19, 0), 1, 8)
    assert sum(weight_bytes(launch, 0)) / GIB == pytest.approx(13.72, rel=0.003)


def _safetensors(path: Path, tensors: dict[str, tuple[str, int]]) -> None:
    header, offset = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def test_the_files_tell_what_an_unknown_quantisation_takes(tmp_path: Path) -> None:
    plain = _weights(_read(tmp_path, None, SMALL))
    model = read_architecture(tmp_path)
    held = int(0.4 * model.layer_parameters) + 2 * (model.parameters - model.layer_parameters)
    _safetensors(tmp_path / "model-1.safetensors", {"a": ("U8", held // 2)})
    _safetensors(tmp_path / "model-2.safetensors", {"b": ("U8", held - held // 2)})
    read = _read(tmp_path, {"quant_method": "hqq"}, SMALL)
    assert read.checkpoint_bytes == held
    assert plain - _weights(read) == pytest.approx(1.6 * model.layer_parameters, rel=0.01)


def test_the_index_says_how_much_where_files_are_not_fetched(tmp_path: Path) -> None:
    _read(tmp_path, None, SMALL)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 4_000_000}, "weight_map": {}}))
    assert read_architecture(tmp_path).checkpoint_bytes == 4_000_000


def test_a_quantised_model_is_never_taken_for_one_in_16_bits(tmp_path: Path) -> None:
    _read(tmp_path, None, SMALL)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 900_000}}))
    with pytest.raises(ArchitectureError, match=r"the files hold 900,000 bytes, 0 of them .*why"):
        read_architecture(tmp_path)
    index.unlink()
    size = read_architecture(tmp_path).parameters
    tensors = {"a": ("F8_E4M3", size), "b": ("BF16", size)}
    _safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ArchitectureError, match=f"{size:,} of them in 8 bits or packed"):
        read_architecture(tmp_path)
    _safetensors(tmp_path / "model.safetensors", {"b": ("BF16", 2 * size)})
    assert read_architecture(tmp_path).checkpoint_bytes == 2 * size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its header would have 0 bytes"),
        (b"\x01", "its header would have 1 bytes"),
        (struct.pack("<Q", 2**60) + b"{}", "its header would have"),
        (struct.pack("<Q", 2) + b"{]", "its header is no JSON"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "its header is no JSON"),
        (struct.pack("<Q", 2) + b"[]", "its header is no object"),
        (struct.pack("<Q", 7) + b'{"a":1}', "does not place 'a'"),
        (struct.pack("<Q", 44) + b'{"a":{"dtype":"U8","data_offsets":[9,   1]}}', "would have -8 bytes"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    _read(tmp_path, None, SMALL)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ArchitectureError, match=message) as caught:
        read_architecture(tmp_path)
    assert "model.safetensors: is damaged" in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"metadata": {"total_size": "much"}}'])
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    _read(tmp_path, None, SMALL)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ArchitectureError, match=r"index\.json: is damaged"):
        read_architecture(tmp_path)
