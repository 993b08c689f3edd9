"""Every family's layers follow from its config.json; what cannot be stated is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scenarios import EngineConfig
from twin.architectures import (
    ArchitectureError,
    Attention,
    DeltaNet,
    Dense,
    Experts,
    LatentAttention,
    Mamba,
    ModelArchitecture,
    read_architecture,
)
from twin.memory.kv_cache import kv_cache
from twin.memory.launch import Launch
from twin.memory.slots import slot_bytes
from twin.memory.weights import weight_bytes

_FACTS = json.loads((Path(__file__).parent / "data" / "model_configs.json").read_text())
DENSE: dict[str, object] = _FACTS["every"]
CONFIGS: dict[str, dict[str, object]] = {
    name: {**DENSE, "model_type": name, **change} for name, change in _FACTS["families"].items()
}
FOLDER = os.environ.get("LORAPACK_MODEL_CONFIGS", "")


def write_config(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def _read(folder: Path, name: str, **change: object) -> ModelArchitecture:
    return read_architecture(write_config(folder, {**CONFIGS[name], **change}), name)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_is_read_and_its_memory_computed(tmp_path: Path, name: str) -> None:
    model = _read(tmp_path, name)
    launch = Launch(model, EngineConfig(max_model_len=1024), (0, 32, 0), 2, 8)
    weights = sum(weight_bytes(launch._replace(max_loras=0), 0))
    tables = sum(table.positions * table.width for table in model.rotary_tables)
    # 16 bits a weight and the rotary tables; beside them states' decays in 32 bits and MLA's copies.
    assert 0 <= weights - 2 * (model.parameters + tables) <= 0.1 * weights
    assert sum(slot_bytes(launch, 0)) > 0
    cache = kv_cache(launch, 0)
    assert cache.needed_blocks(1024) > 0
    assert cache.tokens(cache.num_blocks(1e9)) > 1024
    assert ModelArchitecture.model_validate_json(model.model_dump_json()) == model


@pytest.mark.parametrize("name", CONFIGS)
def test_halves_of_a_model_are_at_most_whole_on_each_gpu(tmp_path: Path, name: str) -> None:
    model = _read(tmp_path, name)
    one = Launch(model, EngineConfig(max_model_len=1024), (0, 32, 0), 0, 8)
    two = one._replace(engine=EngineConfig(max_model_len=1024, tensor_parallel_size=2))
    halves = one._replace(engine=EngineConfig(max_model_len=1024, pipeline_parallel_size=2))
    whole = sum(weight_bytes(one, 0))
    assert whole / 2 <= sum(weight_bytes(two, 0)) < whole
    stages = [sum(weight_bytes(halves, stage)) for stage in (0, 1)]
    assert max(stages) < whole
    assert sum(stages) >= whole


def test_layers_say_what_they_hold(tmp_path: Path) -> None:
    gemma = _read(tmp_path, "gemma3_text", num_hidden_layers=6, sliding_window=512)
    assert [layer.mixers[0].window for layer in gemma.layers if isinstance(layer.mixers[0], Attention)] == [
        *[512] * 5,
        0,
    ]
    deepseek = _read(tmp_path, "deepseek_v3")
    assert all(isinstance(layer.mixers[0], LatentAttention) for layer in deepseek.layers)
    assert isinstance(deepseek.layers[0].feed_forward, Dense)
    assert deepseek.layers[1].feed_forward == Experts(
        8, 64, 2, shared=64, correction=True, at="mlp", shared_at="shared_experts"
    )
    nemotron = _read(tmp_path, "nemotron_h")
    assert [type(layer.mixers[0]) if layer.mixers else None for layer in nemotron.layers] == [
        Mamba,
        None,
        Attention,
        None,
    ]
    qwen = _read(tmp_path, "qwen3_next")
    assert [isinstance(layer.mixers[0], DeltaNet) for layer in qwen.layers] == [True, True, True, False]
    falcon = _read(tmp_path, "falcon_h1")
    assert [type(mixer) for mixer in falcon.layers[0].mixers] == [Attention, Mamba]
    nas = _read(tmp_path, "nemotron-nas")
    assert [len(layer.mixers) for layer in nas.layers] == [1, 0, 1, 1]
    assert [layer.feed_forward is None for layer in nas.layers] == [False, False, True, False]


def test_a_flat_block_of_facts_needs_no_file() -> None:
    model = ModelArchitecture.model_validate({**DENSE, "name": "mine", "model_type": "gemma2"})
    assert len(model.layers) == 4
    with pytest.raises(ValueError, match="whose layers are not known; known are llama"):
        ModelArchitecture.model_validate({**DENSE, "name": "mine", "model_type": "rwkv"})


def test_what_a_wrapper_leaves_unsaid_is_taken_from_the_whole(tmp_path: Path) -> None:
    text = {key: value for key, value in CONFIGS["qwen3"].items() if key != "tie_word_embeddings"}
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "patch_size": 4,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "num_position_embeddings": 16,
        "out_hidden_size": 256,
    }
    config = {
        "model_type": "qwen3_vl",
        "text_config": {**text, "model_type": "qwen3_vl_text"},
        "vision_config": vision,
        "tie_word_embeddings": True,
    }
    model = read_architecture(write_config(tmp_path, config))
    assert model.tie_word_embeddings
    blocks = 2 * (4 * 64 * 64 + 2 * 64 * 128 + 5 * 64 + 128)
    assert model.vision_parameters - model.vision_copied == blocks
    alone = read_architecture(write_config(tmp_path, {**text, "tie_word_embeddings": True}))
    assert model.parameters - model.vision_parameters == alone.parameters


def test_a_tower_beside_a_flat_description_counts(tmp_path: Path) -> None:
    # Qwen2.5-VL-7B-Instruct, published with 8,292,166,656 weights.
    config = {
        "model_type": "qwen2_5_vl",
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "max_position_embeddings": 128000,
        "torch_dtype": "bfloat16",
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "out_hidden_size": 3584,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
    assert read_architecture(write_config(tmp_path, config)).parameters == 8_292_166_656


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "deepseek_v4"}, "of which is missing: the layout of its compressed KV cache"),
        ({"model_type": "kimi_k3", "text_config": {"model_type": "kimi_linear"}}, "states of its delta"),
        ({"model_type": "minimax_m3_vl"}, "sparse attention's index, and its vision tower"),
        ({"model_type": "mistral3", "text_config": {"model_type": "mistral4"}}, '"mistral4", whose layers'),
        (
            {
                "model_type": "internvl",
                "text_config": CONFIGS["qwen3"],
                "vision_config": {"hidden_size": 64},
            },
            "the vision tower of model_type 'internvl' is not known",
        ),
        (
            {"model_type": "gemma3", "text_config": CONFIGS["gemma3_text"], "vision_config": {}},
            "vision_config of model_type 'gemma3' is not understood",
        ),
        (
            {**CONFIGS["gemma4_text"], "num_kv_shared_layers": 2},
            "num_kv_shared_layers is set, and its weights and cache are not computed",
        ),
        ({**CONFIGS["jamba"], "attn_layer_period": 0}, "not understood as a jamba model"),
        ({**CONFIGS["nemotron_h"], "hybrid_override_pattern": "M-"}, "not of num_hidden_layers layers"),
        ({**CONFIGS["nemotron-nas"], "block_configs": [1]}, "not understood as a nemotron-nas model"),
        ({**CONFIGS["qwen3_moe"], "num_hidden_layers": None}, "not understood as a qwen3_moe model"),
        ({**CONFIGS["llama"], "text_config": []}, None),
    ],
)
def test_what_cannot_be_stated_is_refused_with_what_is_missing(
    tmp_path: Path, config: object, message: str | None
) -> None:
    path = write_config(tmp_path, config)
    if message is None:
        assert read_architecture(path).model_type == "llama"
        return
    with pytest.raises(ArchitectureError, match=message) as caught:
        read_architecture(path)
    assert "config.json" in str(caught.value)


REFUSED = ("DeepSeek-V4", "Kimi-K3", "MiniMax-M3", "Step-3.7")


@pytest.mark.skipif(not FOLDER, reason="LORAPACK_MODEL_CONFIGS names no folder of config.json files")
def test_real_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    files = [path for path in sorted(Path(FOLDER).glob("*_config.json")) if "hf_quant" not in path.name]
    assert len(files) >= 80
    for path in files:
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder / "config.json")
        beside = path.with_name(path.name.replace("_config.json", "_hf_quant_config.json"))
        if beside.exists():
            shutil.copy(beside, folder / "hf_quant_config.json")
        if any(name in path.name for name in REFUSED):
            with pytest.raises(ArchitectureError, match="of which is missing"):
                read_architecture(folder)
            continue
        model = read_architecture(folder, path.stem)
        launch = Launch(model, EngineConfig(), (0, 32, 0), 0, 8)
        assert sum(weight_bytes(launch, 0)) > 0.25 * model.parameters
        assert kv_cache(launch, 0).needed_blocks(4096) > 0
        quantised = any(word in path.name for word in ("FP8", "NVFP4", "gpt-oss"))
        config = json.loads(path.read_text())
        assert quantised <= (model.quantization is not None), path.name
        assert model.hidden_size == (config.get("text_config") or config)["hidden_size"]
