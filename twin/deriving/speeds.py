"""How fast a GPU is: the figures of the catalogue in bytes and operations a second."""

from __future__ import annotations

from typing import NamedTuple

from scenarios import GPU, LorapackError, find_gpu
from twin.deriving.counts import Arithmetic


class MissingFigureError(LorapackError, ValueError):
    """A step cost depends on a figure of a GPU that no source tells."""


_INFERRED = {
    "H100-64GB": {"bandwidth_gb_s": 2000.0, "bf16_tflops": 989.5, "fp8_tflops": 1979.0, "int8_tops": 1979.0}
}
"""Figures of a GPU whose data sheet was not found: the measured one, an H100 of 64 GB.

They are inferred. The two measured profiles read keys and values at 1,775 and 1,825 GB/s, so that its
memory is slower than that of other SXM modules; 2,000 GB/s is what the sheet of the H100 PCIe says, of
which these are 0.89 and 0.91. The longest steps measured (2,048 tokens of Llama-3.1-8B in 55 ms) reach 0.57
of an SXM module's 989.5 TFLOPS, which is 0.74 of the PCIe card's 756.5: it is taken for the former.
"""


class GPUSpeeds(NamedTuple):
    """Speeds of one GPU.

    Parameters
    ----------
    name
        Its name in the catalogue.
    bandwidth
        Bytes a second of its memory.
    flops
        Operations a second on matrices, dense, in what the model is multiplied in.
    flops_16
        The same in 16 bits, in which adapters and the output layer are.
    link
        Bytes a second, one direction, to the other GPUs of its node; None where nothing joins it.
    """

    name: str
    bandwidth: float
    flops: float
    flops_16: float
    link: float | None


def gpu_speeds(gpu: GPU, arithmetic: Arithmetic, *, joined: bool) -> GPUSpeeds:
    """Speeds of a GPU.

    A GPU that cannot multiply in 8 bits keeps such weights small and multiplies in 16.

    Parameters
    ----------
    gpu
        The GPU.
    arithmetic
        What matrices are multiplied in.
    joined
        Whether the engine runs on several of them, so that what joins them matters.

    Raises
    ------
    MissingFigureError
        If the catalogue lacks a figure that is needed; the message names it.
    """
    inferred = _INFERRED.get(gpu.name, {})
    narrow = {"fp8": "fp8_tflops", "int8": "int8_tops"}.get(arithmetic, "bf16_tflops")
    flops_16 = _figure(gpu, "bf16_tflops")
    flops = inferred.get(narrow) or getattr(gpu, narrow) or flops_16
    if joined and gpu.interconnect is None:
        raise _missing(gpu, "interconnect")
    return GPUSpeeds(
        name=gpu.name,
        bandwidth=1e9 * _figure(gpu, "bandwidth_gb_s"),
        flops=1e12 * flops,
        flops_16=1e12 * flops_16,
        link=None if gpu.interconnect is None else 1e9 * gpu.interconnect.gb_s / 2,
    )


def speeds_of(device: str, arithmetic: Arithmetic, *, joined: bool = False) -> GPUSpeeds:
    """Speeds of the GPU of this name.

    Raises
    ------
    UnknownGPUError
        If the catalogue has none, or several, of the name.
    MissingFigureError
        If it lacks a figure that is needed.
    """
    return gpu_speeds(find_gpu(device), arithmetic, joined=joined)


def _figure(gpu: GPU, name: str) -> float:
    value = _INFERRED.get(gpu.name, {}).get(name) or getattr(gpu, name)
    if value is None:
        raise _missing(gpu, name)
    return float(value)


def _missing(gpu: GPU, name: str) -> MissingFigureError:
    return MissingFigureError(
        f"{gpu.name} has no {name} in the catalogue of GPUs, on which the cost of a step depends; "
        "measure a profile of it, or derive one for a GPU whose figures `lorapack devices` lists"
    )
