"""From files of a running fleet to a scenario, and to what runs where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from scenarios.arguments import several
from scenarios.errors import Problem, ScenarioError
from scenarios.files import loads
from scenarios.importers.facts import (
    MODELS,
    ImportOptions,
    ImportSourceError,
    ImportWindow,
    RateForm,
    ServerFacts,
    SourceFacts,
)
from scenarios.importers.merging import Fleet, merged
from scenarios.importers.placement_values import placement_values
from scenarios.importers.recognition import read_sources
from scenarios.importers.scenario_values import scenario_values
from scenarios.importers.values import Values
from scenarios.output import write_whole
from scenarios.placement import Placement
from scenarios.reading.parsing import model_from
from scenarios.reading.yaml_reader import parse, plain
from scenarios.scenario import Scenario
from scenarios.text.formatting import choice, shown, suggestion


@dataclass(frozen=True)
class ImportedFleet:
    """A fleet as a scenario, each value with where it was said.

    Parameters
    ----------
    text
        The scenario as YAML; what is missing in it is null.
    missing
        What is missing, one sentence each.
    notes
        What a user must know of the sources.
    placement_text
        What runs where now as YAML; empty: the sources do not say.
    placement_missing
        What is missing of that.
    folder
        Where a recording of arrivals lies, which the scenario names without it.
    releases
        Releases of vLLM that run, as far as the sources say.
    """

    text: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    placement_text: str
    placement_missing: tuple[str, ...]
    folder: Path = Path()
    releases: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The base model; empty: the sources do not say one."""
        values = plain(parse(self.text, "imported fleet"))
        model = values.get("model") if isinstance(values, Mapping) else None
        return model if isinstance(model, str) else ""

    def scenario(self, overrides: str | Iterable[str] = ()) -> Scenario:
        """The scenario, with some values given.

        Raises
        ------
        ScenarioError
            With everything that is missing.
        """
        read = loads(self.text, overrides, "imported fleet")
        return read.with_paths(lambda name: str((self.folder / name).resolve()))

    def placement(self) -> Placement:
        """What runs where now.

        Raises
        ------
        ScenarioError
            With everything that is missing.
        """
        if not self.placement_text:
            raise ScenarioError([NO_SERVERS], "imported fleet")
        return model_from(Placement, parse(self.placement_text, "running placement"), "running placement")

    def write(self, out: str | os.PathLike[str], placement: str | os.PathLike[str] | None = None) -> None:
        """Write the scenario, and what runs where now.

        Raises
        ------
        OutputFileError
            If a file cannot be written.
        ScenarioError
            If a placement is asked for, and the sources do not say what runs where; the scenario is written.
        """
        write_whole(out, self.text)
        if placement is None:
            return
        if not self.placement_text:
            raise ScenarioError([NO_SERVERS], str(placement))
        write_whole(placement, self.placement_text)


NO_SERVERS = Problem(
    "placement",
    "is not told by the sources: none of them names a server with its adapters",
    "add command lines, manifests or answers of /v1/models, or leave --placement out",
)


