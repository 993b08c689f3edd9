"""Reading a model's config.json, and what lies beside it, into an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scenarios.errors import cause_of
from scenarios.reading.error_messages import sentences
from scenarios.reading.syntax.json_text import json_value
from twin.architectures.architecture import ModelArchitecture
from twin.architectures.checkpoint import checkpoint_bytes, quantised_bytes
from twin.architectures.config_keys import facts_of
from twin.architectures.facts import ArchitectureError
from twin.architectures.families import FAMILIES, REFUSED
from twin.architectures.quantization_config import measured_quantization, read_quantization
from twin.architectures.vision import read_tower

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_WRAPPED = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "kimi_k25": "deepseek_v3",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "ministral3": "ministral3",
}
"""What a wrapper's language model is where its own ``model_type`` does not say."""

_LEAST_SHARE = 0.75
"""Share of its size in 16 bits below which a checkpoint cannot be an unquantised one."""


def read_architecture(path: Path | str, name: str | None = None) -> ModelArchitecture:
    """Read a model's architecture from its Hugging Face ``config.json`` and what lies beside it.

    Beside it count ``hf_quant_config.json`` (ModelOpt), the index of safetensors files and their headers;
    weights are not read.

    Parameters
    ----------
    path
        The file, or the folder that holds it.
    name
        Name of the model; absent: the file's ``_name_or_path``, or its folder's name.

    Raises
    ------
    ArchitectureError
        If a file is missing or damaged, or describes a model whose layers or quantisation are not known.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    config = _object(path, "give a model's config.json")
    named = name or config.get("_name_or_path") or path.resolve().parent.name or path.stem
    text = next((config[key] for key in _TEXT_CONFIGS if isinstance(config.get(key), dict)), config)
    model_type = _model_type(path, config, text)
    facts = facts_of(model_type, config, text, str(path))
    if isinstance(config.get("vision_config"), Mapping):
        size = facts.get("hidden_size")
        hidden = size if isinstance(size, int) else 0
        tower = read_tower(config["vision_config"], config, hidden, str(path))
        facts |= {"vision_parameters": tower.parameters, "vision_copied": tower.copied}
    held = checkpoint_bytes(path.parent)
    model = _validated(path, {"name": str(named), "source": path.name, "checkpoint_bytes": held, **facts})
    return _with_quantization(path, model, config, text)


def _object(path: Path, remedy: str) -> dict[str, Any]:
    try:
        config = json_value(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read ({cause_of(error)}); {remedy}") from error
    except ValueError as error:
        raise ArchitectureError(f"{path}: is no JSON ({cause_of(error)}); fetch it again") from error
    if not isinstance(config, dict):
        raise ArchitectureError(f"{path}: holds no object; {remedy}")
    return config


def _model_type(path: Path, config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    # What the language model says of itself counts; what the whole is only where it says nothing.
    stated = text.get("model_type") or config.get("model_type")
    if not isinstance(stated, str):
        raise ArchitectureError(f"{path}: states no model_type; give a model's config.json")
    known = _WRAPPED.get(stated, stated)
    if known in FAMILIES:
        return known
    remedy = "measure its memory and state it in the engine profile"
    for model_type in (stated, config.get("model_type")):
        if isinstance(model_type, str) and model_type in REFUSED:
            raise ArchitectureError(
                f'{path}: model_type is "{model_type}", of which is missing: {REFUSED[model_type]}; {remedy}'
            )
    raise ArchitectureError(
        f'{path}: model_type is "{stated}", whose layers are not known; known are {", ".join(FAMILIES)}. '
        f"{remedy.capitalize()}"
    )


def _validated(path: Path, facts: Mapping[str, object]) -> ModelArchitecture:
    try:
        return ModelArchitecture.model_validate(facts)
    except ValidationError as error:
        told = "; ".join(sentences(error, ModelArchitecture, facts, most=20))
        raise ArchitectureError(f"{path}: {told}; correct the file or fetch it again") from error


def _with_quantization(
    path: Path, model: ModelArchitecture, config: Mapping[str, Any], text: Mapping[str, Any]
) -> ModelArchitecture:
    """The model with the quantisation of its files, which must not be less than they hold."""
    stated = config.get("quantization_config") or text.get("quantization_config")
    beside = path.parent / "hf_quant_config.json"
    where = str(path)
    if stated is None and beside.is_file():
        stated, where = _object(beside, "fetch it again"), str(beside)
    full = model.parameters * (4 if model.torch_dtype == "float32" else 2)
    held = model.checkpoint_bytes
    if stated is None:
        packed = quantised_bytes(path.parent)
        if held and (held < _LEAST_SHARE * full or packed > (1 - _LEAST_SHARE) * held):
            raise ArchitectureError(
                f"{path}: the files hold {held:,} bytes, {packed:,} of them in 8 bits or packed, where the "
                f"shapes need {full:,}, and no quantization_config says why; give the model's own "
                "config.json, or all of its files"
            )
        return model
    if not isinstance(stated, Mapping):
        raise ArchitectureError(f"{where}: quantization_config is no object; fetch the file again")
    try:
        quantization = read_quantization(stated, where)
    except ArchitectureError:
        if not held:
            raise
        # The files say how much, though not how: what is in no matrix of a layer is in 16 bits.
        ends = 2 * (model.parameters - model.layer_parameters)
        per_weight = max(0.0, (held - ends) / model.layer_parameters)
        quantization = measured_quantization(str(stated.get("quant_method")), min(4.0, per_weight))
    return model.model_copy(update={"quantization": quantization})
