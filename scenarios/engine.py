"""The serving engine's configuration, in vLLM's own argument names."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rank = Literal[1, 2, 4, 8, 16, 32, 64, 128, 256, 320, 512]
"""Ranks of an adapter."""

MAX_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for ``--max-lora-rank``."""

MaxLoraRank = Literal[8, 16, 32, 64, 128, 256, 320, 512]

DEFAULT_SLOTS = (8, 16, 32, 64, 96, 128, 160, 192, 256, 320, 384)
"""Slot counts that the placers consider by default: the paper's test points up to its largest run."""


class EngineConfig(BaseModel):
    """Arguments of one vLLM engine; the placer chooses what is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_num_seqs: int = Field(default=256, ge=1, le=65_536, description="Most requests in one batch.")
    max_num_batched_tokens: int = Field(
        default=2048, ge=1, le=1_048_576, description="Token budget of a step."
    )
    max_model_len: int = Field(default=16_384, ge=1, le=10_000_000, description="Longest sequence in tokens.")
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="Share of GPU memory to use.")
    block_size: Literal[1, 8, 16, 32, 64, 128] = Field(default=16, description="Tokens of a KV block.")
    tensor_parallel_size: int = Field(default=1, ge=1, le=64, description="GPUs that share one engine.")
    long_prefill_token_threshold: int = Field(
        default=0, ge=0, description="Most prefill tokens of one request in a step; 0 is no limit."
    )
    max_loras: int | None = Field(default=None, ge=1, le=4096, description="Adapter slots; absent: chosen.")
    max_lora_rank: MaxLoraRank | None = Field(default=None, description="Rank of every slot; absent: chosen.")
    max_cpu_loras: int | None = Field(
        default=None, ge=1, description="Adapters kept in CPU memory; absent: all that the GPU serves."
    )
    slots: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=DEFAULT_SLOTS, min_length=1, description="Values of max_loras that the placer may choose."
    )

    @model_validator(mode="after")
    def _consistent(self) -> EngineConfig:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} is below max_num_seqs "
                f"{self.max_num_seqs}, which vLLM refuses; raise it or lower max_num_seqs"
            )
        if (
            self.max_cpu_loras is not None
            and self.max_loras is not None
            and self.max_cpu_loras < self.max_loras
        ):
            raise ValueError(
                f"max_cpu_loras {self.max_cpu_loras} is below max_loras {self.max_loras}; raise it"
            )
        return self

    @property
    def slot_choices(self) -> tuple[int, ...]:
        """Slot counts to consider, ascending: ``max_loras`` alone when it is set, else ``slots``."""
        return (self.max_loras,) if self.max_loras is not None else tuple(sorted(set(self.slots)))


def padded_rank(rank: int) -> int:
    """Smallest ``--max-lora-rank`` of vLLM that holds an adapter of this rank.

    Raises
    ------
    ValueError
        If no value of vLLM's is large enough.
    """
    for choice in get_args(MaxLoraRank):
        if rank <= choice:
            return int(choice)
    raise ValueError(f"rank {rank} is above vLLM's largest max_lora_rank {MAX_LORA_RANKS[-1]}")
