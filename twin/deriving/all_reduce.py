"""What several GPUs cost: twice a layer, after attention and after the network, they add up."""

from __future__ import annotations

from collections.abc import Iterator

from twin.deriving.base_step import Machine
from twin.step_cost import CostTerm

_SUMS_OF_A_LAYER = 2
_LATENCY_S = 5e-6
"""Seconds of a sum of few tokens: 4.4 to 6.5 µs on 2 to 8 H100, H200 and A100 inside CUDA graphs (measured
tables of aiconfigurator-core 0.12, comm/vllm, custom_allreduce)."""
_LINK_SHARE = 0.5
"""Share of a link's bandwidth, one direction, that large sums reach: 0.48, 0.60 and 0.75 on 2, 4 and 8
H100, 0.46 to 0.48 on 2 to 8 A100, 0.59 on 2 L40S (8 Mi elements, the same tables)."""
_BYTES = 2


def all_reduce_terms(machine: Machine, gpus: int) -> Iterator[CostTerm]:
    """Terms of the sums of an engine of several GPUs: latency in every step, and bytes of every token.

    Parameters
    ----------
    machine
        One of the GPUs, whose link is known.
    gpus
        GPUs of the engine; with one there are no sums.
    """
    if gpus < 2 or machine.speeds.link is None:
        return
    sums = _SUMS_OF_A_LAYER * machine.counts.layers
    moved = _BYTES * machine.counts.hidden * 2 * (gpus - 1) / gpus
    yield CostTerm(name="all_reduce", seconds=sums * _LATENCY_S)
    token_s = sums * moved / (machine.speeds.link * _LINK_SHARE)
    yield CostTerm(name="all_reduce_tokens", seconds=token_s, tokens_above=0)
