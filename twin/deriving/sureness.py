"""How sure a derived term is: by how badly its cause predicts one measured model from the other, and by GPUs.

Terms err together: a GPU whose reads are slower than thought slows every term that reads. So there is one
common factor for each part of the cost, and a term's share is that of its part.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from twin.deriving.base_step import Machine
from twin.deriving.scaling import Part

ACROSS_MODELS: dict[Part, float] = {
    "base": 0.05,
    "request": 0.05,
    "context": 0.03,
    "host": 0.05,
    "lora": 0.09,
    "link": 0.0,
    "gpu load": 0.63,
    "disk load": 1.5,
}
"""Standard uncertainty of the log by which each measured model is missed when it is scaled from the other:
``python -m benchmarks.derived_profiles``, table a, root mean square over both directions."""

_ACROSS_GPUS: dict[Part, float] = {"base": 0.15, "request": 0.15, "context": 0.15, "lora": 0.15, "link": 0.3}
"""The same on another GPU, the host's work aside; of sums over a link on any."""
_HOST_ELSEWHERE = 0.3
"""The same of the host's work in another machine."""
_PER_LOG = 0.03
"""What it grows by for each factor of e between the bytes of the models."""


class Distance(NamedTuple):
    """How far what is wanted is from what was measured.

    Parameters
    ----------
    model
        Whether it is another model.
    gpu
        Whether it is another GPU.
    size
        Log of the ratio of the weights that a step reads.
    speeds
        Log of how differently memory and arithmetic of the GPUs compare.
    """

    model: bool
    gpu: bool
    size: float
    speeds: float

    @classmethod
    def between(cls, measured: Machine, wanted: Machine) -> Distance:
        """The distance between two models on their GPUs."""
        memory = wanted.speeds.bandwidth / measured.speeds.bandwidth
        compute = wanted.speeds.flops_16 / measured.speeds.flops_16
        return cls(
            model=wanted.counts != measured.counts,
            gpu=wanted.speeds.name != measured.speeds.name,
            size=abs(math.log(wanted.counts.read_bytes(1) / measured.counts.read_bytes(1))),
            speeds=abs(math.log(memory / compute)),
        )


def share_of(part: Part, away: Distance) -> float:
    """Relative standard uncertainty (of the log) of a term of a part."""
    squares = [0.0]
    if away.model:
        squares.append(ACROSS_MODELS[part] ** 2)
        if part in ("base", "context", "lora"):
            squares.append((_PER_LOG * away.size) ** 2)
    if away.gpu:
        squares.append((_HOST_ELSEWHERE if part == "host" else _ACROSS_GPUS.get(part, 0.0)) ** 2)
        if part == "lora":  # between memory and arithmetic, either of which may be the limit
            squares.append((away.speeds / 2) ** 2)
    elif part == "link":
        squares.append(_ACROSS_GPUS["link"] ** 2)
    return math.sqrt(sum(squares))
