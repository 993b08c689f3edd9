"""The serving engine's configuration, in vLLM's own argument names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from scenarios.base import MOST_GIB, refuse_booleans
from scenarios.engine.further_arguments import FurtherArguments
from scenarios.engine.ranks import MaxLoraRank
from scenarios.reading.findings import Finding

Quantization = Literal["fp8", "awq", "gptq", "bitsandbytes", "compressed-tensors", "modelopt", "modelopt_fp4"]
"""Values of vLLM's ``--quantization`` whose weights are computed."""

Regime = Literal["resident", "shared"]
"""Whether every adapter of an engine has a slot of its own, or more adapters wait for fewer slots."""

MAX_SLOTS = 4096
"""Most adapter slots of an engine."""

DEFAULT_SLOTS = (8, 16, 32, 64, 96, 128, 160, 192, 256, 320, 384)
"""Slot counts that the placers consider by default: the paper's test points up to its largest run."""


class EngineConfig(FurtherArguments):
    """Arguments of one vLLM engine; the placer chooses what is absent."""

    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Most requests in one batch."""
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=1_048_576)] = 2048
    """Token budget of a step."""
    max_model_len: Annotated[int, Field(ge=1, le=10_000_000)] = 16_384
    """Longest sequence in tokens."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of GPU memory to use."""
    block_size: Annotated[Literal[1, 8, 16, 32, 64, 128], BeforeValidator(refuse_booleans)] = 16
    """Tokens of a KV block."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs that share one engine."""
    pipeline_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Groups of GPUs among which the model's layers are divided; each holds tensor_parallel_size GPUs."""
    enable_expert_parallel: bool = False
    """Whether the experts of a mixture are divided whole among the GPUs, rather than each sliced."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of weights and activations; auto: the model's own, in 16 bits where it is of 32."""
    quantization: Quantization | None = None
    """How weights are quantised; absent: as the model's files say."""
    kv_cache_dtype: Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"] = "auto"
    """Type of keys and values in the KV cache; auto: the type of the activations."""
    enforce_eager: bool = False
    """Whether steps run without CUDA graphs."""
    num_gpu_blocks_override: Annotated[int | None, Field(ge=1, le=100_000_000)] = None
    """KV blocks, whatever the memory holds; absent: as many as it holds."""
    cpu_offload_gb: Annotated[float, Field(ge=0, le=MOST_GIB)] = 0.0
    """GiB of weights of each GPU that are kept in the host's memory."""
    fully_sharded_loras: bool = False
    """Whether the slots are divided over the GPUs as a whole, rather than half of them."""
    lora_dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """Type of the slots; auto: the type of the activations."""
    lora_target_modules: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    """Modules that have slots; absent: all that can have them."""
    specialize_active_lora: bool = False
    """Whether CUDA graphs are captured apart for each count of active adapters."""
    long_prefill_token_threshold: Annotated[int, Field(ge=0)] = 0
    """Most prefill tokens of one request in a step; 0 is no limit."""
    max_loras: Annotated[int | None, Field(ge=1, le=MAX_SLOTS)] = None
    """Adapter slots of every engine, also where adapters are fewer; absent: chosen."""
    max_lora_rank: MaxLoraRank | None = None
    """Rank of every slot; absent: chosen."""
    max_cpu_loras: Annotated[int | None, Field(ge=1)] = None
    """Adapters kept in CPU memory; absent: a plan states all that a GPU serves, and a server that states
    max_loras keeps as many as that."""
    slots: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_SLOTS)], ...], Field(min_length=1)] = (
        DEFAULT_SLOTS
    )
    """Values of max_loras that the placer may choose, as the most of an engine."""

    @field_validator(
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
        "gpu_memory_utilization",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "num_gpu_blocks_override",
        "cpu_offload_gb",
        "long_prefill_token_threshold",
        "max_loras",
        "max_cpu_loras",
        mode="before",
    )
    @classmethod
    def _is_a_number(cls, value: object) -> object:
        return refuse_booleans(value)

    @field_validator("max_model_len", mode="before")
    @classmethod
    def _is_told(cls, value: object) -> object:
        if value in ("auto", -1):
            message = f"is {value}: as long as the KV cache allows, which the slots of a plan decide"
            raise Finding((), message, "give the longest sequence to be admitted, in tokens").error()
        return value

    @model_serializer(mode="wrap")
    def _as_given(self, content: SerializerFunctionWrapHandler) -> Any:
        return self.written(content(self))

    def findings(self) -> Iterator[Finding]:
        """Yield what vLLM's own argument check would refuse, and what cannot be meant of a plan's engines."""
        yield from self.further_findings()
        if self.max_num_batched_tokens < self.max_num_seqs:
            message = f"is {self.max_num_batched_tokens}, below max_num_seqs {self.max_num_seqs}"
            remedy = "raise it or lower max_num_seqs, or vLLM will not start"
            yield Finding(("max_num_batched_tokens",), message, remedy)
        min_slots = min(self.slot_choices)
        if self.max_cpu_loras is not None and self.max_cpu_loras < min_slots:
            key = "max_loras" if self.max_loras is not None else "every value of slots, the least of which is"
            remedy = "raise it: the CPU must hold every adapter that a slot holds"
            yield Finding(("max_cpu_loras",), f"is {self.max_cpu_loras}, below {key} {min_slots}", remedy)

    @property
    def slot_choices(self) -> tuple[int, ...]:
        """Slot counts to consider, ascending: ``max_loras`` alone when it is set, else ``slots``."""
        return (self.max_loras,) if self.max_loras is not None else tuple(sorted(set(self.slots)))

    @property
    def fewest_slots(self) -> int:
        """Fewest slots of an engine of a plan: as ``max_loras`` states, or one where they are chosen."""
        return self.max_loras or 1

    def cpu_loras(self, adapters: int, max_loras: int) -> int:
        """Adapters that an engine of a plan keeps in CPU memory: as is stated, or else all that it serves.

        It is never fewer than the slots, or vLLM would not start.
        """
        return max(self.max_cpu_loras or adapters, max_loras)

    def as_started(self, max_loras: int | None = None) -> EngineConfig:
        """The engine as vLLM starts it: ``max_cpu_loras`` is ``max_loras`` where that alone is stated.

        Parameters
        ----------
        max_loras
            Adapter slots; absent: the engine's own. Where neither says it, nothing is changed.

        Notes
        -----
        vllm/config/lora.py, ``LoRAConfig._validate_lora_config``, of 0.32.0; in vllm/config.py of 0.4.2,
        ``LoRAConfig.__post_init__``, it is the same.
        """
        slots = self.max_loras if max_loras is None else max_loras
        if slots is None or self.max_cpu_loras is not None:
            return self
        return self.model_copy(update={"max_cpu_loras": slots})


@dataclass(frozen=True)
class EngineOption:
    """One way to run a GPU.

    Parameters
    ----------
    device
        Kind of GPU.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot.
    """

    device: str
    max_loras: int
    max_lora_rank: int

    def trimmed(self, adapters: int, fewest: int) -> EngineOption:
        """The option with its slots beyond so many adapters given back to the KV cache.

        They are never fewer than ``fewest`` (`EngineConfig.fewest_slots`), which is one at least, as every
        engine of a plan takes adapters.
        """
        return replace(self, max_loras=min(self.max_loras, max(adapters, fewest)))
