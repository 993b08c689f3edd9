"""How many adapters fit on every GPU of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios import gpus
from twin.architectures import ModelArchitecture
from twin.memory.launch import version_of
from twin.memory.versions import lora_ranks
from twin.startup.answer import NEWEST, MemoryAnswer, ask_memory
from twin.startup.question import architecture_of

RANKS = (8, 16, 32, 64, 128)
"""Ranks of the table."""


@dataclass(frozen=True)
class SurveyedGPU:
    """One GPU of the catalogue.

    Parameters
    ----------
    device
        Its name.
    answer
        Memory of an engine with the slots that were asked about.
    largest_max_loras
        By rank, most slots with which an engine starts; None where not even one does.
    """

    device: str
    answer: MemoryAnswer
    largest_max_loras: dict[int, int | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the answer's, and the most slots of each rank."""
        return self.answer.to_dict() | {
            "largest_max_loras_by_rank": {str(rank): most for rank, most in self.largest_max_loras.items()}
        }


def survey_memory(
    model: str | Path | ModelArchitecture,
    *,
    engine_version: str | None = None,
    max_loras: int | None = None,
    max_lora_rank: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    ranks: Sequence[int] = RANKS,
) -> tuple[SurveyedGPU, ...]:
    """How many adapters of each rank fit on every GPU of the catalogue, smallest GPU first.

    The parameters are those of `twin.startup.ask_memory`; ranks are those of the
    table, of which those are left out that the release does not take.
    """
    architecture = architecture_of(model)
    accepted = lora_ranks(version_of(NEWEST if engine_version is None else engine_version))
    taken = tuple(rank for rank in ranks if rank in accepted)
    surveyed = []
    for gpu in sorted(gpus(), key=lambda gpu: (gpu.memory_gib, gpu.name)):

        def ask(slots: int | None, rank: int | None, device: str = gpu.name) -> MemoryAnswer:
            return ask_memory(
                architecture,
                device=device,
                engine_version=engine_version,
                max_loras=slots,
                max_lora_rank=rank,
                arguments=arguments,
            )

        most = {rank: ask(1, rank).plan.largest_max_loras for rank in taken}
        surveyed.append(SurveyedGPU(gpu.name, ask(max_loras, max_lora_rank), most))
    return tuple(surveyed)
