"""Candidate terms of the step cost, and what a fit sees of a step or of a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin.engine.requests import FloatArray
from twin.step_cost import CostTerm


@dataclass(frozen=True)
class Steps:
    """Steps of one configuration with weights; a single probed step is a sample of one.

    Parameters
    ----------
    weight
        Weight of each step, shape (n,); for a mean gap between tokens, the requests decoding in it.
    tokens, decodes, context, adapters, waiting
        Scheduled tokens, decoding requests, their context, distinct adapters, waiting requests, shape (n,).
    max_loras, max_lora_rank, served
        Slots (0 without LoRA), the rank of every slot, and the adapters served.
    """

    weight: FloatArray
    tokens: FloatArray
    decodes: FloatArray
    context: FloatArray
    adapters: FloatArray
    waiting: FloatArray
    max_loras: int
    max_lora_rank: int
    served: int


def candidate_terms(
    token_knots: Sequence[int], *, prompts: bool = False, any_adapter: bool = False
) -> tuple[CostTerm, ...]:
    """Terms with coefficient 1 from which non-negative least squares chooses.

    Each is a cost that the engine's construction suggests: launching the layers, matrix multiplications
    by the number of tokens, attention by context, sampling by request; with LoRA, grids sized by slots,
    kernels by tokens, slots and rank, work per distinct adapter, and for each of them a list of all adapters
    served (vLLM builds it anew to look one up); scanning the waiting queue.

    Parameters
    ----------
    token_knots
        Tokens at which the cost of a token may change, ascending.
    prompts
        Whether what a step with prompts costs more than another is among them. It is not for each adapter:
        LoRA kernels do not ask whether a token is of a prompt (vLLM 0.8.5 to 0.32.0,
        ``vllm/v1/worker/lora_model_runner_mixin.py``: ``is_prefill`` is True for every step).
    any_adapter
        Whether what a step with any adapter costs more than one of the base model alone is among them: an
        engine with LoRA on launches no LoRA kernel without adapters (vLLM 0.8.5 to 0.32.0,
        ``vllm/lora/punica_wrapper/utils.py`` and ``vllm/lora/ops``: ``no_lora``).
    """
    terms = [
        CostTerm(name="step", seconds=1),
        CostTerm(name="decode", seconds=1, per="decode"),
        CostTerm(name="context", seconds=1, per="context"),
        CostTerm(name="waiting", seconds=1, per="waiting"),
        CostTerm(name="lora", seconds=1, lora=True),
        CostTerm(name="slots", seconds=1, lora=True, slots_power=1),
        CostTerm(name="rank", seconds=1, lora=True, rank_power=1),
        CostTerm(name="slots_rank", seconds=1, lora=True, slots_power=1, rank_power=1),
        CostTerm(name="adapters", seconds=1, lora=True, adapters_power=1),
        CostTerm(name="adapters_sqrt", seconds=1, lora=True, adapters_power=0.5),
        CostTerm(name="adapters_rank", seconds=1, lora=True, adapters_power=1, rank_power=1),
        CostTerm(name="adapters_served", seconds=1, lora=True, adapters_power=1, served_power=1),
        CostTerm(name="adapters_tokens", seconds=1, lora=True, adapters_power=1, tokens_above=0),
    ]
    for low, high in zip(token_knots, (*token_knots[1:], None), strict=True):
        span = f"tokens_{low}_{high}" if high is not None else f"tokens_{low}"
        cap = None if high is None else high - low
        for suffix, lora, slots, rank in (
            ("", False, 0, 0),
            ("_lora", True, 0, 0),
            ("_slots", True, 1, 0),
            ("_rank", True, 0, 1),
        ):
            terms.append(
                CostTerm(
                    name=span + suffix,
                    seconds=1,
                    lora=lora,
                    tokens_above=low,
                    tokens_cap=cap,
                    slots_power=slots,
                    rank_power=rank,
                )
            )
    if any_adapter:
        terms.append(CostTerm(name="any_adapter", seconds=1, lora=True, adapters_power=1, adapters_cap=1))
    if prompts:
        terms.append(CostTerm(name="prompts", seconds=1, per="prompts"))
    return tuple(terms)


def features(terms: tuple[CostTerm, ...], steps: Steps) -> FloatArray:
    """Weighted mean over steps of what each term's coefficient is multiplied by, shape (n_terms,)."""
    known: dict[tuple[object, ...], float] = {}
    total = float(steps.weight.sum())
    row = np.empty(len(terms))
    for k, term in enumerate(terms):
        shape = (term.per, term.tokens_above, term.tokens_cap, term.adapters_power, term.adapters_cap)
        if shape not in known:
            # No matrix product: its rounding depends on the threads that the process has.
            known[shape] = float((steps.weight * _factor(term, steps)).sum()) / total
        row[k] = known[shape] * term.times(1.0, steps.max_loras, steps.max_lora_rank, steps.served)
    return row


def _factor(term: CostTerm, steps: Steps) -> FloatArray:
    if term.per == "step":
        return term.of_tokens(steps.tokens) * term.of_adapters(steps.adapters)
    amount: FloatArray = {
        "decode": steps.decodes,
        "prefill": steps.tokens - steps.decodes,
        "prompts": (steps.tokens > steps.decodes).astype(np.float64),
        "context": steps.context,
        "waiting": steps.waiting,
    }[term.per]
    return amount
