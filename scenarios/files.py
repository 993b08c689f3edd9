"""Scenarios and placements from files and into files, and the scenarios that come with lorapack."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from scenarios.acceptance import ACCEPTANCES, Acceptance, foreign_keys, without_foreign
from scenarios.arguments import several
from scenarios.catalogue import find
from scenarios.errors import LorapackError, Problem, ScenarioError
from scenarios.output import write_whole
from scenarios.placement import Placement, mismatches
from scenarios.reading import error_messages
from scenarios.reading.findings import Loc
from scenarios.reading.overrides import apply
from scenarios.reading.parsing import ProfileCheck, model_from, scenario_from
from scenarios.reading.text_files import is_there, text_of
from scenarios.reading.yaml_reader import FILE, parse, path_text
from scenarios.reading.yaml_writer import to_yaml
from scenarios.scenario import Scenario
from scenarios.text.formatting import shown

_log = logging.getLogger(__name__)

NAMED = 3
"""Keys that a message names."""

RESULT_VERSION: Final = 3
"""Version of a result's JSON; the first had no key for it."""


def read(
    path: str | os.PathLike[str],
    overrides: str | Iterable[str] = (),
    *,
    profiles: ProfileCheck | None = None,
) -> Scenario:
    """Read a scenario from a YAML file.

    Parameters
    ----------
    path
        The file, or the name of a shipped scenario (`scenarios.shipped`) where no such file exists.
        Paths in the scenario are taken from the file's folder.
    overrides
        Values to change, one ``path=value`` or several: ``engine.max_model_len=16384``. Where one of them is
        ``acceptance``, the file's keys of the other criterion are set aside, which is logged.
    profiles
        What must hold of the model and the devices beside, as `twin.missing_profiles` tells; None: nothing.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the file, each with line, path, value and remedy.
    """
    file = find(path)
    source = str(path)
    parsed = _parsed(file, source)
    if _holds_placement(parsed) and not _holds_scenario(parsed):
        remedy = "name a scenario; `lorapack validate` takes the placement after it"
        raise _other_file("holds a placement, no scenario", remedy, source)
    root = _changed(parsed, overrides, source)
    return _anchored(scenario_from(root, source, profiles), file.parent, root, source)


def loads(text: str, overrides: str | Iterable[str] = (), source: str = "scenario") -> Scenario:
    """Read a scenario from YAML text; otherwise as `read`, with paths left as they are.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the text.
    """
    return scenario_from(_changed(parse(text, source), overrides, source), source)


def from_mapping(
    values: Mapping[str, object], overrides: str | Iterable[str] = (), source: str = "scenario"
) -> Scenario:
    """Build a scenario from the values of a file, checked and reported as `read` does.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the values.
    """
    root = dict(values) if isinstance(values, Mapping) else values
    return scenario_from(_changed(root, overrides, source), source)


def _changed(
    root: object, overrides: str | Iterable[str], source: str, stated: object | None = None
) -> object:
    """The values of a file with some replaced; where the acceptance is, the other's keys are set aside.

    Parameters
    ----------
    stated
        Those of the values that are no mere defaults; absent: all.
    """
    changes = several(overrides)
    acceptance = next((c for text in reversed(changes) for c in ACCEPTANCES if _sets(text, c)), None)
    if acceptance is not None:
        aside = ", ".join(
            path_text(loc)
            for loc in islice(foreign_keys(root if stated is None else stated, acceptance), NAMED)
        )
        if aside:
            _log.warning("%s: accepted by %s, so that %s is set aside", source, acceptance, aside)
        root = without_foreign(root, acceptance)
    return apply(root, changes, source)


def _sets(override: object, acceptance: Acceptance) -> bool:
    path, _, value = str(override).partition("=")
    return path.strip() == "acceptance" and value.strip() == acceptance


def override(scenario: Scenario, overrides: str | Iterable[str]) -> Scenario:
    """Return the scenario with some values changed, checked again.

    Parameters
    ----------
    scenario
        Stays as it is.
    overrides
        One ``path=value`` or several: ``["engine.max_model_len=16384", "objective=latency"]``.

    Raises
    ------
    ScenarioError
        With every override that cannot be applied and everything wrong with the result.
    """
    values = scenario.model_dump(mode="json")
    return scenario_from(_changed(values, overrides, scenario.name, scenario.stated()), scenario.name)


def dumps(scenario: Scenario, *, defaults: bool = False) -> str:
    """Return the scenario as YAML that reads back equal.

    Parameters
    ----------
    scenario
        What to write.
    defaults
        Whether values at their defaults are written too, and null for what is not set; else neither is.
    """
    return to_yaml(scenario, defaults=defaults)


