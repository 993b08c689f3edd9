"""The ranks of an adapter, out of the header of its weights; no weight is read."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from scenarios.errors import cause_of
from scenarios.importers.source import Source
from scenarios.text.formatting import shown

WEIGHTS = "adapter_model.safetensors"
"""File of an adapter's weights, as PEFT saves it and vLLM loads it (vllm/lora/lora_model.py, 0.32.0)."""

MOST_HEADER_BYTES = 32 * 2**20
"""Longest header that is read; the format permits 100 MB (huggingface/safetensors
@000a16f4, safetensors/src/tensor.rs)."""

MOST_RANK = 65_536
"""Largest rank that is believed."""

_LORA_A = re.compile(r"\.(?:lora_A|lora_embedding_A)(?:\.[^.]+)*$")
_FUSED_EXPERTS = re.compile(r"\.experts\.(?:base_layer\.)?lora_A\b")
"""Matrices of all experts at once, whose first side is the rank times the experts."""


class WeightHeader(NamedTuple):
    """What a header tells.

    Parameters
    ----------
    rank
        Largest first side of the matrices A, which have the shape (rank, inputs); 0: it has none of them
        that tell a rank.
    matrices
        How many of them tell it.
    """

    rank: int
    matrices: int


def read_weight_header(path: Path) -> WeightHeader:
    """Ranks that the header of a safetensors file tells: eight bytes of length, and JSON.

    Raises
    ------
    ImportSourceError
        If the file is cut off, or is none of that format.
    """
    source = Source(path)
    remedy = "fetch it again, or leave the adapter out"
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise source.error("is no regular file", remedy)
            length = int.from_bytes(file.read(8), "little")
            most = min(MOST_HEADER_BYTES, state.st_size - 8)
            if not 2 <= length <= most:
                message = (
                    f"has a header of {length:,} bytes by its first eight, and room for {max(most, 0):,}"
                )
                raise source.error(message, remedy)
            text = file.read(length)
    except OSError as error:
        raise source.error(f"cannot be read ({cause_of(error)})", "check its permissions") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise source.error("has a header that is no JSON", remedy) from error
    if not isinstance(header, dict):
        raise source.error(f"has a header that is {shown(header)}", remedy)
    ranks = [_rank(source, name, tensor) for name, tensor in header.items() if _tells_rank(name)]
    return WeightHeader(max(ranks, default=0), len(ranks))


def _tells_rank(name: str) -> bool:
    return _LORA_A.search(name) is not None and not _FUSED_EXPERTS.search(name)


def _rank(source: Source, name: str, tensor: object) -> int:
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    sides = shape if isinstance(shape, list) else []
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) < 2 or not whole or not 1 <= sides[0] <= MOST_RANK:
        message = f"has the shape {shown(shape)}"
        raise source.error(message, "a matrix A has the shape (rank, inputs)", place=shown(name))
    return int(sides[0])
