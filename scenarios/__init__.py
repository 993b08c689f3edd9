"""The nouns of lorapack: adapters, workloads, devices, engines, scenarios and placements."""

from scenarios.adapters import Adapter, AdapterClass, ZipfRates
from scenarios.arrivals import Arrivals
from scenarios.engine import EngineConfig
from scenarios.errors import LorapackError, Problem, ScenarioError
from scenarios.lengths import FixedLengths, HistogramLengths, Lengths, LognormalLengths
from scenarios.placement import PlacedGPU, Placement
from scenarios.scenario import Device, Limits, Scenario, ServiceLevels, Workload

__all__ = [
    "Adapter",
    "AdapterClass",
    "Arrivals",
    "Device",
    "EngineConfig",
    "FixedLengths",
    "HistogramLengths",
    "Lengths",
    "Limits",
    "LognormalLengths",
    "LorapackError",
    "PlacedGPU",
    "Placement",
    "Problem",
    "Scenario",
    "ScenarioError",
    "ServiceLevels",
    "Workload",
    "ZipfRates",
]
