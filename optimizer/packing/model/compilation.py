"""The decorator of compiled inner loops."""

from __future__ import annotations

from pathlib import Path

from twin.engine.compilation import kept, sources_digest

SOURCES = (
    "branch_and_price/column_enumeration",
    "branch_and_price/dual_inequalities",
    "branch_and_price/knapsack",
    "heuristics/annealing",
    "heuristics/kernels",
    "model/compilation",
    "model/matching",
)
"""Files of `optimizer.packing` whose code or constants end up in compiled code."""

compiled = kept(sources_digest(Path(__file__).parents[1], SOURCES), error_model="numpy")
"""Compile with numba, keeping the machine code on disk; typed as the function it is given."""
