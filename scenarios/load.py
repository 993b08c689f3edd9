"""A scenario with so many times its load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenarios.adapters import Adapter
from scenarios.errors import Problem, ScenarioError
from scenarios.files import from_mapping
from scenarios.scenario import Scenario
from scenarios.traffic.arrivals import ClosedLoopArrivals
from scenarios.traffic.rates import Rates, UncertainRate, ZipfRates

DIGITS = 12
"""Significant digits of a rate that was multiplied, so that 0.3 times 1.1 is 0.33."""


def at_load(scenario: Scenario, factor: float) -> Scenario:
    """The scenario with so many times the requests of every adapter, and all else as it was.

    Users of closed loops become more or fewer; of each adapter there is one at least, and no part of one.

    Raises
    ------
    ScenarioError
        If the factor is no number above 0, or a rate is then larger than one may be.
    """
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < float("inf"):
        raise ScenarioError(
            [Problem("load_factor", f"is {factor!r}, must be a number above 0", "1.2 is 20 % more")]
        )
    if factor == 1.0:
        return scenario
    values = scenario.model_dump(mode="json")
    entries = zip(values["adapters"], scenario.adapters, strict=True)
    values["adapters"] = [_scaled(entry, adapter, factor) for entry, adapter in entries]
    return from_mapping(values, source=scenario.name)


def _scaled(values: Mapping[str, Any], entry: Adapter, factor: float) -> dict[str, Any]:
    changed = dict(values)
    if isinstance(entry.arrivals, ClosedLoopArrivals):
        changed["arrivals"] = _with_users(values["arrivals"], factor)
    if entry.rate is not None:
        changed["rate"] = _times(entry.rate, factor)
    return changed


def _with_users(arrivals: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {**arrivals, "users": max(1, round(arrivals["users"] * factor))}


def _times(rate: Rates, factor: float) -> Any:
    """A rate in the form that it was given in, so many times as large."""
    if isinstance(rate, tuple):
        return [_times(one, factor) for one in rate]
    if isinstance(rate, ZipfRates):
        return {"zipf_total": _number(rate.zipf_total * factor), "exponent": rate.exponent}
    if isinstance(rate, UncertainRate):
        return {"low": _number(rate.low * factor), "high": _number(rate.high * factor)}
    return _number(rate * factor)


def _number(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
