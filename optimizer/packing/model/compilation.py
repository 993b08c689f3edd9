"""The decorators of compiled inner loops."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twin.engine.compilation import F, InnerFunction, kept, sources_digest

SOURCES = (
    "branch_and_price/column_enumeration",
    "branch_and_price/dual_inequalities",
    "branch_and_price/knapsack",
    "heuristics/annealing",
    "heuristics/item_kernels",
    "heuristics/kernels",
    "model/compilation",
    "model/matching",
)
"""Files of `optimizer.packing` whose code or constants end up in compiled code."""

_DIGEST = sources_digest(Path(__file__).parents[1], SOURCES)

cached = kept(_DIGEST, error_model="numpy")
"""Compile an entry point with numba, keeping the machine code on disk; typed as the function it is given."""


def compiled(function: F) -> F:
    """Compile a function that only other compiled functions call."""
    return cast(F, InnerFunction(function, _DIGEST, error_model="numpy"))
