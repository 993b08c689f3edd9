"""Ranks of adapters, and of the slots that hold them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from scenarios.base import refuse_booleans

Rank = Annotated[int, Field(ge=1, le=512), BeforeValidator(refuse_booleans)]
"""Ranks of an adapter: any up to that of the slots (vllm/lora/peft_helper.py, ``validate_legal``)."""

RankOrBase = Annotated[int, Field(ge=0, le=512), BeforeValidator(refuse_booleans)]
"""The same, or 0: the base model itself."""

MaxLoraRank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
"""Values of ``--max-lora-rank`` of any release (`twin.memory.versions.lora_ranks`): 1 from 0.11.1 on."""

MAX_LORA_RANKS: tuple[int, ...] = tuple(rank for rank in get_args(MaxLoraRank) if rank > 1)
"""Those that placers choose from: slots of rank 1 are of no use but to adapters of rank 1."""


def padded_rank(rank: int) -> int:
    """Smallest ``--max-lora-rank`` of vLLM that holds an adapter of this rank.

    Raises
    ------
    ValueError
        If no value of vLLM's is large enough.
    """
    for padded in MAX_LORA_RANKS:
        if rank <= padded:
            return padded
    raise ValueError(f"rank {rank} is above vLLM's largest max_lora_rank {MAX_LORA_RANKS[-1]}")