def write(scenario: Scenario, path: str | os.PathLike[str]) -> None:
    """Write a scenario to a YAML file that `read` reads back equal.

    The file appears whole or not at all. Paths below the file's folder are written relative to it, unless
    the file is a link into another folder.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    folder = Path(os.path.realpath(Path(path).parent))
    if Path(os.path.realpath(path)).parent == folder:
        scenario = scenario.with_paths(lambda name: _relative(name, folder))
    write_whole(path, dumps(scenario))


def read_placement(path: str | os.PathLike[str]) -> Placement:
    """Read a placement from a YAML or JSON file, also one that `solve --json` or `replan --json` wrote.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the file, or if it is a result of a newer version than this one's.
    """
    source = str(path)
    root = _parsed(Path(path), source)
    if isinstance(root, dict) and isinstance(root.get("result"), dict):
        root = root["result"]  # of `replan`, which holds moves beside it
    if isinstance(root, dict) and "placement" in root:
        _check_result_version(root, source)
        root = root["placement"]
    elif _holds_scenario(root) and not _holds_placement(root):
        remedy = "give what `solve --placement` or `solve --json` wrote"
        raise _other_file("holds a scenario, no placement", remedy, source)
    return model_from(Placement, root, source)


def _check_result_version(root: dict[str, object], source: str) -> None:
    """Refuse a result that this version cannot know how to read; without a version it is of the first."""
    version = root.get("result_version", 1)
    if type(version) is int and 1 <= version <= RESULT_VERSION:
        return
    newer = type(version) is int and version > RESULT_VERSION
    message = f"is {shown(version)}, " + (
        f"newer than {RESULT_VERSION}, the newest that is read here" if newer else "no version of results"
    )
    remedy = "update lorapack, or give the placement alone" if newer else f"give 1 to {RESULT_VERSION}"
    raise ScenarioError([error_messages.located(("result_version",), message, remedy, root)], source)


def swapped(scenario: str | os.PathLike[str], placement: str | os.PathLike[str]) -> bool:
    """Whether a placement was given for a scenario, and a scenario for the placement."""
    try:
        first, second = (_parsed(Path(path), str(path)) for path in (scenario, placement))
    except LorapackError:
        return False
    return _holds_placement(first) and _holds_scenario(second) and not _holds_placement(second)


def write_placement(placement: Placement, path: str | os.PathLike[str]) -> None:
    """Write a placement to a file: JSON if its name ends in ``.json``, else YAML.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    file = Path(path)
    as_json = placement.model_dump_json(indent=1, exclude_defaults=True) + "\n"
    write_whole(path, as_json if _is_json(file) else to_yaml(placement))


def check_placement(placement: Placement, scenario: Scenario, source: str = "placement") -> None:
    """Check that a placement serves a scenario's adapters: all of them, on engines that can.

    Raises
    ------
    ScenarioError
        With every adapter that is unknown, missing or of too high a rank, and every unknown device.
    """
    findings = list(mismatches(placement, scenario))
    if findings:
        root = placement.model_dump()
        problems = [error_messages.finding_problem(finding, Placement, root) for finding in findings]
        raise ScenarioError(problems, source)


def sources(path: str | os.PathLike[str], scenario: Scenario) -> tuple[Path, ...]:
    """Return the files that a scenario was read from: ``path``, as `read` takes it, and those it names."""
    return (find(path), *(Path(name) for _, name in scenario.paths()))


def _is_json(file: Path) -> bool:
    return file.suffix.lower() == ".json"


def _holds_scenario(root: object) -> bool:
    """A scenario lists its adapters; a placement maps what is known of them by their names."""
    return isinstance(root, dict) and "adapters" in root and not isinstance(root["adapters"], dict)


def _holds_placement(root: object) -> bool:
    return isinstance(root, dict) and not root.keys().isdisjoint(("gpus", "placement", "result"))


def _other_file(message: str, remedy: str, source: str) -> ScenarioError:
    return ScenarioError([Problem(FILE, message, remedy)], source)


def _parsed(file: Path, source: str) -> object:
    return parse(text_of(file, source), source, as_json=_is_json(file))


def _anchored(scenario: Scenario, folder: Path, root: object, source: str) -> Scenario:
    """Return the scenario with its paths taken from the folder; the files must exist."""
    files = {loc: (name, (folder / name).resolve()) for loc, name in scenario.paths()}
    missing = [
        error_messages.located(
            loc, f'is "{name}", but there is no {_kind(loc)} {file}', "correct the path", root
        )
        for loc, (name, file) in files.items()
        if not is_there(file, folder=_kind(loc) == "folder")
    ]
    if missing:
        raise ScenarioError(missing, source)
    return scenario.with_paths(lambda name: str((folder / name).resolve()))


def _kind(loc: Loc) -> str:
    return "folder" if loc[-1] == "folder" else "file"


def _relative(name: str, folder: Path) -> str:
    path = Path(name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else name
