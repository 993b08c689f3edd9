"""What a question about memory is about, and what no engine takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scenarios import GPU, LorapackError, StartupLog
from scenarios.base import MOST_GIB
from scenarios.text.formatting import choice, shortened, shown
from twin.architectures import ArchitectureError, ModelArchitecture, find_architecture, read_architecture
from twin.memory.launch import Version
from twin.memory.versions import lora_ranks

_MOST_SLOTS = 1_000_000


class MemoryQuestionError(LorapackError, ValueError):
    """A question about memory leaves open what it is about."""


def architecture_of(model: str | Path | ModelArchitecture) -> ModelArchitecture:
    """The facts of a model: given, of its config.json, or shipped under its name."""
    if isinstance(model, ModelArchitecture):
        return model
    if isinstance(model, Path) or _is_path(model):
        return read_architecture(model)
    return find_architecture(model)


def _is_path(model: str) -> bool:
    try:
        return bool(model) and Path(model).exists()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False


def check_model(architecture: ModelArchitecture, log: StartupLog) -> None:
    """Refuse the log of another model, as far as its name tells.

    Raises
    ------
    MemoryQuestionError
        If the log names a shipped model of other shapes.
    """
    try:
        named = find_architecture(log.model or "")
    except ArchitectureError:
        return
    if named.parameters != architecture.parameters:
        raise MemoryQuestionError(
            f"the log is of {shortened(log.model or '')}, not of {architecture.name}; give the model of the "
            "log, or a log of this model"
        )


def checked_gib(name: str, gib: float | None) -> float | None:
    """GiB of memory that were given, if any.

    Raises
    ------
    MemoryQuestionError
        If it is no size of a memory.
    """
    if gib is not None and not (math.isfinite(gib) and 0 < gib <= MOST_GIB):
        raise MemoryQuestionError(f"{name} is {shown(gib)}; give GiB above 0 and up to {MOST_GIB:,}")
    return gib


def memory_of(gpu_memory_gib: float | None, gpu: GPU | None, log: StartupLog | None) -> float:
    """GiB of the GPU that is asked about: as given, else the catalogue's, else the log's.

    Raises
    ------
    MemoryQuestionError
        If none is known, or what is given is no size of a memory.
    """
    gib = checked_gib("gpu_memory_gib", gpu_memory_gib)
    if gib is None:
        gib = gpu.memory_gib if gpu else log.gpu_total_gib if log else None
    if gib is None:
        raise MemoryQuestionError(
            "neither a device nor its memory is given; name a GPU of the catalogue, or give the GiB that the "
            "engine sees"
        )
    return gib


def check_slots(max_loras: int, rank: int, version: Version) -> None:
    """Refuse what no engine takes.

    Raises
    ------
    MemoryQuestionError
        If the slots are fewer than none, more than can be counted, or of a rank that the release refuses.
    """
    if not 0 <= max_loras <= _MOST_SLOTS:
        raise MemoryQuestionError(f"max_loras is {max_loras:,}; give 0, which is no LoRA, to {_MOST_SLOTS:,}")
    ranks = lora_ranks(version)
    if max_loras and rank not in ranks:
        larger = next((f"; an adapter of rank {rank} needs {k}" for k in ranks if k > rank), "")
        release = ".".join(map(str, version))
        raise MemoryQuestionError(f"max_lora_rank is {rank}; vLLM {release} takes {choice(ranks)}{larger}")


def asked_slots(
    max_loras: int | None, max_lora_rank: int | None, told: dict[str, Any], *, of_a_log: bool
) -> tuple[int, int]:
    """Slots and their rank, which leave what the log told of other arguments.

    A server whose log says nothing of adapters has none.
    """
    enabled = told.pop("enable_lora", None)
    of_log = told.pop("max_loras", None)
    rank = told.pop("max_lora_rank", None)
    if max_loras is None:
        max_loras = int(of_log or 1) if enabled or of_log or not of_a_log else 0
    return max_loras, int(rank or 16) if max_lora_rank is None else max_lora_rank
