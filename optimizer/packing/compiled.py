"""The decorator of compiled inner loops."""

from __future__ import annotations

from pathlib import Path

from twin.engine.compilation import kept, sources_digest

SOURCES = ("annealing", "enumeration", "exchanges", "kernels", "knapsack", "matching")
"""Files of this package whose code or constants end up in compiled code."""

compiled = kept(sources_digest(Path(__file__).parent, (*SOURCES, "compiled")), error_model="numpy")
"""Compile with numba, keeping the machine code on disk; typed as the function it is given."""
