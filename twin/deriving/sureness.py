"""How sure a derived term is: by how badly its cause predicts one measured model from the other, and by GPUs.

Terms err together: a GPU whose memory is slower than thought slows everything that reads. So there is one
common factor for each part of the cost, and a term's share is that of its part. All figures are root mean
squares of logs that ``python -m benchmarks.derived_profiles`` prints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from twin.deriving.base_step import Machine
from twin.deriving.scaling import Part

_ACROSS_MODELS: dict[Part, float] = {
    "base": 0.064,
    "request": 0.064,
    "context": 0.027,
    "host": 0.039,
    "lora": 0.051,
    "gpu load": 0.063,
    "disk load": 0.41,
}
"""Between the two measured models, both ways. *base* and *request*: fixed batches without adapters (table
batches). *lora*: whole steps with adapters (table parts), as what the fits of the two models ascribe to
adapters and what to the rest differs by more than both together. Loads: with the matrices that adapters were
inferred to adapt (`measured_adapters`)."""

_ACROSS_GPUS: dict[Part, float] = {
    "base": 0.104,
    "request": 0.104,
    "context": 0.104,
    "lora": 0.104,
    "host": 0.37,
}
"""Another GPU. 35 steps on seven GPUs beside a database of kernels (table kernels). *host*: all by which the
eight layouts of 8 GPUs are off in public benchmarks (table gpus), as a share of the host's part of the
step."""

_LINK = 0.19
"""Sums over several GPUs: the seven shares of a link that `all_reduce_terms` names, beside the one taken."""
_EXPERTS = 0.35
"""Models with experts: 514 public benchmarks of gpt-oss-120b and MiniMax-M2.5 (table gpus)."""


class Distance(NamedTuple):
    """How far what is wanted is from what was measured.

    Parameters
    ----------
    model
        Whether it is another model.
    gpu
        Whether it is another GPU.
    experts
        Whether it has experts and what was measured has none.
    speeds
        Log of how differently memory and arithmetic of the two GPUs compare.
    """

    model: bool
    gpu: bool
    experts: bool
    speeds: float

    @classmethod
    def between(cls, measured: Machine, wanted: Machine) -> Distance:
        """The distance between two models on their GPUs."""
        memory = wanted.speeds.bandwidth / measured.speeds.bandwidth
        compute = wanted.speeds.flops_16 / measured.speeds.flops_16
        return cls(
            model=wanted.counts != measured.counts,
            gpu=wanted.speeds.name != measured.speeds.name,
            experts=wanted.counts.expert_bytes > 0 and not measured.counts.expert_bytes,
            speeds=abs(math.log(memory / compute)),
        )


def share_of(part: Part, away: Distance) -> float:
    """Relative standard uncertainty (of the log) of a term of a part."""
    causes = [_LINK] if part == "link" else []
    if away.model:
        causes.append(_ACROSS_MODELS.get(part, 0.0))
    if away.experts and part == "base":
        causes.append(_EXPERTS)
    if away.gpu:
        causes.append(_ACROSS_GPUS.get(part, 0.0))
        if part == "lora":  # between memory and arithmetic, either of which may be the limit
            causes.append(away.speeds / 2)
    return math.hypot(*causes)
