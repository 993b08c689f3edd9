"""The digital twin of one GPU's serving engine: memory, scheduler, step cost, and verdicts on placements."""

from importlib import import_module
from typing import TYPE_CHECKING

from twin.corners import Corner
from twin.deriving import (
    DerivationError,
    MissingFigureError,
    UnknownModuleError,
    derive_profile,
    known_profile,
    missing_profiles,
)
from twin.engine.records import RunRecords
from twin.engine.requests import Requests
from twin.engine.rules import SchedulerRules
from twin.engine.run import EngineInputError, UnservableRequestError
from twin.engine.setup import EngineSetup, StepTables
from twin.judging import EngineArgumentError, judge, profiles_of
from twin.load import GPULoad
from twin.load_growth import LoadGrowth, load_growths
from twin.memory import MemoryModel, MemoryPlan, plan_memory
from twin.parallel import ClusterAddressError, ClusterError, WorkersLostError, on_cluster
from twin.profile import (
    End,
    EngineProfile,
    ProfileError,
    UnknownProfileError,
    find_profile,
    read_profile,
    shipped_profiles,
    write_profile,
)
from twin.result import SimulationResult
from twin.schedules.replay import ReplayedSchedule, replay, replay_files
from twin.simulate import MemoryFailure, build_setup, check_trace, simulate
from twin.startup import MemoryAnswer, MemoryQuestionError, SurveyedGPU, ask_memory, survey_memory
from twin.sustained import FULL, LABEL, SCREEN, Effort, Observation, observation_of
from twin.twin_judge import GPUContent, PlacementJudge, TwinJudge, validate
from twin.verdict import GPUVerdict, LatencyFigures, LatencyTable, SustainedFigures, ValidationReport
from twin.violations import (
    LATENCIES,
    AdapterFigure,
    AdapterLatency,
    Criterion,
    Violation,
    limits_latencies,
)
from twin.window import RequestTimes, times_alone, window_note, window_problem
from twin.workload.arrivals import draw_requests
from twin.workload.processes.instants import WorkloadError
from twin.workload.recordings import arrival_values

if TYPE_CHECKING:
    from twin.calibration.calibrate import CalibrationError, calibrate
    from twin.calibration.params import CalibrationParams
    from twin.calibration.report import CalibrationReport
    from twin.measured.bench_report import BenchFidelity, bench_fidelity
    from twin.measured.bench_runs import BenchEngine
    from twin.measured.measurement import Measurement, read_measurement
    from twin.measured.params import FidelityParams
    from twin.measured.predict import fidelity
    from twin.measured.report import FidelityReport
    from twin.measured.sources import read_sources
    from twin.updating.report import UpdateReport
    from twin.updating.update import UpdateError, update_profile

__all__ = [
    "FULL",
    "LABEL",
    "LATENCIES",
    "SCREEN",
    "AdapterFigure",
    "AdapterLatency",
    "BenchEngine",
    "BenchFidelity",
    "CalibrationError",
    "CalibrationParams",
    "CalibrationReport",
    "ClusterAddressError",
    "ClusterError",
    "Corner",
    "Criterion",
    "DerivationError",
    "Effort",
    "End",
    "EngineArgumentError",
    "EngineInputError",
    "EngineProfile",
    "EngineSetup",
    "FidelityParams",
    "FidelityReport",
    "GPUContent",
    "GPULoad",
    "GPUVerdict",
    "LatencyFigures",
    "LatencyTable",
    "LoadGrowth",
    "Measurement",
    "MemoryAnswer",
    "MemoryFailure",
    "MemoryModel",
    "MemoryPlan",
    "MemoryQuestionError",
    "MissingFigureError",
    "Observation",
    "PlacementJudge",
    "ProfileError",
    "ReplayedSchedule",
    "RequestTimes",
    "Requests",
    "RunRecords",
    "SchedulerRules",
    "SimulationResult",
    "StepTables",
    "SurveyedGPU",
    "SustainedFigures",
    "TwinJudge",
    "UnknownModuleError",
    "UnknownProfileError",
    "UnservableRequestError",
    "UpdateError",
    "UpdateReport",
    "ValidationReport",
    "Violation",
    "WorkersLostError",
    "WorkloadError",
    "arrival_values",
    "ask_memory",
    "bench_fidelity",
    "build_setup",
    "calibrate",
    "check_trace",
    "derive_profile",
    "draw_requests",
    "fidelity",
    "find_profile",
    "judge",
    "known_profile",
    "limits_latencies",
    "load_growths",
    "missing_profiles",
    "observation_of",
    "on_cluster",
    "plan_memory",
    "profiles_of",
    "read_measurement",
    "read_profile",
    "read_sources",
    "replay",
    "replay_files",
    "shipped_profiles",
    "simulate",
    "survey_memory",
    "times_alone",
    "update_profile",
    "validate",
    "window_note",
    "window_problem",
    "write_profile",
]

_LATE = {
    "CalibrationError": "twin.calibration.calibrate",
    "CalibrationParams": "twin.calibration.params",
    "CalibrationReport": "twin.calibration.report",
    "BenchEngine": "twin.measured.bench_runs",
    "BenchFidelity": "twin.measured.bench_report",
    "bench_fidelity": "twin.measured.bench_report",
    "FidelityParams": "twin.measured.params",
    "FidelityReport": "twin.measured.report",
    "Measurement": "twin.measured.measurement",
    "calibrate": "twin.calibration.calibrate",
    "fidelity": "twin.measured.predict",
    "UpdateError": "twin.updating.update",
    "UpdateReport": "twin.updating.report",
    "read_sources": "twin.measured.sources",
    "update_profile": "twin.updating.update",
    "read_measurement": "twin.measured.measurement",
}
"""Names whose modules need pandas and scipy.optimize, and are imported when they are first asked for."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
        return getattr(import_module(_LATE[name]), name)

    def __dir__() -> list[str]:
        return sorted(__all__)
