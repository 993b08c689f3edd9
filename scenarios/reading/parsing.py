"""Plain values to models, with everything that is wrong reported at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scenarios import checks
from scenarios.adapters import Adapter
from scenarios.base import MAX_FINDINGS, FrozenModel
from scenarios.engine import EngineConfig
from scenarios.errors import Problem, ScenarioError
from scenarios.reading import error_messages
from scenarios.reading.findings import Finding, Loc
from scenarios.reading.yaml_reader import FILE, plain
from scenarios.scenario import Device, Scenario, expand_devices
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.text.display import visible
from scenarios.text.formatting import choice, shortened, shown
from scenarios.traffic.workload import Workload

MAX_ERRORS = 1000
"""Most errors of one file that are put into words."""

NAMED = 5
"""Adapters that a message about many names."""

M = TypeVar("M", bound=FrozenModel)


ProfileCheck = Callable[[str, Iterable[tuple[int, Device]]], Iterable[Finding]]
"""Tells what is wrong with a model and the devices, each with its index; some may be missing."""


def scenario_from(root: object, source: str, profiles: ProfileCheck | None = None) -> Scenario:
    """Return the scenario that the values of a file describe.

    Parameters
    ----------
    root
        Values as `scenarios.reading.yaml_reader.parse` returns them, or plain.
    source
        What messages call the file.
    profiles
        What must hold of the model and the devices; None: nothing more.

    Raises
    ------
    ScenarioError
        With everything that is wrong.
    """
    data = _mapping(Scenario, root, source)
    problems: list[Problem] = []
    findings = [] if profiles is None else list(_unprofiled(data, profiles))
    try:
        scenario = Scenario.model_validate(data, strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        problems, rest = _empty_alike(data, errors, root)
        problems += error_messages.problems(rest[:MAX_ERRORS], Scenario, root)
        findings += _across_parts(data, errors)
    problems += [error_messages.finding_problem(finding, Scenario, root) for finding in findings]
    if problems:
        raise _error(problems, source)
    return scenario


def check_at(root: object, places: Iterable[Loc], source: str) -> None:
    """Check the values of a scenario at some places, of which others may still be missing.

    Parameters
    ----------
    root
        Values of the whole scenario.
    places
        Where values were changed.
    source
        What messages call the file.

    Raises
    ------
    ScenarioError
        With all that is wrong there: a key that does not exist, or a value that is not taken.
    """
    changed = list(places)

    def is_there(error: ErrorDetails) -> bool:
        loc = error["loc"]
        is_above = error["type"] == "extra_forbidden"
        return any(loc[: len(at)] == at or (is_above and at[: len(loc)] == loc) for at in changed)

    try:
        Scenario.model_validate(_mapping(Scenario, root, source), strict=True)
    except ValidationError as error:
        errors = [
            one for one in error.errors(include_url=False) if one["input"] is not None and is_there(one)
        ]
        if errors:
            raise _error(error_messages.problems(errors[:MAX_ERRORS], Scenario, root), source) from error


def model_from(model: type[M], root: object, source: str) -> M:
    """Return the model that the values of a file describe.

    Parameters
    ----------
    model
        What the file holds, as `scenarios.Placement`; of a scenario `scenario_from` tells more.
    root
        Values as `scenarios.reading.yaml_reader.parse` returns them, or plain.
    source
        What messages call the file.

    Raises
    ------
    ScenarioError
        With everything that is wrong.
    """
    try:
        return model.model_validate(_mapping(model, root, source), strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    raise _error(error_messages.problems(errors[:MAX_ERRORS], model, root), source)


def _mapping(model: type[FrozenModel], root: object, source: str) -> dict[str, object]:
    data = plain(root)
    if isinstance(data, dict):
        return data
    keys = choice(model.model_fields, "and")
    problem = Problem(FILE, f"holds {shown(data)} at its top", f"write a mapping with the keys {keys}")
    raise ScenarioError([problem], source)


def _across_parts(data: Mapping[str, object], errors: Iterable[ErrorDetails]) -> Iterator[Finding]:
    """Yield what the valid parts of a scenario disagree on, where other parts are not valid."""
    entries = data.get("adapters")
    wrong = {error["loc"][1] for error in errors if error["loc"][0] == "adapters" and len(error["loc"]) > 1}
    adapters = (
        (index, Adapter.model_validate(entry, strict=True))
        for index, entry in enumerate(entries if isinstance(entries, tuple) else ())
        if index not in wrong
    )
    workload = _valid(Workload, data.get("workload"))
    engine = _valid(EngineConfig, data.get("engine", {}))
    by_paper = data.get("acceptance") == "paper"
    levels = _valid(ServiceLevelObjectives, data.get("service_levels", {})) if by_paper else None
    yield from islice(checks.across(adapters, workload, engine, levels), MAX_FINDINGS)
    if workload is not None:
        yield from _lengths_lacking(entries if isinstance(entries, tuple) else (), wrong, workload)


def _lengths_lacking(
    entries: Iterable[object], wrong: Container[object], workload: Workload
) -> Iterator[Finding]:
    """Yield lengths of the workload that only entries need which are wrong in something else."""
    told = list(enumerate(entries))
    for key in checks.LENGTHS:
        lacking = [k for k, entry in told if isinstance(entry, dict) and entry.get(key) is None]
        if getattr(workload, key) is None and lacking and all(k in wrong for k in lacking):
            message = f"is missing, and adapters[{lacking[0]}] has none of its own"
            yield Finding(("workload", key), message, "add it, here or there")


def _empty_alike(
    data: Mapping[str, object], errors: Iterable[ErrorDetails], root: object
) -> tuple[list[Problem], list[ErrorDetails]]:
    """Values that many adapters leave empty, one problem for each key; and all other errors."""
    rest: list[ErrorDetails] = []
    alike: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for error in errors:
        loc = error["loc"]
        is_empty = (
            loc[0] == "adapters" and len(loc) > 2 and error["input"] is None and error["type"] != "missing"
        )
        alike.setdefault(loc[2:], []).append(error) if is_empty else rest.append(error)
    problems = []
    for found in alike.values():
        if len(found) <= NAMED:
            rest += found
            continue
        first = error_messages.problems(found[:1], Scenario, root)[0]
        names = [_name_of(data, int(error["loc"][1])) for error in found[:NAMED]]
        whose = f"{', '.join(names)} and {len(found) - NAMED:,} more"
        path = re.sub(r"^adapters\[\d+\]", "adapters[]", first.path)
        problems.append(replace(first, path=path, message=f"{first.message} for {whose}"))
    return problems, rest


def _name_of(data: Mapping[str, object], index: int) -> str:
    """What an entry of adapters is called in a message."""
    entries = data["adapters"]
    entry = entries[index] if isinstance(entries, tuple) else None
    name = entry.get("name") if isinstance(entry, dict) else None
    return shortened(visible(name)) if isinstance(name, str) and name else f"adapters[{index}]"


def _unprofiled(data: Mapping[str, object], profiles: ProfileCheck) -> Iterable[Finding]:
    """Return what a check says of the model and of the devices that are valid."""
    model, devices = data.get("model"), expand_devices(data.get("devices"))
    items = devices if isinstance(devices, tuple) else ()
    valid = [(k, device) for k, item in enumerate(items) if (device := _valid(Device, item)) is not None]
    return profiles(model, valid) if isinstance(model, str) and model else ()


def _valid(model: type[M], value: object) -> M | None:
    try:
        return model.model_validate(value, strict=True)
    except ValidationError:
        return None  # its errors are among those of the whole scenario


def _error(problems: list[Problem], source: str) -> ScenarioError:
    distinct = dict.fromkeys(problems)
    return ScenarioError(sorted(distinct, key=lambda problem: problem.line or 0), source)
