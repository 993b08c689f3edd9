"""What lorapack is about: adapters, workloads, devices, engines, scenarios and placements.

`__all__`, and so `dir`, is what users need. What the other packages need beside it, of text, signals and
output, is imported here too.
"""

from scenarios.acceptance import ACCEPTANCES as ACCEPTANCES
from scenarios.acceptance import Acceptance as Acceptance
from scenarios.adapter_classes import AdapterClass as AdapterClass
from scenarios.adapter_classes import AdapterKind as AdapterKind
from scenarios.adapters import MAX_ADAPTERS as MAX_ADAPTERS
from scenarios.adapters import Adapter as Adapter
from scenarios.base import FrozenModel as FrozenModel
from scenarios.catalogue import ShippedScenario as ShippedScenario
from scenarios.catalogue import shipped as shipped
from scenarios.engine import MAX_LORA_RANKS as MAX_LORA_RANKS
from scenarios.engine import MAX_SLOTS as MAX_SLOTS
from scenarios.engine import EngineConfig as EngineConfig
from scenarios.engine import EngineOption as EngineOption
from scenarios.engine import FurtherArguments as FurtherArguments
from scenarios.engine import Speculation as Speculation
from scenarios.engine import SpeculativeConfig as SpeculativeConfig
from scenarios.engine import padded_rank as padded_rank
from scenarios.errors import LorapackError as LorapackError
from scenarios.errors import Problem as Problem
from scenarios.errors import ScenarioError as ScenarioError
from scenarios.export_settings import ExportSettings as ExportSettings
from scenarios.exporters.deployment import ExportError as ExportError
from scenarios.exporters.exported import Export as Export
from scenarios.exporters.targets import export as export
from scenarios.exporters.targets import export_kind as export_kind
from scenarios.exporters.targets import export_steps as export_steps
from scenarios.exporters.targets import exportable as exportable
from scenarios.exporters.targets import find_steps as find_steps
from scenarios.exporters.targets import find_target as find_target
from scenarios.exporters.writing import check_folder as check_folder
from scenarios.exporters.writing import write_export as write_export
from scenarios.files import check_placement as check_placement
from scenarios.files import dumps as dumps
from scenarios.files import from_mapping as from_mapping
from scenarios.files import loads as loads
from scenarios.files import override as override
from scenarios.files import read as read
from scenarios.files import read_placement as read_placement
from scenarios.files import sources as sources
from scenarios.files import swapped as swapped
from scenarios.files import write as write
from scenarios.files import write_placement as write_placement
from scenarios.gpus.catalogue import GPU as GPU
from scenarios.gpus.catalogue import Interconnect as Interconnect
from scenarios.gpus.catalogue import UnknownGPUError as UnknownGPUError
from scenarios.gpus.catalogue import find_gpu as find_gpu
from scenarios.gpus.catalogue import gpus as gpus
from scenarios.importers.facts import ImportSourceError as ImportSourceError
from scenarios.importers.importing import ImportedFleet as ImportedFleet
from scenarios.importers.importing import import_fleet as import_fleet
from scenarios.importers.startup_logs.startup_log import StartupLog as StartupLog
from scenarios.importers.startup_logs.startup_log import StartupLogError as StartupLogError
from scenarios.importers.startup_logs.startup_log import parse_startup_log as parse_startup_log
from scenarios.importers.startup_logs.startup_log import read_startup_log as read_startup_log
from scenarios.load import at_load as at_load
from scenarios.output import OutputFileError as OutputFileError
from scenarios.output import check_writable as check_writable
from scenarios.output import write_whole as write_whole
from scenarios.params import Params as Params
from scenarios.params import params_from as params_from
from scenarios.params import read_params as read_params
from scenarios.placement import PlacedAdapter as PlacedAdapter
from scenarios.placement import PlacedGPU as PlacedGPU
from scenarios.placement import Placement as Placement
from scenarios.placement import as_started as as_started
from scenarios.placement import described as described
from scenarios.placement import nodes_of as nodes_of
from scenarios.placement import with_nodes as with_nodes
from scenarios.scenario import Device as Device
from scenarios.scenario import Scenario as Scenario
from scenarios.scenario import criterion_in_words as criterion_in_words
from scenarios.scenario import schema as schema
from scenarios.service_levels import AdapterSLO as AdapterSLO
from scenarios.service_levels import LatencyLimits as LatencyLimits
from scenarios.service_levels import ServiceLevelObjectives as ServiceLevelObjectives
from scenarios.stopping.deadline import UNLIMITED as UNLIMITED
from scenarios.stopping.deadline import Deadline as Deadline
from scenarios.stopping.deadline import Stopped as Stopped
from scenarios.stopping.deadline import Work as Work
from scenarios.stopping.interrupts import interrupted as interrupted
from scenarios.stopping.interrupts import noticed as noticed
from scenarios.text.display import spreadsheet_cell as spreadsheet_cell
from scenarios.text.display import visible as visible
from scenarios.text.display import visible_lines as visible_lines
from scenarios.traffic.arrivals import Arrivals as Arrivals
from scenarios.traffic.arrivals import ClosedLoopArrivals as ClosedLoopArrivals
from scenarios.traffic.arrivals import DeterministicArrivals as DeterministicArrivals
from scenarios.traffic.arrivals import GammaArrivals as GammaArrivals
from scenarios.traffic.arrivals import HyperexponentialArrivals as HyperexponentialArrivals
from scenarios.traffic.arrivals import OnOffArrivals as OnOffArrivals
from scenarios.traffic.arrivals import PiecewiseArrivals as PiecewiseArrivals
from scenarios.traffic.arrivals import PoissonArrivals as PoissonArrivals
from scenarios.traffic.arrivals import UnpredictableArrivals as UnpredictableArrivals
from scenarios.traffic.arrivals import WeibullArrivals as WeibullArrivals
from scenarios.traffic.lengths import FixedLengths as FixedLengths
from scenarios.traffic.lengths import HistogramLengths as HistogramLengths
from scenarios.traffic.lengths import Lengths as Lengths
from scenarios.traffic.lengths import LognormalLengths as LognormalLengths
from scenarios.traffic.prompt_reuse import PromptReuse as PromptReuse
from scenarios.traffic.prompt_reuse import Sessions as Sessions
from scenarios.traffic.rates import UncertainRate as UncertainRate
from scenarios.traffic.rates import ZipfRates as ZipfRates
from scenarios.traffic.recordings import RecordedArrivals as RecordedArrivals
from scenarios.traffic.recordings import ServegenArrivals as ServegenArrivals
from scenarios.traffic.recordings import TraceArrivals as TraceArrivals
from scenarios.traffic.recordings import TraceColumns as TraceColumns
from scenarios.traffic.workload import Workload as Workload

