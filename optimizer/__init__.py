"""Places adapters on the fewest GPUs and proves how far from the fewest."""

from importlib import import_module
from typing import TYPE_CHECKING

from optimizer.version import __version__

if TYPE_CHECKING:
    from optimizer.baselines import BASELINES
    from optimizer.checking.drift.check_drift import check_drift
    from optimizer.checking.drift.drift_report import DriftReport, DriftRow
    from optimizer.checking.readings import MetricsReading, read_metrics
    from optimizer.checking.replay.check import check
    from optimizer.checking.replay.check_params import CheckParams
    from optimizer.checking.replay.check_report import CheckedAdapter, CheckedFigure, CheckedGPU, CheckReport
    from optimizer.checking.watching import WatchedServers, watch_metrics
    from optimizer.comparison import Comparison, compare
    from optimizer.growth import GrowthReport
    from optimizer.no_plan import NoPlan, NoPlanReason
    from optimizer.packing import methods, pack
    from optimizer.packing.model.problem import Packing, PackingOption, PackingProblem
    from optimizer.replanning.changes import Change
    from optimizer.replanning.replan import replan
    from optimizer.reporting.params import ReportParams
    from optimizer.reporting.report import Report, report
    from optimizer.result import Result, result_schema
    from optimizer.result_file import read_result
    from optimizer.rollouts.report import Rollout, Stage
    from optimizer.rollouts.rollout import rollout
    from optimizer.search.params import SolveParams
    from optimizer.search.solve import solve
    from optimizer.studies.front import Front, FrontPoint, front
    from optimizer.studies.sweep import Sweep, sweep
    from optimizer.survival.report import LossCase, Survival
    from optimizer.survival.survives import survives

__all__ = [
    "BASELINES",
    "Change",
    "CheckParams",
    "CheckReport",
    "CheckedAdapter",
    "CheckedFigure",
    "CheckedGPU",
    "Comparison",
    "DriftReport",
    "DriftRow",
    "Front",
    "FrontPoint",
    "GrowthReport",
    "LossCase",
    "MetricsReading",
    "NoPlan",
    "NoPlanReason",
    "Packing",
    "PackingOption",
    "PackingProblem",
    "Report",
    "ReportParams",
    "Result",
    "Rollout",
    "SolveParams",
    "Stage",
    "Survival",
    "Sweep",
    "WatchedServers",
    "__version__",
    "check",
    "check_drift",
    "compare",
    "front",
    "methods",
    "pack",
    "read_metrics",
    "read_result",
    "replan",
    "report",
    "result_schema",
    "rollout",
    "solve",
    "survives",
    "sweep",
    "watch_metrics",
]

_MODULES = {
    "BASELINES": "optimizer.baselines",
    "Change": "optimizer.replanning.changes",
    "CheckParams": "optimizer.checking.replay.check_params",
    "CheckReport": "optimizer.checking.replay.check_report",
    "CheckedAdapter": "optimizer.checking.replay.check_report",
    "CheckedFigure": "optimizer.checking.replay.check_report",
    "CheckedGPU": "optimizer.checking.replay.check_report",
    "Comparison": "optimizer.comparison",
    "DriftReport": "optimizer.checking.drift.drift_report",
    "DriftRow": "optimizer.checking.drift.drift_report",
    "Front": "optimizer.studies.front",
    "FrontPoint": "optimizer.studies.front",
    "GrowthReport": "optimizer.growth",
    "LossCase": "optimizer.survival.report",
    "MetricsReading": "optimizer.checking.readings",
    "NoPlan": "optimizer.no_plan",
    "NoPlanReason": "optimizer.no_plan",
    "Packing": "optimizer.packing.model.problem",
    "PackingOption": "optimizer.packing.model.problem",
    "PackingProblem": "optimizer.packing.model.problem",
    "Report": "optimizer.reporting.report",
    "ReportParams": "optimizer.reporting.params",
    "Result": "optimizer.result",
    "Rollout": "optimizer.rollouts.report",
    "SolveParams": "optimizer.search.params",
    "Stage": "optimizer.rollouts.report",
    "Survival": "optimizer.survival.report",
    "Sweep": "optimizer.studies.sweep",
    "WatchedServers": "optimizer.checking.watching",
    "check": "optimizer.checking.replay.check",
    "check_drift": "optimizer.checking.drift.check_drift",
    "compare": "optimizer.comparison",
    "front": "optimizer.studies.front",
    "methods": "optimizer.packing",
    "pack": "optimizer.packing",
    "read_metrics": "optimizer.checking.readings",
    "read_result": "optimizer.result_file",
    "replan": "optimizer.replanning.replan",
    "report": "optimizer.reporting.report",
    "result_schema": "optimizer.result",
    "rollout": "optimizer.rollouts.rollout",
    "solve": "optimizer.search.solve",
    "survives": "optimizer.survival.survives",
    "sweep": "optimizer.studies.sweep",
    "watch_metrics": "optimizer.checking.watching",
}
"""Where each name comes from; imported when it is first asked for, as solvers take seconds to import."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
