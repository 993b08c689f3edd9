"""Single values of a scenario changed from outside: ``engine.max_model_len=16384``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

from scenarios.arguments import several
from scenarios.errors import Problem, ScenarioError
from scenarios.reading.findings import Loc
from scenarios.reading.yaml_reader import FILE, LocatedDict, LocatedList, parse, path_text
from scenarios.scenario import expand_devices
from scenarios.text.formatting import shown, suggestion
from scenarios.traffic.arrivals import expand_arrivals
from scenarios.traffic.lengths import expand_lengths

_STEP = re.compile(r"(?:^|\.)([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]{1,9})\]")
_EXAMPLE = "write it as engine.max_model_len=16384 or adapters[0].rate=0.5"

_SHORT_FORMS: dict[str, Callable[[object], object]] = {
    "prompt": expand_lengths,
    "output": expand_lengths,
    "arrivals": expand_arrivals,
    "devices": expand_devices,
}


def apply(root: object, overrides: str | Iterable[str], source: str) -> object:
    """Return the values of a file with some of them replaced; the given ones stay as they are.

    Parameters
    ----------
    root
        Values, as `scenarios.reading.yaml_reader.parse` returns them or plain.
    overrides
        One ``path=value`` or several, the value in YAML. Missing mappings on the way are added.
    source
        What messages call the file.

    Raises
    ------
    ScenarioError
        With every override that cannot be applied.
    """
    problems: list[Problem] = []
    for override in several(overrides):
        path, equals, text = override.partition("=") if isinstance(override, str) else ("", "", "")
        loc = _loc(path.strip())
        if not equals or not loc:
            name = override if isinstance(override, str) else f"overrides: {shown(override)}"
            problems.append(Problem(name, "is no path=value", _EXAMPLE))
            continue
        try:
            root = _replaced(root, loc, _value(path, text), ())
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems, source)
    return root


def paths_of(overrides: str | Iterable[str]) -> list[Loc]:
    """Places that overrides change."""
    return [_loc(override.partition("=")[0].strip()) for override in several(overrides)]


def _value(path: str, text: str) -> object:
    """Return the value of an override; its problems are told at the override's path."""
    try:
        return parse(text, path) if text.strip() else None
    except ScenarioError as error:
        problems = [Problem(path, problem.message, problem.remedy) for problem in error.problems]
        raise ScenarioError(problems) from error


def _loc(path: str) -> Loc:
    """Return the steps of a path; none if it is malformed."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return ()
        steps.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    return tuple(steps)


def _replaced(value: object, loc: Loc, new: object, above: Loc) -> object:
    """Return a copy of value, along loc only, with the value at loc replaced."""
    if not loc:
        return new
    key, *rest = loc
    value = _spelled_out(value, key, above)
    _check_holds(value, key, above)
    changed: Any = list(value) if isinstance(value, tuple) else copy(value) if value is not None else {}
    present = isinstance(key, int) or key in changed
    if not present and rest and isinstance(rest[0], int):
        remedy = suggestion(key, changed) or "set the list"
        raise ScenarioError(
            [Problem(path_text((*above, key)), f"is missing and has no item {rest[0]}", remedy)]
        )
    changed[key] = _replaced(changed[key] if present else None, tuple(rest), new, (*above, key))
    if isinstance(changed, LocatedDict | LocatedList):
        lines: Any = copy(changed.lines)
        lines[key] = lines[key] if present and rest else None
        changed.lines = lines
    return changed


def _check_holds(value: object, key: str | int, above: Loc) -> None:
    """Refuse to go down to a key or an index where there can be none."""
    if isinstance(key, int):
        size = len(value) if isinstance(value, list | tuple) else 0
        if key < size:
            return
        what, remedy = "item", f"give an index below {size}" if size else "set the list"
    elif value is None or isinstance(value, dict):
        return
    else:
        what, remedy = "key", "set it as a whole"
    message = f"is {shown(value)} and has no {what} {key}"
    raise ScenarioError([Problem(path_text(above) or FILE, message, remedy)])


def _spelled_out(value: object, key: str | int, above: Loc) -> object:
    """Write out the short form of a value that an override wants to change in part."""
    expand = _SHORT_FORMS.get(above[-1]) if above and isinstance(above[-1], str) else None
    is_scalar = not isinstance(value, dict | list | tuple | None)
    is_single_device = expand is expand_devices and isinstance(key, int) and isinstance(value, dict)
    return expand(value) if expand is not None and (is_scalar or is_single_device) else value