__all__ = [
    "GPU",
    "UNLIMITED",
    "Adapter",
    "AdapterClass",
    "AdapterSLO",
    "Arrivals",
    "ClosedLoopArrivals",
    "Deadline",
    "DeterministicArrivals",
    "Device",
    "EngineConfig",
    "EngineOption",
    "Export",
    "ExportError",
    "ExportSettings",
    "FixedLengths",
    "GammaArrivals",
    "HistogramLengths",
    "HyperexponentialArrivals",
    "ImportSourceError",
    "ImportedFleet",
    "Interconnect",
    "LatencyLimits",
    "Lengths",
    "LognormalLengths",
    "LorapackError",
    "OnOffArrivals",
    "OutputFileError",
    "Params",
    "PiecewiseArrivals",
    "PlacedAdapter",
    "PlacedGPU",
    "Placement",
    "PoissonArrivals",
    "Problem",
    "Scenario",
    "ScenarioError",
    "ServiceLevelObjectives",
    "ShippedScenario",
    "SpeculativeConfig",
    "StartupLog",
    "StartupLogError",
    "Stopped",
    "TraceArrivals",
    "TraceColumns",
    "UncertainRate",
    "UnknownGPUError",
    "UnpredictableArrivals",
    "WeibullArrivals",
    "Workload",
    "ZipfRates",
    "at_load",
    "check_placement",
    "dumps",
    "export",
    "find_gpu",
    "from_mapping",
    "gpus",
    "import_fleet",
    "loads",
    "override",
    "params_from",
    "parse_startup_log",
    "read",
    "read_params",
    "read_placement",
    "read_startup_log",
    "schema",
    "shipped",
    "write",
    "write_export",
    "write_placement",
]


def __dir__() -> list[str]:
    return sorted(__all__)