def import_fleet(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    overrides: str | Iterable[str] = (),
    *,
    columns: Mapping[str, str] | None = None,
    window: str = "busiest",
    rates: str = "mean",
    name: str = "imported_fleet",
    trace_file: str | os.PathLike[str] | None = None,
) -> ImportedFleet:
    """Read what files of a running fleet say, as a scenario.

    Nothing is fetched and nothing invented: what no source says is null, and told as missing.

    Parameters
    ----------
    sources
        Files and folders, whose kinds are recognised by their content; docs/fleet.md lists them.
    overrides
        Values of the scenario to set, one ``path=value`` or several: ``devices=A100-80GB``.
    columns
        Which column or key of a request log holds which field: ``{"adapter": "model"}``.
    window
        ``busiest``: rates of the busiest hour; ``mean``: of all of a log.
    rates
        ``mean``: one number; ``interval``: low and high, by its 95 % confidence interval.
    name
        Name of the scenario.
    trace_file
        Where to write recorded arrivals of adapters that follow no simple process; None: nowhere.

    Raises
    ------
    ImportSourceError
        If a source cannot be read or is nothing that is known, or two contradict each other.
    ScenarioError
        If an override cannot be applied.
    """
    options = _options(columns or {}, window, rates, trace_file)
    paths = [Path(one) for one in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    fleet = read_fleet(paths, options)
    chosen = several(overrides)
    scenario = scenario_values(fleet, name, chosen)
    running = placement_values(fleet, scenario.values) if fleet.servers else Values({}, {}, {}, (), ())
    return ImportedFleet(
        scenario.text(),
        scenario.missing,
        _notes(fleet, scenario.notes),
        running.text() if running.values else "",
        running.missing,
        Path() if trace_file is None else Path(trace_file).parent,
        tuple(sorted({server.release.value for server in fleet.servers.values() if server.release})),
    )


def read_fleet(paths: Sequence[Path], options: ImportOptions | None = None) -> Fleet:
    """What files of a fleet say, put together.

    Raises
    ------
    ImportSourceError
        If one cannot be read or is nothing that is known, or two contradict each other.
    """
    options = options or ImportOptions()
    if not paths:
        raise ImportSourceError([Problem("sources", "are none", "give files or folders")])
    return merged(_with_links(_with_metrics(read_sources(paths, options), options)))


def _with_metrics(facts: list[SourceFacts], options: ImportOptions) -> list[SourceFacts]:
    """What sources say, and what snapshots of metrics say only together."""
    snapshots = [snapshot for one in facts for snapshot in one.snapshots]
    if not snapshots:
        return facts
    from scenarios.importers.traffic import combined  # pandas takes half a second

    return [*facts, combined(snapshots, options)]


def _with_links(facts: list[SourceFacts]) -> list[SourceFacts]:
    """What sources say, and what objects of a cluster say only together."""
    if not any(one.links for one in facts):
        return facts
    from scenarios.importers.manifests import linked, told_apart  # as in recognition, it imports much

    apart = told_apart(facts)
    return [*apart, linked(apart)]


def _options(
    columns: Mapping[str, str], window: str, rates: str, trace_file: str | os.PathLike[str] | None
) -> ImportOptions:
    problems = [
        Problem(key, f"is {shown(value)}", _chosen(value, get_args(known)))
        for key, value, known in (("window", window, ImportWindow), ("rates", rates, RateForm))
        if value not in get_args(known)
    ]
    if problems:
        raise ImportSourceError(problems)
    return ImportOptions(dict(columns), window, rates, None if trace_file is None else Path(trace_file))


def _chosen(value: object, known: tuple[str, ...]) -> str:
    """What to choose, the one first that is likely meant."""
    return f"{suggestion(value, known)} choose {choice(known)}".lstrip()


def _sentences(server: ServerFacts) -> Iterator[str]:
    """What is told of a server beside its notes."""
    if not server.replicas:
        yield (
            "How many of it run, only a run of its script could tell: it is left out of what runs. Give the "
            "command of each, or the answers of all to /v1/models."
        )
    if server.release is not None:
        yield f"It runs vLLM {server.release.value}."
    said, lora = server.takes_adapters, server.engine.get("enable_lora")
    if said is None or lora is None or not lora.value:
        return
    if not said.value:
        yield (
            "It is not told VLLM_ALLOW_RUNTIME_LORA_UPDATING, and takes no adapters while it runs: the steps "
            "of `export --from` load some, so start it with that variable first."
        )
    elif server.asked != MODELS:
        yield "It takes adapters while it runs: its answer to /v1/models tells which are loaded."


def _notes(fleet: Fleet, more: Iterable[str]) -> tuple[str, ...]:
    """What is told of sources, adapters and servers, each sentence once."""
    notes = [*fleet.notes]
    by_text: dict[str, list[str]] = {}
    told = [(name, one.notes) for name, one in fleet.adapters.items()]
    told += [(name, (*_sentences(one), *one.notes)) for name, one in fleet.servers.items()]
    for name, sentences in told:
        for note in sentences:
            by_text.setdefault(note, []).append(name)
    for note, names in by_text.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        notes.append(f"{shown}: {note}")
    return tuple(dict.fromkeys((*notes, *fleet.total.notes, *more)))
