"""Bytes of a matrix on the GPU by its quantisation: the weights, their scales and zero points.

Layouts after loading, as vLLM's methods make them (``model_executor/layers/quantization``, 0.19).
"""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import LorapackError
from twin.architectures import Quantization, QuantizedGroup
from twin.memory.launch import Launch, Version

_FLOAT32 = 4
_PLAIN_ABSMAX_SINCE: Version = (0, 8, 3)
"""Release from which the scales of 4-bit bitsandbytes are unpacked to 32 bits (dequantize_dq): 0.9.2 has it,
0.8.2 has not."""
_NESTED_BLOCK = 256
"""Scales that share a second scale in bitsandbytes' nested quantisation."""


class QuantizationError(LorapackError, ValueError):
    """An engine's quantisation does not fit its model."""


def quantization_of(launch: Launch) -> Quantization | None:
    """How the weights of an engine are quantised: as the model's files say, else as the engine is told to.

    Raises
    ------
    QuantizationError
        If the engine is told of a quantisation that the model's files do not have.
    """
    model, asked = launch.model, launch.engine.quantization
    if model.quantization is not None or asked is None:
        return model.quantization
    if asked == "fp8":
        return Quantization(method="fp8", groups=(QuantizedGroup(kind="fp8"),))
    if asked == "bitsandbytes":
        group = QuantizedGroup(kind="nf4", bits=4, scales="group", group_size=64)
        return Quantization(method="bitsandbytes", groups=(group,))
    raise QuantizationError(
        f'engine.quantization is "{asked}", but {model.name} is not quantised so; give the quantised '
        "checkpoint's own config.json, or leave engine.quantization out"
    )


def matrix_bytes(
    group: QuantizedGroup | None, outputs: int, inputs: int, parts: int, dtype: int, version: Version
) -> Iterator[int]:
    """Bytes of each tensor of a matrix.

    Parameters
    ----------
    group
        Its quantisation; None: it has none.
    outputs, inputs
        Its size on this GPU; a bank of experts is one matrix with the outputs of all.
    parts
        Matrices of the checkpoint in it, each with a scale of its own where scales are of tensors.
    dtype
        Bytes of a weight that is not quantised.
    version
        Release of vLLM.
    """
    size = outputs * inputs
    match group.kind if group is not None else None:
        case None:
            yield size * dtype
        case "fp8" | "int8" | "bnb8":
            assert group is not None
            yield size
            yield _FLOAT32 * _scales(group, outputs, inputs, parts)
        case "packed":
            assert group is not None
            groups = -(-inputs // group.group_size) if group.group_size else 1
            yield size * group.bits // 8
            yield groups * outputs * 2
            if group.zeros:
                yield groups * outputs * group.bits // 8
        case "nf4":
            assert group is not None
            scales = -(-size // group.group_size)
            yield size // 2
            nested = scales + scales // _NESTED_BLOCK * _FLOAT32
            yield scales * _FLOAT32 if version >= _PLAIN_ABSMAX_SINCE else nested
        case "nvfp4":
            yield size // 2
            yield size // 16
        case "mxfp4":
            yield size // 2
            yield size // 32
        case "mxfp8":
            yield size
            yield size // 32
        case "measured":
            assert group is not None
            yield int(size * group.bytes_per_weight)


def _scales(group: QuantizedGroup, outputs: int, inputs: int, parts: int) -> int:
    match group.scales:
        case "channel":
            return outputs
        case "block":
            return -(-outputs // group.block[0]) * -(-inputs // group.block[1])
        case _:
            return parts
