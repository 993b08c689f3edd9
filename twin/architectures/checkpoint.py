"""What a model's files hold, from headers and index alone: names, types and bytes of its tensors.

A safetensors file begins with 8 bytes, the length of a JSON object that names every tensor with its type and
place (https://huggingface.co/docs/safetensors); the weights behind it are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scenarios.errors import cause_of
from scenarios.reading.syntax.json_text import json_value
from twin.architectures.facts import ArchitectureError

INDEX = "model.safetensors.index.json"
_QUANTISED = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I8", "U8", "I32")
"""Types that only quantised weights have; packed integers are of 32 bits."""
_LONGEST_HEADER = 100_000_000
"""Bytes: the format's own limit."""


class Tensor(NamedTuple):
    """A tensor of a checkpoint.

    Parameters
    ----------
    name
        As the file calls it.
    dtype
        Type as safetensors writes it: ``BF16``.
    size
        Bytes.
    """

    name: str
    dtype: str
    size: int


def tensors_of(folder: Path) -> Iterator[Tensor]:
    """Every tensor of the safetensors files in a folder.

    Raises
    ------
    ArchitectureError
        If a file is damaged or cannot be read.
    """
    for path in sorted(folder.glob("*.safetensors")):
        yield from _header(path)


def checkpoint_bytes(folder: Path) -> int:
    """Bytes of all tensors of the model in a folder; 0 if neither files nor their index are there.

    Raises
    ------
    ArchitectureError
        If a file or the index is damaged or cannot be read.
    """
    total = sum(tensor.size for tensor in tensors_of(folder))
    index = folder / INDEX
    if not index.is_file():
        return total
    stated = _total_size(index)
    # Files of which only some were fetched say less than their index.
    return max(total, stated)


def quantised_bytes(folder: Path) -> int:
    """Bytes of tensors in a folder that are of 8 bits or packed, as quantised weights are.

    Raises
    ------
    ArchitectureError
        If a file is damaged or cannot be read.
    """
    return sum(tensor.size for tensor in tensors_of(folder) if tensor.dtype in _QUANTISED)


def _header(path: Path) -> Iterator[Tensor]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size):
                raise _damaged(path, f"its header would have {length} bytes")
            header = json_value(file.read(length).decode())
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read ({cause_of(error)})") from error
    except ValueError as error:
        if isinstance(error, ArchitectureError):
            raise
        raise _damaged(path, f"its header is no JSON: {cause_of(error)}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no object")
    for name, stated in header.items():
        if name != "__metadata__":
            yield _tensor(path, name, stated)


def _tensor(path: Path, name: str, stated: Any) -> Tensor:
    try:
        begin, end = stated["data_offsets"]
        size, dtype = int(end) - int(begin), str(stated["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"its header does not place {name!r}") from error
    if size < 0:
        raise _damaged(path, f"{name!r} would have {size} bytes")
    return Tensor(name, dtype, size)


def _total_size(path: Path) -> int:
    try:
        return int(json_value(path.read_text(encoding="utf-8"))["metadata"]["total_size"])
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read ({cause_of(error)})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "it has no metadata.total_size") from error


def _damaged(path: Path, why: str) -> ArchitectureError:
    return ArchitectureError(f"{path}: is damaged ({why}); fetch it again, or move it away")
