"""The nouns of lorapack: adapters, workloads, devices, engines, scenarios and placements."""

from scenarios.adapters import MAX_ADAPTERS, Adapter, AdapterClass, ZipfRates
from scenarios.arrivals import Arrivals
from scenarios.engine import EngineConfig, EngineOption
from scenarios.errors import LorapackError, Problem, ScenarioError
from scenarios.files import (
    ShippedScenario,
    check_placement,
    dumps,
    from_mapping,
    loads,
    override,
    read,
    read_placement,
    shipped,
    write,
    write_placement,
)
from scenarios.lengths import FixedLengths, HistogramLengths, Lengths, LognormalLengths
from scenarios.output import OutputFileError
from scenarios.params import Params, params_from, read_params
from scenarios.placement import PlacedGPU, Placement
from scenarios.reading.schema import schema
from scenarios.scenario import Device, Scenario
from scenarios.service_levels import AdapterSLO, LatencyLimits, ServiceLevelObjectives
from scenarios.workload import Workload

__all__ = [
    "MAX_ADAPTERS",
    "Adapter",
    "AdapterClass",
    "AdapterSLO",
    "Arrivals",
    "Device",
    "EngineConfig",
    "EngineOption",
    "FixedLengths",
    "HistogramLengths",
    "LatencyLimits",
    "Lengths",
    "LognormalLengths",
    "LorapackError",
    "OutputFileError",
    "Params",
    "PlacedGPU",
    "Placement",
    "Problem",
    "Scenario",
    "ScenarioError",
    "ServiceLevelObjectives",
    "ShippedScenario",
    "Workload",
    "ZipfRates",
    "check_placement",
    "dumps",
    "from_mapping",
    "loads",
    "override",
    "params_from",
    "read",
    "read_params",
    "read_placement",
    "schema",
    "shipped",
    "write",
    "write_placement",
]
