"""Distils the twin into surrogates and linear feasibility regions.

``regions_for`` gives a scenario's regions, ready-made where they can be. The steps behind it are
``space_for`` (what a GPU can be given), ``sample`` (twin runs), ``linearize`` (regions), ``fit``
(surrogates) and ``assess`` (errors against other twin runs).

Names are imported when they are first used, so that importing the package costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learn.assessment import Assessment as Assessment
    from learn.assessment import assess as assess
    from learn.boundaries.boundary import BoundaryError as BoundaryError
    from learn.boundaries.boundary_map import BoundaryMap as BoundaryMap
    from learn.boundaries.boundary_map import boundary_map as boundary_map
    from learn.design import SamplingPlan as SamplingPlan
    from learn.estimators import METHODS as METHODS
    from learn.features import FEATURES as FEATURES
    from learn.features import Engines as Engines
    from learn.features import additive_features as additive_features
    from learn.features import candidate_features as candidate_features
    from learn.latency.floor import StepFloor as StepFloor
    from learn.params import LearnParams as LearnParams
    from learn.region import FeasibilityRegion as FeasibilityRegion
    from learn.region import LatencyFloor as LatencyFloor
    from learn.region import OptionLatency as OptionLatency
    from learn.region import OptionRows as OptionRows
    from learn.region import RegionError as RegionError
    from learn.region import Regions as Regions
    from learn.region import read_regions as read_regions
    from learn.region_fit import linearize as linearize
    from learn.region_store import PLANS as PLANS
    from learn.region_store import known_regions as known_regions
    from learn.region_store import make_regions as make_regions
    from learn.region_store import needed_ranks as needed_ranks
    from learn.region_store import regions_for as regions_for
    from learn.region_store import space_for as space_for
    from learn.sampling import add_overloads as add_overloads
    from learn.sampling import sample as sample
    from learn.scenario_space import scenario_features as scenario_features
    from learn.scenario_space import traffic_figures as traffic_figures
    from learn.space import DesignSpace as DesignSpace
    from learn.storage.dataset import Dataset as Dataset
    from learn.storage.dataset import DatasetError as DatasetError
    from learn.storage.dataset import read_dataset as read_dataset
    from learn.surrogate import OutsideDomainError as OutsideDomainError
    from learn.surrogate import OutsideDomainWarning as OutsideDomainWarning
    from learn.surrogate import Prediction as Prediction
    from learn.surrogate import Surrogate as Surrogate
    from learn.surrogate import SurrogateError as SurrogateError
    from learn.surrogate import fit as fit
    from learn.surrogate import read_surrogate as read_surrogate
    from learn.traffic.unsteadiness import is_steady as is_steady

_HOME = {
    "assessment": ("Assessment", "assess"),
    "boundaries.boundary": ("BoundaryError",),
    "storage.dataset": ("Dataset", "DatasetError", "read_dataset"),
    "design": ("SamplingPlan",),
    "features": ("FEATURES", "Engines", "additive_features", "candidate_features"),
    "region_fit": ("linearize",),
    "region_store": ("PLANS", "known_regions", "make_regions", "needed_ranks", "regions_for", "space_for"),
    "estimators": ("METHODS",),
    "latency.floor": ("StepFloor",),
    "region": (
        "FeasibilityRegion",
        "LatencyFloor",
        "OptionLatency",
        "OptionRows",
        "RegionError",
        "Regions",
        "read_regions",
    ),
    "params": ("LearnParams",),
    "boundaries.boundary_map": ("BoundaryMap", "boundary_map"),
    "sampling": ("add_overloads", "sample"),
    "scenario_space": ("scenario_features", "traffic_figures"),
    "space": ("DesignSpace",),
    "surrogate": (
        "OutsideDomainError",
        "OutsideDomainWarning",
        "Prediction",
        "Surrogate",
        "SurrogateError",
        "fit",
        "read_surrogate",
    ),
    "traffic.unsteadiness": ("is_steady",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"learn.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
