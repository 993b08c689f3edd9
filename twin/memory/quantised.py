"""Bytes of a matrix on the GPU by its quantisation: the weights, their scales and zero points.

Layouts after loading, as vLLM's methods make them (``model_executor/layers/quantization``, 0.19).
"""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import LorapackError
from twin.architectures import ExpertBank, Quantization, QuantizedGroup
from twin.memory.launch import Launch, Version

_FLOAT32 = 4
_PLAIN_ABSMAX_SINCE: Version = (0, 8, 3)
"""Release from which the scales of 4-bit bitsandbytes are unpacked to 32 bits (dequantize_dq): 0.9.2 has it,
0.8.2 has not."""
_TRITON_ROUND, _MARLIN_ROUND, _MARLIN_INPUTS, _MXFP4_ROW = 64, 128, 256, 128
"""Weights of which an expert's sizes are multiples in mxfp4."""
_TRITON_SINCE: Version = (0, 12, 0)
"""First release with ``vllm/third_party/triton_kernels``; before, they had to be installed."""
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
            # Kernels on Hopper read rows of whole 64 bytes (triton_kernels, hopper_value.py).
            yield outputs * _rounded(inputs, _MXFP4_ROW) // 2
            yield size // 32
        case "mxfp8":
            yield size
            yield size // 32
        case "measured":
            assert group is not None
            yield int(size * group.bytes_per_weight)


def held_experts(launch: Launch, bank: ExpertBank) -> ExpertBank:
    """Experts on one GPU: whole ones or slices, rounded up as their kernels need it.

    Experts in mxfp4 are run by Triton's kernels, or by Marlin's where adapters are served (0.19,
    ``fused_moe/oracle/mxfp4.py``) and in releases that come without Triton's. Marlin's are also those of GPUs
    before Hopper, which are not told apart here, and Blackwell's round to 256.
    """
    held = bank.on(launch.engine.tensor_parallel_size, whole=launch.engine.enable_expert_parallel)
    quantization = quantization_of(launch)
    if quantization is None or not quantization.experts_only:
        return held
    if not launch.lora and launch.version >= _TRITON_SINCE:
        return held._replace(intermediate=_rounded(held.intermediate, _TRITON_ROUND))
    return held._replace(
        intermediate=_rounded(held.intermediate, _MARLIN_ROUND), inputs=_rounded(held.inputs, _MARLIN_INPUTS)
    )


def _rounded(size: int, to: int) -> int:
    return -(-size // to) * to


def _scales(group: QuantizedGroup, outputs: int, inputs: int, parts: int) -> int:
    match group.scales:
        case "channel":
            return outputs
        case "block":
            return -(-outputs // group.block[0]) * -(-inputs // group.block[1])
        case _:
            return parts
