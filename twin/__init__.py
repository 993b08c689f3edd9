"""The digital twin of one GPU's serving engine: memory, scheduler, step cost, and verdicts on placements."""

from twin.arrivals import WorkloadError, draw_requests
from twin.load import GPULoad
from twin.loop import EngineInputError, UnservableRequestError
from twin.memory import MemoryModel, MemoryPlan, plan_memory
from twin.profile import (
    EngineProfile,
    ProfileError,
    UnknownProfileError,
    find_profile,
    read_profile,
    shipped_profiles,
    write_profile,
)
from twin.records import RunRecords
from twin.replay import ScheduleError, replay, replay_files
from twin.replications import Replications, replicate
from twin.requests import Requests
from twin.result import SimulationResult
from twin.setup import EngineSetup, SchedulerRules, StepTables
from twin.simulate import MemoryFailure, build_setup, simulate
from twin.validation import judge, profiles_of, validate
from twin.verdict import GPUVerdict, ValidationReport

__all__ = [
    "EngineInputError",
    "EngineProfile",
    "EngineSetup",
    "GPULoad",
    "GPUVerdict",
    "MemoryFailure",
    "MemoryModel",
    "MemoryPlan",
    "ProfileError",
    "Replications",
    "Requests",
    "RunRecords",
    "ScheduleError",
    "SchedulerRules",
    "SimulationResult",
    "StepTables",
    "UnknownProfileError",
    "UnservableRequestError",
    "ValidationReport",
    "WorkloadError",
    "build_setup",
    "draw_requests",
    "find_profile",
    "judge",
    "plan_memory",
    "profiles_of",
    "read_profile",
    "replay",
    "replay_files",
    "replicate",
    "shipped_profiles",
    "simulate",
    "validate",
    "write_profile",
]
