"""Places adapters on the fewest GPUs and proves how far from the fewest."""

from optimizer.baselines import BASELINES
from optimizer.changes import Change
from optimizer.compare import Comparison, compare
from optimizer.packing import methods, pack
from optimizer.problem import Packing, PackingOption, PackingProblem
from optimizer.replan import replan
from optimizer.result import Result, Validation, result_schema
from optimizer.solve import solve

__all__ = [
    "BASELINES",
    "Change",
    "Comparison",
    "Packing",
    "PackingOption",
    "PackingProblem",
    "Result",
    "Validation",
    "compare",
    "methods",
    "pack",
    "replan",
    "result_schema",
    "solve",
]
