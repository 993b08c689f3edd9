"""Reading ``quantization_config`` of a config.json, and ModelOpt's ``hf_quant_config.json`` beside it.

Formats as vLLM reads them (``model_executor/layers/quantization``, 0.19 and 0.32). What is not known is an
error: a quantised model is never taken for one in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from twin.architectures.facts import ArchitectureError, UnlikeError, misfit
from twin.architectures.quantization import Quantization, QuantizedGroup

_MOST_NAMES = 200_000


def read_quantization(config: Mapping[str, Any], where: str) -> Quantization:
    """The quantisation that a ``quantization_config`` states.

    Raises
    ------
    ArchitectureError
        If the method, or a detail of it, is not known, or the file is damaged.
    """
    method = config.get("quant_method") or ("modelopt" if _modelopt(config) else None)
    reader = _READERS.get(str(method))
    if reader is None:
        raise ArchitectureError(
            f"{where}: quantization_config is of method {method!r}, whose weights are not computed; known "
            f"are {', '.join(_READERS)}. Put the model's safetensors files or their index beside it, or give "
            "the measured weights_gib"
        )
    try:
        return reader(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArchitectureError(
            f"{where}: quantization_config of method {method!r} is not understood ({misfit(error)}); fetch "
            "the file again, or give the measured weights_gib"
        ) from error


def measured_quantization(method: str, bytes_per_weight: float) -> Quantization:
    """A quantisation of which no more is known than what a weight takes in the files."""
    group = QuantizedGroup(kind="measured", bytes_per_weight=bytes_per_weight)
    return Quantization(method=method, groups=(group,))


def _names(*lists: object) -> tuple[str, ...]:
    names: list[str] = []
    for value in lists:
        if value is None:
            continue
        if not isinstance(value, (list, tuple)) or len(value) > _MOST_NAMES:
            raise UnlikeError("a list of modules is no list")
        names += [str(name) for name in value]
    # Normalisations and corrections of routers are never quantised, so that their names say nothing.
    skipped = ("norm", "layernorm", "bias")
    return tuple(dict.fromkeys(name for name in names if not name.endswith(skipped)))


def _fp8(config: Mapping[str, Any]) -> Quantization:
    block = config.get("weight_block_size")
    group = _blocks(block[0], block[1]) if block else QuantizedGroup(kind="fp8")
    ignore = _names(config.get("ignored_layers"), config.get("modules_to_not_convert"))
    return Quantization(method="fp8", groups=(group,), ignore=ignore)


def _blocks(outputs: object, inputs: object) -> QuantizedGroup:
    rows, columns = int(str(outputs)), int(str(inputs))
    if rows < 1 or columns < 1:
        raise UnlikeError(f"blocks of {rows} by {columns} weights")
    return QuantizedGroup(kind="fp8", scales="block", block=(rows, columns))


def _fbgemm(config: Mapping[str, Any]) -> Quantization:
    group = QuantizedGroup(kind="fp8", scales="channel")
    return Quantization(
        method="fbgemm_fp8", groups=(group,), ignore=_names(config.get("modules_to_not_convert"))
    )


def _packed(config: Mapping[str, Any]) -> Quantization:
    bits = int(config.get("bits") or config.get("w_bit") or 4)
    if bits not in (2, 3, 4, 8):
        raise UnlikeError(f"{bits} bits")
    if config.get("lm_head"):
        raise UnlikeError("its lm_head is quantised")
    size = int(config.get("group_size") or config.get("q_group_size") or 128)
    method = str(config["quant_method"])
    zeros = bool(config.get("zero_point", True)) if method == "awq" else not config.get("sym", True)
    group = QuantizedGroup(kind="packed", bits=bits, scales="group", group_size=max(0, size), zeros=zeros)
    return Quantization(method=method, groups=(group,), ignore=_names(config.get("modules_to_not_convert")))


def _bitsandbytes(config: Mapping[str, Any]) -> Quantization:
    four = config.get("load_in_4bit") or config.get("_load_in_4bit")
    eight = config.get("load_in_8bit") or config.get("_load_in_8bit")
    if not four and not eight:
        raise UnlikeError("neither load_in_4bit nor load_in_8bit is set")
    if four:
        group = QuantizedGroup(kind="nf4", bits=4, scales="group", group_size=64)
    else:
        group = QuantizedGroup(kind="bnb8", scales="channel")
    return Quantization(
        method="bitsandbytes", groups=(group,), ignore=_names(config.get("llm_int8_skip_modules"))
    )


def _compressed(config: Mapping[str, Any]) -> Quantization:
    groups = []
    for given in config["config_groups"].values():
        # "Linear" is every matrix but the output layer, which is no torch.nn.Linear in vLLM.
        targets = tuple(name for name in _names(given.get("targets")) if name != "Linear")
        group = _scheme(given["weights"])
        groups.append(group.model_copy(update={"targets": targets}))
    ignore = _names(config.get("ignore"))
    return Quantization(method="compressed-tensors", groups=tuple(groups), ignore=ignore)


def _scheme(weights: Mapping[str, Any]) -> QuantizedGroup:
    """A scheme of compressed-tensors: type, bits and strategy of the weights."""
    bits, kind = int(weights["num_bits"]), weights.get("type", "int")
    strategy, size = weights.get("strategy"), weights.get("group_size")
    if strategy == "block":
        rows, columns = weights["block_structure"]
        return _blocks(rows, columns)
    match kind, bits:
        case "float", 8:
            if size == 32:
                return QuantizedGroup(kind="mxfp8", scales="group", group_size=32)
            return QuantizedGroup(kind="fp8", scales="channel" if strategy == "channel" else "tensor")
        case "float", 4:
            known = QuantizedGroup(kind="nvfp4", bits=4, scales="group", group_size=16)
            return known if size != 32 else known.model_copy(update={"kind": "mxfp4", "group_size": 32})
        case "int", 8 if strategy in (None, "channel", "tensor"):
            return QuantizedGroup(kind="int8", scales="channel" if strategy != "tensor" else "tensor")
        case "int", 4 | 8:
            zeros = not weights.get("symmetric", True)
            group = 0 if strategy == "channel" else int(size or 128)
            return QuantizedGroup(kind="packed", bits=bits, scales="group", group_size=group, zeros=zeros)
    raise UnlikeError(f"{kind} weights of {bits} bits by {strategy}")


def _modelopt(config: Mapping[str, Any]) -> bool:
    nested = config.get("quantization")
    return "quant_algo" in config or (isinstance(nested, Mapping) and "quant_algo" in nested)


def _modelopt_config(config: Mapping[str, Any]) -> Quantization:
    stated = config.get("quantization") if isinstance(config.get("quantization"), Mapping) else config
    assert isinstance(stated, Mapping)
    ignore = _names(stated.get("exclude_modules"), stated.get("ignore"))
    algorithm = stated.get("quant_algo")
    scheme = stated.get("kv_cache_scheme")
    bits = scheme.get("num_bits") if isinstance(scheme, Mapping) else 8 if scheme == "FP8" else 0
    eight = stated.get("kv_cache_quant_algo") == "FP8" or bits == 8
    cache: Literal["auto", "fp8"] = "fp8" if eight else "auto"
    if algorithm != "MIXED_PRECISION" and not stated.get("quantized_layers"):
        group = _algorithm(algorithm)
        return Quantization(method="modelopt", groups=(group,), ignore=ignore, kv_cache=cache)
    targets: dict[str, list[str]] = {}
    for name, given in stated["quantized_layers"].items():
        targets.setdefault(str(given["quant_algo"]), []).append(str(name))
    groups = tuple(
        _algorithm(name).model_copy(update={"targets": tuple(modules)}) for name, modules in targets.items()
    )
    return Quantization(method="modelopt", groups=groups, ignore=ignore, kv_cache=cache)


def _algorithm(name: object) -> QuantizedGroup:
    """A quant_algo of ModelOpt."""
    match name:
        case "FP8":
            return QuantizedGroup(kind="fp8")
        case "FP8_PER_CHANNEL_PER_TOKEN":
            return QuantizedGroup(kind="fp8", scales="channel")
        case "FP8_PB_WO":
            return QuantizedGroup(kind="fp8", scales="block", block=(128, 128))
        case "NVFP4" | "W4A16_NVFP4":
            return QuantizedGroup(kind="nvfp4", bits=4, scales="group", group_size=16)
        case "MXFP8":
            return QuantizedGroup(kind="mxfp8", scales="group", group_size=32)
    raise UnlikeError(f"quant_algo {name!r}")


def _mxfp4(config: Mapping[str, Any]) -> Quantization:
    group = QuantizedGroup(kind="mxfp4", bits=4, scales="group", group_size=32)
    ignore = _names(config.get("modules_to_not_convert"))
    return Quantization(method="mxfp4", groups=(group,), ignore=ignore, experts_only=True)


_READERS: dict[str, Callable[[Mapping[str, Any]], Quantization]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "compressed-tensors": _compressed,
    "awq": _packed,
    "gptq": _packed,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt_config,
    "modelopt_fp4": _modelopt_config,
    "mxfp4": _mxfp4,
}
