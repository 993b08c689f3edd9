"""Scenarios and placements from files and into files, and the scenarios that come with lorapack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import yaml

from scenarios import checks
from scenarios.arrivals import TraceArrivals
from scenarios.base import FrozenModel, Loc
from scenarios.display import visible_lines
from scenarios.errors import Problem, ScenarioError
from scenarios.lengths import FixedLengths
from scenarios.output import write_whole
from scenarios.placement import Placement
from scenarios.reading import error_messages as diagnosis
from scenarios.reading import overrides as changes
from scenarios.reading.parsing import placement_from, scenario_from
from scenarios.reading.scalars import Dumper
from scenarios.reading.yaml_reader import FILE, parse
from scenarios.scenario import Scenario
from scenarios.words import choice, nearest, shown

MAX_BYTES = 16 * 2**20
"""Largest file that is read."""

RESULT_VERSION: Final = 2
"""Version of a result's JSON; the first had no key for it."""

FOLDER = Path(__file__).parent
"""Where the shipped scenarios lie."""

N = TypeVar("N", bound=FrozenModel)

_DISCRIMINATORS = ("process", "distribution")
"""Fields that are written even at their default, because they tell which noun it is."""


def read(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Scenario:
    """Read a scenario from a YAML file.

    Parameters
    ----------
    path
        The file, or the name of a shipped scenario (`scenarios.shipped`) where no such file exists.
        Paths in the scenario are taken from the file's folder.
    overrides
        Values to change, ``path=value`` each: ``engine.max_model_len=16384``.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the file, each with line, path, value and remedy.
    """
    file = find(path)
    source = str(path)
    root = changes.apply(_parsed(file, source), overrides, source)
    return _anchored(scenario_from(root, source), file.parent, root, source)


def loads(text: str, overrides: Iterable[str] = (), source: str = "scenario") -> Scenario:
    """Read a scenario from YAML text; otherwise as `read`, with paths left as they are.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the text.
    """
    return scenario_from(changes.apply(parse(text, source), overrides, source), source)


def from_mapping(
    values: Mapping[str, object], overrides: Iterable[str] = (), source: str = "scenario"
) -> Scenario:
    """Build a scenario from the values of a file, checked and reported as `read` does.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the values.
    """
    return scenario_from(changes.apply(dict(values), overrides, source), source)


def override(scenario: Scenario, overrides: Iterable[str]) -> Scenario:
    """Return the scenario with some values changed, checked again.

    Parameters
    ----------
    scenario
        Stays as it is.
    overrides
        ``path=value`` each: ``["engine.max_model_len=16384", "objective=latency"]``.

    Raises
    ------
    ScenarioError
        With every override that cannot be applied and everything wrong with the result.
    """
    return from_mapping(scenario.model_dump(mode="json"), overrides, scenario.name)


def dumps(scenario: Scenario) -> str:
    """Return the scenario as YAML that reads back equal; values at their defaults are left out."""
    return _yaml(compact(scenario))


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
        scenario = _map_paths(scenario, lambda name, _: _relative(name, folder))
    write_whole(path, dumps(scenario))


def read_placement(path: str | os.PathLike[str]) -> Placement:
    """Read a placement from a YAML or JSON file; a result's JSON, which holds one, is read too.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the file, or if it is a result of a newer version than this one's.
    """
    source = str(path)
    root = _parsed(Path(path), source)
    if isinstance(root, dict) and "placement" in root:
        _check_result_version(root, source)
        root = root["placement"]
    return placement_from(root, source)


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
    raise ScenarioError([diagnosis.located(("result_version",), message, remedy, root)], source)


def write_placement(placement: Placement, path: str | os.PathLike[str]) -> None:
    """Write a placement to a file: JSON if its name ends in ``.json``, else YAML.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    file = Path(path)
    as_json = placement.model_dump_json(indent=1, exclude_defaults=True) + "\n"
    write_whole(path, as_json if _is_json(file) else _yaml(compact(placement)))


def check_placement(placement: Placement, scenario: Scenario, source: str = "placement") -> None:
    """Check that a placement serves a scenario's adapters: all of them, on engines that can.

    Raises
    ------
    ScenarioError
        With every adapter that is unknown, missing or of too high a rank, and every unknown device.
    """
    findings = list(checks.placed(placement, scenario))
    if findings:
        root = placement.model_dump()
        raise ScenarioError([diagnosis.finding_problem(finding, root) for finding in findings], source)


def compact(noun: FrozenModel) -> dict[str, object]:
    """Return a noun's values as they are written: without defaults, in short forms."""
    values: dict[str, object] = {}
    for name, info in type(noun).model_fields.items():
        value = getattr(noun, name)
        if name in _DISCRIMINATORS or value != info.get_default(call_default_factory=True):
            values[name] = _short(value)
    return values


def _short(value: object) -> object:
    if isinstance(value, FixedLengths):
        return value.tokens
    if isinstance(value, FrozenModel):
        return compact(value)
    return [_short(item) for item in value] if isinstance(value, tuple) else value


def _yaml(values: dict[str, object]) -> str:
    text: str = yaml.dump(
        values, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return visible_lines(text)  # whoever reads the file sees all of it; YAML's escapes are the same


def find(path: str | os.PathLike[str]) -> Path:
    """Return the file that `read` reads: this one, or the shipped scenario of that name.

    Raises
    ------
    ScenarioError
        If there is neither.
    """
    path = Path(path)
    with suppress(OSError):  # a name that is too long is no file's
        if path.exists():
            return path
    names = {name: file for name, file, _ in shipped()}
    if path.stem in names and str(path.parent) in (".", "scenarios") and path.suffix in ("", ".yaml"):
        return names[path.stem]
    close = nearest(path.stem, names)
    hint = f'did you mean the shipped scenario "{close}"? ' if close else ""
    remedy = f"{hint}name a YAML file or one of the shipped scenarios: {choice(sorted(names), 'and')}"
    raise ScenarioError([Problem(FILE, "does not exist", remedy)], str(path))


class ShippedScenario(NamedTuple):
    """A scenario that comes with lorapack; `scenarios.read` takes its name or its path."""

    name: str
    path: Path
    description: str


def shipped() -> list[ShippedScenario]:
    """Return name, file and description of every shipped scenario, by name."""
    found = []
    for file in sorted(FOLDER.glob("*.yaml")):
        root = parse(file.read_text(encoding="utf-8"), file.name)
        description = root.get("description", "") if isinstance(root, dict) else ""
        found.append(ShippedScenario(file.stem, file, str(description).strip()))
    return found


def sources(path: str | os.PathLike[str], scenario: Scenario) -> tuple[Path, ...]:
    """Return the files that a scenario was read from: ``path``, as `read` takes it, and those it names."""
    named: list[Path] = []

    def noted(name: str, _: Loc) -> str:
        named.append(Path(name))
        return name

    _map_paths(scenario, noted)
    return (find(path), *named)


def _is_json(file: Path) -> bool:
    return file.suffix.lower() == ".json"


def _parsed(file: Path, source: str) -> object:
    return parse(text_of(file, source), source, as_json=_is_json(file))


def text_of(file: Path, source: str) -> str:
    """Return a file's text, or say why it is none."""

    def refused(message: str, remedy: str, line: int | None = None) -> ScenarioError:
        return ScenarioError([Problem(FILE, message, remedy, line)], source)

    try:
        if not file.exists():
            raise refused("does not exist", "check its name and folder")
        if not file.is_file():
            raise refused("is a folder or a device", "name a file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise refused(
                f"has {size / 2**20:,.1f} MiB, above the limit of {MAX_BYTES / 2**20:g} MiB",
                "write equal adapters as one entry with a count",
            )
        data = file.read_bytes()
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}", "check its permissions") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise refused("is text in UTF-16", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refused(
            f"is no UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}",
            "name a YAML file, saved as UTF-8",
            line,
        ) from error


