"""The step without adapters: host work that stays, and work on the GPU that follows a roofline.

The measured cost of a step by its tokens is taken apart, at every number of tokens, into the host's work, the
reading of the weights, and what is beyond it, which operations cause. Each is scaled for itself, and the step
is never taken to be faster than the other GPU's roofline allows. So the number of tokens from which
operations are the limit moves with the GPU, where factors for single terms would leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twin.deriving.counts import ModelCounts
from twin.deriving.speeds import GPUSpeeds
from twin.engine.requests import FloatArray
from twin.step_cost import CostTerm, StepCost

KNOTS = (1, 2, 16, 64, 128, 256, 512, 1024, 2048, 4096)
"""Tokens between which the cost of a derived step is a line; those of the measured profile are added."""
COMPUTE_SHARE = 0.6
"""Share of a GPU's operations a second that large steps reach: 0.57 (Llama-3.1-8B) and 0.66 (Qwen-2.5-7B) in
the measured profiles. It sets where memory stops being the limit; the cost beyond is as measured."""
_BANDWIDTH_SHARE = 0.9
"""Share of a GPU's bandwidth that reads reach where the profile does not tell."""
_SHARES = (0.5, 1.0)
"""Least and largest share of the bandwidth that a profile's own cost of context can be."""
_KERNELS_OF_A_LAYER = 10
_KERNEL_S = 3e-6
"""Kernels of a layer (normalisations, projections, rotation, cache, attention, activation), and the seconds
that each takes whatever it does: aiconfigurator-core 0.12, systems/*.yaml,
mem_empirical_constant_latency."""


class Machine(NamedTuple):
    """A model on a GPU.

    Parameters
    ----------
    counts
        What a step does.
    speeds
        How fast the GPU is.
    """

    counts: ModelCounts
    speeds: GPUSpeeds

    def read_s(self, tokens: float, share: float) -> float:
        """Seconds to read the weights of a step at a share of the bandwidth."""
        return self.counts.read_bytes(tokens) / (self.speeds.bandwidth * share)

    def compute_s(self, tokens: float) -> float:
        """Seconds for the layers' operations on so many tokens."""
        return self.counts.operations * tokens / (self.speeds.flops * COMPUTE_SHARE)

    def roofline_s(self, tokens: float, share: float) -> float:
        """The longer of both."""
        return max(self.read_s(tokens, share), self.compute_s(tokens))

    def launch_s(self) -> float:
        """Seconds of a step's kernels that do not depend on their size."""
        return _KERNEL_S * _KERNELS_OF_A_LAYER * self.counts.layers


class BaseStep(NamedTuple):
    """A derived step without adapters.

    Parameters
    ----------
    terms
        Its terms.
    host_share
        Share of the smallest step that is neither reading weights nor kernels.
    """

    terms: tuple[CostTerm, ...]
    host_share: float


def is_base(term: CostTerm) -> bool:
    """Whether a term is part of the step without adapters: its constant, or tokens alone."""
    powers = (term.adapters_power, term.slots_power, term.rank_power, term.served_power)
    return term.per == "step" and not term.lora and not any(powers)


def bandwidth_share(step: StepCost, machine: Machine) -> float:
    """Share of the GPU's bandwidth that a measured profile's reads of keys and values reach."""
    context_s = sum(term.seconds for term in step.terms if term.per == "context" and not term.lora)
    if context_s <= 0 or not machine.counts.kv_bytes:
        return _BANDWIDTH_SHARE
    share = machine.counts.kv_bytes / context_s / machine.speeds.bandwidth
    return min(max(share, _SHARES[0]), _SHARES[1])


def base_step(step: StepCost, measured: Machine, wanted: Machine) -> BaseStep:
    """Scale the part of a measured step that is there without adapters.

    Parameters
    ----------
    step
        Cost of a step as it was measured.
    measured, wanted
        What it was measured with, and what it is wanted for.
    """
    terms = [term for term in step.terms if is_base(term)]
    share = bandwidth_share(step, measured)
    knots = _knots(terms)
    cost = sum((term.seconds * term.of_tokens(knots) for term in terms), np.zeros(len(knots)))
    fixed = max(cost[0] - measured.read_s(1, share), 0.0)
    kernels = min(measured.launch_s(), fixed)
    host = fixed - kernels
    fixed_there = host + kernels * wanted.counts.layers / measured.counts.layers
    on_gpu = [_on_gpu(s - fixed, k, measured, wanted, share) for k, s in zip(knots, cost, strict=True)]
    # A step of more tokens never costs less.
    derived = fixed_there + np.maximum.accumulate(on_gpu)
    return BaseStep(_lines(knots, derived), host / max(float(derived[0]), 1e-12))


def _on_gpu(seconds: float, tokens: float, measured: Machine, wanted: Machine, share: float) -> float:
    """What a step's work on the GPU takes there: reads by bytes, what is beyond them by operations.

    Never less than the roofline of the other GPU, or than the same share of it as was measured.
    """
    reads = min(measured.read_s(tokens, share), seconds)
    beyond = (seconds - reads) * wanted.compute_s(tokens) / measured.compute_s(tokens)
    kept = min(seconds / measured.roofline_s(tokens, share), 1.0)
    scaled = reads * wanted.read_s(tokens, share) / measured.read_s(tokens, share) + beyond
    return max(scaled, kept * wanted.roofline_s(tokens, share))


def _knots(terms: Sequence[CostTerm]) -> FloatArray:
    found = set(KNOTS)
    for term in terms:
        if term.tokens_above is not None:
            ends = (term.tokens_above, term.tokens_above + (term.tokens_cap or 0))
            found |= {end for end in ends if end >= 1}
    return np.array(sorted(found), dtype=np.float64)


def _lines(knots: FloatArray, cost: FloatArray) -> tuple[CostTerm, ...]:
    """Terms of a cost that is a line between knots; beyond the last it goes on as before it."""
    terms = [CostTerm(name="step", seconds=float(cost[0]))]
    slopes = np.diff(cost) / np.diff(knots)
    for k, slope in enumerate(slopes):
        last = k == len(slopes) - 1
        low, high = int(knots[k]), int(knots[k + 1])
        if slope > 0:
            name = f"tokens_{low}" if last else f"tokens_{low}_{high}"
            cap = None if last else high - low
            terms.append(CostTerm(name=name, seconds=float(slope), tokens_above=low, tokens_cap=cap))
    return tuple(terms)
