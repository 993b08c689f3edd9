"""Places adapters on the fewest GPUs and proves how far from the fewest."""

from optimizer.baselines import BASELINES
from optimizer.compare import Comparison, compare
from optimizer.loop.solve import solve
from optimizer.packing import methods, pack
from optimizer.packing.problem import Packing, PackingOption, PackingProblem
from optimizer.replanning.changes import Change
from optimizer.replanning.replan import replan
from optimizer.result import Result, Validation, result_schema
from optimizer.version import __version__

__all__ = [
    "BASELINES",
    "Change",
    "Comparison",
    "Packing",
    "PackingOption",
    "PackingProblem",
    "Result",
    "Validation",
    "__version__",
    "compare",
    "methods",
    "pack",
    "replan",
    "result_schema",
    "solve",
]
