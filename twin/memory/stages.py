"""Which layers a GPU holds, and in what type: pipeline stages and the engine's ``--dtype``."""

from __future__ import annotations

from twin.architectures import Layer
from twin.memory.launch import Launch, Version

_SPREAD_SINCE: Version = (0, 8, 0)
"""Release from which layers that do not divide go to the stages before the last; in 0.7 the last has all."""


def dtype_bytes(launch: Launch) -> int:
    """Bytes of an activation, and of a weight that is not quantised.

    ``auto`` is the model's own type, but 16 bits where that is of 32 (vLLM, ``config/model.py``).
    """
    return 4 if launch.engine.dtype == "float32" else launch.model.dtype_bytes


def stage_layers(launch: Launch, stage: int) -> tuple[Layer, ...]:
    """Layers of one pipeline stage (vLLM, ``distributed/utils.py``, get_pp_indices)."""
    first, last = stage_bounds(launch, stage)
    return launch.model.layers[first:last]


def stage_bounds(launch: Launch, stage: int) -> tuple[int, int]:
    """First layer of a stage and the one after its last."""
    stages, layers = launch.engine.pipeline_parallel_size, launch.model.num_hidden_layers
    sizes = [layers // stages] * stages
    rest = layers % stages
    if launch.version < _SPREAD_SINCE:
        sizes[-1] += rest
    else:
        for index in range(2, rest + 2):
            sizes[-index] += 1
    first = sum(sizes[:stage])
    return first, first + sizes[stage]


def is_first(stage: int) -> bool:
    """Whether a stage holds the embedding."""
    return stage == 0


def is_last(launch: Launch, stage: int) -> bool:
    """Whether a stage holds the output layer."""
    return stage == launch.engine.pipeline_parallel_size - 1
