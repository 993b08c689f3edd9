"""What each term of a measured step is made of, and so what it is scaled by.

Causes of the terms of an engine with adapters are read from the kernels of vLLM 0.8.5
(``lora/ops/triton_ops``):

- *slots*: both kernels launch thread blocks for every slot, in use or not, and those without tokens end at
  once: the number of blocks, which follows from the matrices' slices and widths;
- *distinct adapters*: as many blocks work for each; what grows with the *rank* reads the adapter's matrices,
  rank times inputs and outputs;
- *tokens*: below 128 tokens the number of blocks again; from 128 on what is added to the outputs of every
  token.

How well each predicts one measured model from the other is told by ``python -m benchmarks.derived_profiles``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from twin.deriving.base_step import COMPUTE_SHARE, Machine
from twin.deriving.counts import LORA_MANY_TOKENS
from twin.step_cost import CostTerm

Part = Literal["base", "host", "context", "request", "lora", "link", "gpu load", "disk load"]
"""Groups of terms that err together."""

_LOGIT_BYTES = 10
"""Bytes moved for a logit when the likeliest token is taken (vLLM 0.8.5, v1/sample/sampler.py): read in 16
bits and written in 32, read once more."""
PENALTY_BYTES = 129
"""Bytes moved for a logit by penalties (vLLM 0.8.5, model_executor/layers/utils.py, apply_penalties):
counts in 64 bits and masks of prompt and answer, and six operations on logits in 32 bits."""
PENALTY_HOST_S = 7e-6
"""Seconds of the host for each request with penalties: the tokens of its answer become a padded array anew in
every step (v1/sample/ops/penalties.py). The same numpy calls, answers of 100 tokens in the mean and 250 to
1,000 requests: 6.3 to 9.0 µs each on a cloud CPU."""


class Scaled(NamedTuple):
    """A term's factor and why.

    Parameters
    ----------
    factor
        What its seconds are multiplied by.
    part
        The group that it errs with.
    cause
        What it is made of, in words.
    """

    factor: float
    part: Part
    cause: str


def lora_speed(measured: Machine, wanted: Machine) -> float:
    """How many times longer the LoRA kernels take on the other GPU for the same blocks.

    They are many and small: neither memory nor arithmetic is known to be their limit, so it is taken to be
    half of each. How far both lie apart is part of the terms' uncertainty.
    """
    memory = measured.speeds.bandwidth / wanted.speeds.bandwidth
    compute = measured.speeds.flops_16 / wanted.speeds.flops_16
    return math.sqrt(memory * compute)


def scaled_term(term: CostTerm, measured: Machine, wanted: Machine) -> Scaled:
    """Factor of a term that is not of the step without adapters, and not charged for each request."""
    there, here = wanted.counts, measured.counts
    memory = measured.speeds.bandwidth / wanted.speeds.bandwidth
    if term.per == "context" and not term.lora:
        bytes_ratio = there.kv_bytes / here.kv_bytes if here.kv_bytes else 1.0
        return Scaled(
            bytes_ratio * memory, "context", "keys and values read of an earlier token: bytes / bandwidth"
        )
    if term.per == "waiting" or term.served_power or (term.per == "prompts" and not term.lora):
        return Scaled(1.0, "host", "work of the host: unchanged")
    if term.per == "prefill":
        compute = there.operations / here.operations * measured.speeds.flops / wanted.speeds.flops
        return Scaled(compute, "base", "operations of the layers / FLOPS")
    speed = lora_speed(measured, wanted)
    tokens = term.tokens_above is not None
    few = not tokens or (term.tokens_above or 0) < LORA_MANY_TOKENS
    if term.slots_power or (tokens and few and not term.adapters_power):
        ratio = there.lora_blocks / here.lora_blocks
        if not few:
            ratio = there.lora_blocks_many / here.lora_blocks_many
        return Scaled(ratio * speed, "lora", "thread blocks of the LoRA kernels")
    if tokens:
        ratio = there.lora_outputs / here.lora_outputs
        return Scaled(ratio * speed, "lora", "outputs of the adapted matrices, for every token")
    if term.rank_power:
        return Scaled(there.lora_shape / here.lora_shape * speed, "lora", "weights of an adapter")
    ratio = there.lora_blocks / here.lora_blocks
    return Scaled(ratio * speed, "lora", "thread blocks of the LoRA kernels, at work for an adapter")


def request_s(
    seconds: float, measured: Machine, wanted: Machine, penalties: tuple[bool, bool], share: float
) -> float:
    """Cost of each decoding request: the output layer and the logits by the vocabulary, the host unchanged.

    Parameters
    ----------
    seconds
        As measured.
    measured, wanted
        What it was measured with, and what it is wanted for.
    penalties
        Whether requests were measured, and are wanted, with a repetition penalty.
    share
        Share of a GPU's bandwidth that is reached.
    """
    on_gpu = seconds - (penalty_s(measured, share) if penalties[0] else 0.0)
    host = max(on_gpu - _logits_s(measured, share), 0.0)
    # What was measured may be less than what is counted: then all of it is the GPU's.
    counted = min(_logits_s(measured, share), max(on_gpu, 0.0)) / _logits_s(measured, share)
    return host + counted * _logits_s(wanted, share) + (penalty_s(wanted, share) if penalties[1] else 0.0)


def penalty_s(machine: Machine, share: float) -> float:
    """Seconds that penalties add for each decoding request."""
    return PENALTY_HOST_S + PENALTY_BYTES * machine.counts.vocabulary / (machine.speeds.bandwidth * share)


def _logits_s(machine: Machine, share: float) -> float:
    counts, speeds = machine.counts, machine.speeds
    moved = _LOGIT_BYTES * counts.vocabulary + counts.state_bytes
    return counts.head_operations / (speeds.flops_16 * COMPUTE_SHARE) + moved / (speeds.bandwidth * share)
