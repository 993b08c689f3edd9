"""Plain values to nouns, with everything that is wrong reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from scenarios import checks
from scenarios.adapters import MAX_ADAPTERS, Adapter
from scenarios.base import MAX_FINDINGS, Finding, FrozenModel
from scenarios.engine import EngineConfig
from scenarios.errors import Problem, ScenarioError
from scenarios.formatting import choice, shown
from scenarios.placement import Placement
from scenarios.reading import error_messages as diagnosis
from scenarios.reading.yaml_reader import FILE, plain
from scenarios.scenario import Scenario
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.workload import Workload

CHUNK = 2000
"""Adapter entries validated together; after a chunk with too many wrong ones the rest is left out."""

MAX_ERRORS = 1000
"""Most errors of one file that are put into words."""

N = TypeVar("N", bound=FrozenModel)

_ENTRIES = TypeAdapter(tuple[Adapter, ...])


def scenario_from(root: object, source: str) -> Scenario:
    """Return the scenario that the values of a file describe.

    Parameters
    ----------
    root
        Values as `scenarios.reading.yaml_reader.parse` returns them, or plain.
    source
        What messages call the file.

    Raises
    ------
    ScenarioError
        With everything that is wrong.
    """
    data = _mapping(Scenario, root, source)
    entries = data.get("adapters")
    adapters: dict[int, Adapter] = {}
    errors: list[ErrorDetails] = []
    if isinstance(entries, tuple):
        _refuse_too_many(entries, root, source)
        adapters, errors = _adapters(entries)
        data = {**data, "adapters": tuple(adapters.values())}
    wrong_entries = bool(errors)
    if wrong_entries:
        del data["adapters"]
    try:
        return Scenario.model_validate(data, strict=True)
    except ValidationError as error:
        errors += error.errors(include_url=False)
    found = diagnosis.problems(
        [error for error in errors if not (wrong_entries and error["loc"] == ("adapters",))][:MAX_ERRORS],
        Scenario,
        root,
    )
    found += [diagnosis.finding_problem(finding, root) for finding in _across_parts(adapters, data)]
    raise _error(found, source)


def placement_from(root: object, source: str) -> Placement:
    """Return the placement that the values of a file describe.

    Raises
    ------
    ScenarioError
        With everything that is wrong.
    """
    try:
        return Placement.model_validate(_mapping(Placement, root, source), strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_ERRORS]
    raise _error(diagnosis.problems(errors, Placement, root), source)


def _mapping(model: type[FrozenModel], root: object, source: str) -> dict[str, object]:
    data = plain(root)
    if isinstance(data, dict):
        return data
    keys = choice(model.model_fields, "and")
    problem = Problem(FILE, f"holds {shown(data)} at its top", f"write a mapping with the keys {keys}")
    raise ScenarioError([problem], source)


def _refuse_too_many(entries: Sequence[object], root: object, source: str) -> None:
    if len(entries) > MAX_ADAPTERS:
        message = f"has {len(entries):,} entries, above the limit of {MAX_ADAPTERS:,} adapters"
        remedy = "write equal adapters as one entry with a count, or split the scenario"
        raise ScenarioError([diagnosis.located(("adapters",), message, remedy, root)], source)


def _adapters(entries: Sequence[object]) -> tuple[dict[int, Adapter], list[ErrorDetails]]:
    """Return the valid adapter entries by index, and the errors of the others (not all, if many)."""
    valid: dict[int, Adapter] = {}
    errors: list[ErrorDetails] = []
    for start in range(0, len(entries), CHUNK):
        chunk = entries[start : start + CHUNK]
        try:
            valid.update(enumerate(_ENTRIES.validate_python(tuple(chunk), strict=True), start))
            continue
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            index, *inner = detail["loc"]
            detail["loc"] = ("adapters", start + int(index), *inner)
        errors += details
        if len(errors) > MAX_ERRORS:
            break
        wrong = {detail["loc"][1] for detail in details}
        for index, entry in enumerate(chunk, start):
            if index not in wrong:
                valid[index] = Adapter.model_validate(entry, strict=True)
    return valid, errors


def _across_parts(adapters: Mapping[int, Adapter], data: Mapping[str, object]) -> list[Finding]:
    """Return what the valid parts of a scenario disagree on, where other parts are not valid."""
    workload = _valid(Workload, data.get("workload"))
    engine = _valid(EngineConfig, data.get("engine", {}))
    levels = _valid(ServiceLevelObjectives, data.get("service_levels", {}))
    return list(islice(checks.across(adapters.items(), workload, engine, levels), MAX_FINDINGS))


def _valid(model: type[N], value: object) -> N | None:
    try:
        return model.model_validate(value, strict=True)
    except ValidationError:
        return None  # its errors are among those of the whole scenario


def _error(problems: list[Problem], source: str) -> ScenarioError:
    distinct = dict.fromkeys(problems)
    return ScenarioError(sorted(distinct, key=lambda problem: problem.line or 0), source)
