"""The packing core: items, bins and rows, every placer, their bounds and proofs; it knows no adapters."""

from optimizer.packing.model.problem import (
    Bin,
    NoGoodCut,
    Packing,
    PackingError,
    PackingOption,
    PackingProblem,
)
from optimizer.packing.solver import methods, pack

__all__ = [
    "Bin",
    "NoGoodCut",
    "Packing",
    "PackingError",
    "PackingOption",
    "PackingProblem",
    "methods",
    "pack",
]
