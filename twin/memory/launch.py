"""An engine as it is started: all that its memory depends on, but the GPU."""

from __future__ import annotations

import re
from typing import NamedTuple

from scenarios import EngineConfig, LorapackError
from twin.architectures import ModelArchitecture

Version = tuple[int, int, int]
"""Release of vLLM: (0, 8, 5)."""


class EngineVersionError(LorapackError, ValueError):
    """A version of the engine is none of vLLM's."""


class Launch(NamedTuple):
    """One engine as it is started.

    Parameters
    ----------
    model
        The base model.
    engine
        Arguments of the engine; ``max_loras`` and ``max_lora_rank`` are those that follow instead.
    version
        Release of vLLM.
    max_loras, max_lora_rank
        Adapter slots and their rank; 0 slots is an engine without LoRA.
    """

    model: ModelArchitecture
    engine: EngineConfig
    version: Version
    max_loras: int
    max_lora_rank: int

    @property
    def of_tensors(self) -> Launch:
        """The same engine but for what weights and slots do not depend on."""
        engine = self.engine
        return self._replace(
            engine=EngineConfig(
                tensor_parallel_size=engine.tensor_parallel_size,
                pipeline_parallel_size=engine.pipeline_parallel_size,
                enable_expert_parallel=engine.enable_expert_parallel,
                dtype=engine.dtype,
                quantization=engine.quantization,
                fully_sharded_loras=engine.fully_sharded_loras,
                lora_dtype=engine.lora_dtype,
                lora_target_modules=engine.lora_target_modules,
            )
        )

    @property
    def lora(self) -> bool:
        """Whether the engine serves adapters."""
        return self.max_loras > 0


class TensorParallelError(LorapackError, ValueError):
    """The model cannot be divided over this many GPUs."""


def check_parallel(launch: Launch) -> None:
    """Refuse GPUs over which the model's heads, layers or vocabulary do not divide.

    Raises
    ------
    TensorParallelError
        If they do not.
    """
    model, engine = launch.model, launch.engine
    tp, pp = engine.tensor_parallel_size, engine.pipeline_parallel_size
    heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
    if heads % tp or (kv_heads % tp and tp % kv_heads):
        raise TensorParallelError(
            f"engine.tensor_parallel_size is {tp}, which does not divide {model.name}'s {heads} attention "
            f"and {kv_heads} key-value heads; choose a divisor of both"
        )
    if pp > model.num_hidden_layers:
        raise TensorParallelError(
            f"engine.pipeline_parallel_size is {pp}, above {model.name}'s {model.num_hidden_layers} layers; "
            "choose less"
        )


class LoraTargetError(LorapackError, ValueError):
    """No module of the model is one to which ``lora_target_modules`` gives slots."""


def version_of(text: str) -> Version:
    """The release that a text such as ``0.8.5``, ``v0.9.0.1`` or ``0.10.2rc1+cu128`` names.

    Raises
    ------
    EngineVersionError
        If it names none.
    """
    numbers = re.match(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", text.strip())
    if numbers is None:
        raise EngineVersionError(f'engine_version is "{text}"; give it as vLLM does: 0.8.5')
    major, minor, patch = (int(number or 0) for number in numbers.groups())
    return major, minor, patch
