"""Which terms of a step cost go up and down together: those of one cause."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from twin.engine.requests import FloatArray
from twin.step_cost import CostTerm, StepCost

Group = Literal["compute", "memory", "overhead"]

GROUPS: tuple[Group, ...] = get_args(Group)


def group_of(term: CostTerm) -> Group:
    """What a term's cost is made of, by its shape.

    *memory*: bytes that are read. Keys and values by context, the weights of each distinct adapter.
    *compute*: arithmetic, which grows with the tokens of the step; prefill, LoRA kernels by token.
    *overhead*: what the host does and what launching costs. The constant of a step, of one with prompts and
    of one with any adapter, scheduling, sampling and bookkeeping per request, the scan of the waiting queue,
    the list of all adapters served, and the empty blocks of kernels whose grids are sized by slots and rank.
    The constant holds the reading of the model's weights as well: no measurement of whole steps tells the two
    apart.
    """
    if term.per == "context":
        return "memory"
    if term.per == "prefill":
        return "compute"
    if term.per != "step" or term.served_power:
        return "overhead"
    if term.tokens_above is not None:
        return "compute"
    each = term.adapters_power is not None and term.adapters_cap != 1
    return "memory" if each else "overhead"


def membership(step: StepCost) -> FloatArray:
    """1 where a term is of a group, else 0; shape (n_terms, n_groups)."""
    return np.array([[float(group_of(term) == group) for group in GROUPS] for term in step.terms])


def scaled(step: StepCost, factors: FloatArray) -> StepCost:
    """A step cost with every term times the factor of its group, shape (n_groups,)."""
    by_group = dict(zip(GROUPS, factors, strict=True))
    terms = [
        term.model_copy(update={"seconds": float(term.seconds * by_group[group_of(term)])})
        for term in step.terms
    ]
    return StepCost(terms=tuple(terms))
