"""The GPUs that vLLM runs on, with their figures and sources; `catalogue.json` holds the data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from scenarios.base import FrozenModel
from scenarios.errors import LorapackError
from scenarios.gpus.names import GPUWords, named, words_of
from scenarios.text.formatting import choice, shortened, suggestion

FILE = Path(__file__).with_name("catalogue.json")

Positive = Annotated[float, Field(gt=0)]


class UnknownGPUError(LorapackError, LookupError):
    """No GPU of the catalogue has that name, or several have."""


class Interconnect(FrozenModel):
    """What joins a GPU with the others of its node."""

    kind: Literal["nvlink", "nvlink-c2c", "infinity-fabric", "pcie"]
    """Its kind; nvlink-c2c joins a GPU with its own CPU."""
    gb_s: Positive
    """GB/s of one GPU, both directions together, as data sheets give it."""


class GPU(FrozenModel):
    """A kind of GPU. Null is what no source tells, or what it cannot do."""

    name: str
    """Name, as a scenario's devices have it."""
    aliases: tuple[str, ...]
    """Other names: what drivers, and so vLLM's logs, call it."""
    memory_gib: Positive
    """GiB as the engine sees it: torch's `total_memory`, less than the card is sold with."""
    memory_source: Literal["measured", "derived"]
    """Whether a running GPU has reported its memory, or it is derived from the nominal size."""
    memory_from: str
    """Where the memory is from. It varies by some hundred MiB with the driver, and with ECC."""
    bandwidth_gb_s: Positive | None
    """GB/s of its memory."""
    bf16_tflops: Positive | None
    """TFLOPS in bfloat16, dense, summed in 32 bits; null where there is no bfloat16."""
    fp16_tflops: Positive | None
    """TFLOPS in float16, dense, summed in 32 bits."""
    fp8_tflops: Positive | None
    """TFLOPS in 8-bit floats, dense."""
    int8_tops: Positive | None
    """TOPS in 8-bit integers, dense."""
    interconnect: Interconnect | None
    """The fastest of what joins it with others."""
    pcie_gb_s: Positive | None
    """GB/s of its PCIe slot, both directions together."""
    compute_capability: str
    """CUDA's compute capability, or ROCm's name of the architecture."""
    architecture: str
    """The vendor's name of the architecture."""
    source: str
    """Data sheet or page that the figures are from, but for the memory."""
    date: str
    """Day on which they were put down."""


@cache
def gpus() -> tuple[GPU, ...]:
    """Return every GPU of the catalogue, by architecture and size."""
    return TypeAdapter(tuple[GPU, ...]).validate_json(FILE.read_bytes())


def find_gpu(name: str) -> GPU:
    """Return the GPU of this name.

    Case, punctuation, the vendor and how sizes are written do not matter, nor does the form (SXM, PCIe) where
    there is but one: ``NVIDIA A100-SXM4-80GB``, ``a100 80g`` and ``A100-80GB`` are the same.

    Raises
    ------
    UnknownGPUError
        If there is none, or if several GPUs may be meant.
    """
    found = [gpus()[k] for k in named(name, _words())]
    if len(found) == 1:
        return found[0]
    if found:
        names = choice(gpu.name for gpu in found)
        raise UnknownGPUError(f'GPU "{shortened(name)}" may be {names}; give one of these names')
    remedy = suggestion(name, (gpu.name for gpu in gpus())) or "`lorapack devices` lists those that are known"
    raise UnknownGPUError(f'GPU "{shortened(name)}" is not known; {remedy}')


@cache
def _words() -> tuple[GPUWords, ...]:
    return tuple(words_of(gpu.name, gpu.aliases) for gpu in gpus())