def _anchored(scenario: Scenario, folder: Path, root: object, source: str) -> Scenario:
    """Return the scenario with its paths taken from the folder; the files must exist."""
    missing: list[Problem] = []

    def resolved(name: str, loc: Loc) -> str:
        file = (folder / name).resolve()
        if not file.is_file():
            missing.append(
                diagnosis.located(loc, f'is "{name}", but there is no file {file}', "correct the path", root)
            )
        return str(file)

    anchored = _map_paths(scenario, resolved)
    if missing:
        raise ScenarioError(missing, source)
    return anchored


def _map_paths(scenario: Scenario, change: Callable[[str, Loc], str]) -> Scenario:
    """Return the scenario with every path in it changed."""
    arrivals = scenario.workload.arrivals
    devices = tuple(
        device
        if device.profile is None
        else device.model_copy(update={"profile": change(device.profile, ("devices", k, "profile"))})
        for k, device in enumerate(scenario.devices)
    )
    scenario = scenario.model_copy(update={"devices": devices})
    if isinstance(arrivals, TraceArrivals):
        file = change(arrivals.file, ("workload", "arrivals", "file"))
        trace = arrivals.model_copy(update={"file": file})
        workload = scenario.workload.model_copy(update={"arrivals": trace})
        scenario = scenario.model_copy(update={"workload": workload})
    return scenario


def _relative(name: str, folder: Path) -> str:
    path = Path(name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else name
