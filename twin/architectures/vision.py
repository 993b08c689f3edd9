"""How many weights a vision tower has, from ``vision_config``: the engine loads it with the language model.

Shapes of vLLM's towers (``model_executor/models``, 0.19 and 0.32): blocks of attention and a network, whose
matrices are divided over GPUs, and what stands before and after them, which every GPU holds whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twin.architectures.facts import ArchitectureError, misfit


class Tower(NamedTuple):
    """Weights of a tower: those of all, and those of them that every GPU holds whole."""

    parameters: int
    copied: int


def read_tower(vision: Mapping[str, Any], config: Mapping[str, Any], text_hidden: int, where: str) -> Tower:
    """Weights of the tower and of what fits its vectors to the language model's.

    Parameters
    ----------
    vision
        The ``vision_config``.
    config
        The whole config.json.
    text_hidden
        Size of the language model's vectors.
    where
        The file, for errors.

    Raises
    ------
    ArchitectureError
        If the kind of tower is not known, or a key is missing.
    """
    kind = str(config.get("model_type"))
    reader = _TOWERS.get(kind)
    if reader is None:
        raise ArchitectureError(
            f"{where}: the vision tower of model_type {kind!r} is not known, so its weights are missing; "
            f"known are those of {', '.join(_TOWERS)}. Take vision_config out to plan for the language model "
            "alone, or give the measured weights_gib"
        )
    try:
        return reader(vision, config, text_hidden)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ArchitectureError(
            f"{where}: vision_config of model_type {kind!r} is not understood ({misfit(error)}); fetch "
            "it again"
        ) from error


def _tower(
    vision: Mapping[str, Any], around: int, *, gated: bool, biased: bool, norm_vectors: int, norms: int = 0
) -> Tower:
    """A tower of equal blocks, each of an attention with four matrices and a network."""
    depth = vision.get("depth") or vision.get("num_hidden_layers") or vision["vt_num_hidden_layers"]
    hidden = vision.get("hidden_size") or vision["vt_hidden_size"]
    inter = vision.get("intermediate_size") or vision["vt_intermediate_size"]
    split = 4 * hidden * hidden + (3 if gated else 2) * hidden * inter
    if biased:
        split += 4 * hidden + (2 if gated else 1) * inter + hidden
    copied = int(depth) * (norm_vectors * hidden + norms) + around
    return Tower(int(depth) * split + copied, copied)


def _patches(vision: Mapping[str, Any], frames: int = 1) -> int:
    side, hidden = vision["patch_size"], vision.get("hidden_size") or vision["vt_hidden_size"]
    return int((vision.get("in_channels") or 3) * frames * side * side * hidden)


def _gemma3(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden, side = vision["hidden_size"], vision["image_size"] // vision["patch_size"]
    around = _patches(vision) + hidden + side * side * hidden + 2 * hidden + hidden * text_hidden + hidden
    return _tower(vision, around, gated=False, biased=True, norm_vectors=4)


def _gemma4(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden = vision["hidden_size"]
    around = _patches(vision) + 2 * vision["position_embedding_size"] * hidden + hidden * text_hidden
    around += 2 * hidden if vision.get("standardize") else 0
    heads = 2 * vision["head_dim"]
    return _tower(vision, around, gated=True, biased=False, norm_vectors=4, norms=heads)


def _mistral3(vision: Mapping[str, Any], config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden, merge = vision["hidden_size"], config.get("spatial_merge_size") or 2
    biased = bool(config.get("multimodal_projector_bias"))
    projector = hidden + merge * merge * hidden * hidden + hidden * text_hidden + text_hidden * text_hidden
    around = _patches(vision) + hidden + projector + (2 * text_hidden if biased else 0)
    return _tower(vision, around, gated=True, biased=False, norm_vectors=2)


def _qwen3_vl(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden, out = vision["hidden_size"], vision.get("out_hidden_size") or text_hidden
    wide = vision["spatial_merge_size"] ** 2 * hidden
    merger = wide * wide + wide + wide * out + out
    deep = len(vision.get("deepstack_visual_indexes") or ())
    mergers = merger + 2 * hidden + deep * (merger + 2 * wide)
    around = _patches(vision, vision["temporal_patch_size"]) + hidden
    around += vision["num_position_embeddings"] * hidden + mergers
    return _tower(vision, around, gated=False, biased=True, norm_vectors=4)


def _qwen2_5_vl(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden, out = vision["hidden_size"], vision.get("out_hidden_size") or text_hidden
    wide = (vision.get("spatial_merge_size") or 2) ** 2 * hidden
    around = _patches(vision, vision.get("temporal_patch_size") or 2)
    around += hidden + wide * wide + wide + wide * out + out
    return _tower(vision, around, gated=True, biased=True, norm_vectors=2)


def _llama4(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden, side = vision["hidden_size"], vision["image_size"] // vision["patch_size"]
    out = vision["projector_output_dim"]
    around = _patches(vision) + (side * side + 2) * hidden + 4 * hidden
    around += vision["intermediate_size"] * vision["projector_input_dim"]
    around += vision["projector_input_dim"] * out + vision["vision_output_dim"] * text_hidden
    return _tower(vision, around, gated=False, biased=True, norm_vectors=4)


def _kimi(vision: Mapping[str, Any], _config: Mapping[str, Any], text_hidden: int) -> Tower:
    hidden = vision["vt_hidden_size"]
    high, wide = vision["merge_kernel_size"]
    merged = high * wide * hidden
    places = vision["init_pos_emb_height"] * vision["init_pos_emb_width"]
    around = _patches(vision) + hidden + (places + vision["init_pos_emb_time"]) * hidden + 2 * hidden
    around += 2 * hidden + merged * merged + merged + merged * text_hidden + text_hidden
    return _tower(vision, around, gated=False, biased=True, norm_vectors=4)


_TOWERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], Tower]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "mistral3": _mistral3,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
    "qwen3_5": _qwen3_vl,
    "qwen3_5_moe": _qwen3_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "llama4": _llama4,
    "kimi_k25": _kimi,
}
"""By the ``model_type`` of the whole model."""
