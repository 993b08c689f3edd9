"""A fleet as the values of a scenario file, each with where it was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from scenarios.engine import EngineConfig
from scenarios.gpus.catalogue import UnknownGPUError, find_gpu
from scenarios.importers.facts import AdapterFacts, BaseTraffic, Said
from scenarios.importers.long_prompts import cut_prompts
from scenarios.importers.merging import Fleet
from scenarios.importers.model_names import hub_name, plain_model
from scenarios.importers.names import names_for
from scenarios.importers.values import Values, ValuesBuilder
from scenarios.reading.overrides import apply, paths_of
from scenarios.reading.parsing import check_at
from scenarios.reading.yaml_reader import plain
from scenarios.reading.yaml_writer import short_form
from scenarios.text.display import visible
from scenarios.text.formatting import choice, listed
from scenarios.traffic.recordings import RecordedArrivals

CHOSEN = frozenset({"max_loras", "max_lora_rank", "max_cpu_loras", "enable_lora"})
"""Arguments of a running engine that a plan chooses anew."""

LONGEST_MODEL = 1000
"""Most characters of ``export.model``."""

HEAD = (
    "Made by lorapack import: beside each value stands where it was said.",
    "What is null was said nowhere; give it a value before `lorapack solve`.",
)


def scenario_values(fleet: Fleet, name: str, overrides: Sequence[str]) -> Values:
    """The values of a scenario of the fleet.

    Parameters
    ----------
    fleet
        What the sources say.
    name
        Name of the scenario.
    overrides
        Values that the user gives: ``path=value``.

    Raises
    ------
    ScenarioError
        If an override cannot be applied.
    """
    built = ValuesBuilder({"name": name})
    _model(built, fleet)
    names = names_for(fleet.adapters)
    entries: list[dict[str, object]] = []
    built.values["adapters"] = entries
    for served, facts in fleet.adapters.items():
        entries.append(_adapter(built, facts, names[served], len(entries)))
    if fleet.base is not None:
        entries.append(_base_entry(built, fleet, fleet.base, set(names.values()), len(entries)))
    _workload(built, fleet, entries)
    _devices(built, fleet)
    _engine(built, fleet)
    cut_prompts(built, _longest(built.values, overrides))
    _export(built, fleet, _model_of(built.values, overrides))
    _weights_without_traffic(built, fleet)
    return _overridden(built, overrides)


def _model(built: ValuesBuilder, fleet: Fleet) -> None:
    """The base model, where all sources mean the same."""
    distinct = {plain_model(said.value) for said in fleet.models}
    if len(distinct) == 1:
        # The longest says most: org/name rather than a name alone.
        said = max(fleet.models, key=_telling)
        built.put(built.values, ("model",), said, hub_name(said.value))
        return
    told = [said.value for said in fleet.models]
    remedy = f"told are {choice(told[:5], 'and')}; one scenario is of one base model" if told else ""
    built.lack(built.values, ("model",), "model", remedy=remedy)


def _telling(said: Said[str]) -> tuple[bool, int]:
    """How much a name says of a model: that of the hub more than a folder."""
    name = hub_name(said.value)
    return not _is_folder(name), len(name)


def _is_folder(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or "://" in model


def _adapter(built: ValuesBuilder, facts: AdapterFacts, name: str, index: int) -> dict[str, object]:
    """An entry of one adapter."""
    entry: dict[str, object] = {"name": name}
    loc = ("adapters", index)
    built.beside[*loc, "name"] = facts.origin
    if facts.rank is not None:
        built.put(entry, (*loc, "rank"), facts.rank)
    else:
        built.lack(entry, (*loc, "rank"), "rank", name, "r in its adapter_config.json")
    if facts.rate is not None:
        built.put(entry, (*loc, "rate"), facts.rate, short_form(facts.rate.value))
    else:
        built.lack(entry, (*loc, "rate"), "rate", name, "requests/s, from a request log")
    for key in ("prompt", "output", "arrivals"):
        said = cast("Said[object] | None", getattr(facts, key))
        if said is not None:
            built.put(entry, (*loc, key), said, _written(said.value))
    built.put(entry, (*loc, "source"), facts.source)
    if facts.served_name != name:
        built.put(entry, (*loc, "served_name"), Said(facts.served_name, "its name in the sources"))
    return entry


def _base_entry(
    built: ValuesBuilder, fleet: Fleet, base: BaseTraffic, taken: set[str], index: int
) -> dict[str, object]:
    """An entry of the base model's own traffic."""
    name = next(n for k in range(len(taken) + 1) if (n := f"base-model{f'-{k}' if k else ''}") not in taken)
    entry: dict[str, object] = {"name": name, "rank": 0}
    loc = ("adapters", index)
    built.beside[*loc, "name"] = f"requests for {listed(sorted(fleet.base_names), 3)}"
    built.beside[*loc, "rank"] = "the base model itself"
    if base.rate is None:
        built.lack(entry, (*loc, "rate"), "rate", name)
    for key in ("rate", "prompt", "output", "arrivals"):
        said = cast("Said[object] | None", getattr(base, key))
        if said is not None:
            built.put(entry, (*loc, key), said, _written(said.value))
    return entry


def _written(value: object) -> object:
    """A value of traffic as it is written; a recording lies beside the scenario."""
    if isinstance(value, RecordedArrivals):
        value = value.with_paths(lambda path: Path(path).name)
    return short_form(value)


def _workload(built: ValuesBuilder, fleet: Fleet, entries: Sequence[Mapping[str, object]]) -> None:
    """Lengths and arrivals of adapters that have none of their own."""
    workload: dict[str, object] = {}
    built.values["workload"] = workload
    for key in ("prompt", "output"):
        said = cast("Said[object] | None", getattr(fleet.total, key))
        if said is not None:
            built.put(workload, ("workload", key), said, short_form(said.value))
        elif any(key not in entry for entry in entries):
            built.lack(workload, ("workload", key), f"workload.{key}", remedy="tokens of a request")
    if fleet.total.arrivals is not None:
        said = fleet.total.arrivals
        built.put(workload, ("workload", "arrivals"), said, _written(said.value))
    if fleet.total.rate is not None:
        rate = fleet.total.rate
        built.above[("workload",)] = f"{rate.value:.4g} requests/s in all: {rate.origin}"


def _devices(built: ValuesBuilder, fleet: Fleet) -> None:
    """Kinds of GPU that the fleet runs on."""
    said = [server.device for server in fleet.servers.values() if server.device is not None]
    found: dict[str, str] = {}
    for one in said:
        try:
            found.setdefault(find_gpu(one.value).name, one.origin)
        except UnknownGPUError:
            found.setdefault(one.value, one.origin)
    if not found:
        built.lack(built.values, ("devices",), "devices", remedy="kinds of GPU: lorapack devices lists them")
        return
    built.values["devices"] = [{"name": name} for name in found]
    for k, origin in enumerate(found.values()):
        built.beside["devices", k, "name"] = origin


def _engine(built: ValuesBuilder, fleet: Fleet) -> None:
    """Arguments that all servers have alike; where they differ, it is for the user to choose."""
    engine: dict[str, object] = {}
    told: dict[str, dict[str, Said[object]]] = {}
    for server in fleet.servers.values():
        for key, said in server.engine.items():
            if key in EngineConfig.model_fields and key not in CHOSEN:
                told.setdefault(key, {}).setdefault(repr(said.value), said)
    for key, values in told.items():
        loc = ("engine", key)
        if len(values) == 1:
            built.put(engine, loc, next(iter(values.values())))
            continue
        shown = [f"{said.value} ({said.origin})" for said in list(values.values())[:3]]
        built.lack(engine, loc, f"engine.{key}", remedy=f"servers differ: {listed(shown, 3)}")
    if engine:
        built.values["engine"] = engine


def _longest(values: Mapping[str, object], overrides: Sequence[str]) -> int:
    """The scenario's ``engine.max_model_len``, with what the user gives."""
    if any(loc[0] == "engine" for loc in paths_of(overrides)):
        values = cast("Mapping[str, object]", plain(apply(values, overrides, "imported fleet")))
    engine = values.get("engine")
    told = engine.get("max_model_len") if isinstance(engine, Mapping) else None
    default = cast("int", EngineConfig.model_fields["max_model_len"].default)
    return told if isinstance(told, int) and told > 0 else default


def _model_of(values: Mapping[str, object], overrides: Sequence[str]) -> str:
    """The scenario's model, with what the user gives; empty: none is known."""
    if ("model",) in paths_of(overrides):
        values = cast("Mapping[str, object]", plain(apply(values, overrides, "imported fleet")))
    model = values["model"]
    return model if isinstance(model, str) else ""


def _loaded_model(fleet: Fleet, model: str) -> Said[str] | None:
    """The base model as engines load it, where the scenario's model is or may become only a name of it.

    A folder says itself nothing of the architecture, so that a user may have to write another model; and
    where both are names of one model, an engine may not load the other. A model that is another than the
    engines have is planned anew.
    """
    served = {said.value: said for s in fleet.servers.values() if (said := s.model) is not None}
    told = served or {said.value: said for said in fleet.models}
    if len(told) != 1:
        return None
    (said,) = told.values()
    is_folder = bool(served) and _is_folder(said.value)
    is_other_name = said.value != model and plain_model(said.value) == plain_model(model)
    is_plain = len(said.value) <= LONGEST_MODEL and visible(said.value) == said.value
    return said if is_plain and (is_folder or is_other_name) else None


def _export(built: ValuesBuilder, fleet: Fleet, model: str) -> None:
    """What deployments are called, and the base model as engines are given it."""
    export: dict[str, object] = {}
    built.put(export, ("export", "model"), _loaded_model(fleet, model))
    for key, said in fleet.settings.items():
        built.put(export, ("export", key), said)
    names = [server.served_model_name for server in fleet.servers.values() if server.served_model_name]
    if names and len({one.value for one in names}) == 1:
        built.put(export, ("export", "served_model_name"), names[0])
    if export:
        built.values["export"] = export


def _weights_without_traffic(built: ValuesBuilder, fleet: Fleet) -> None:
    """Tell what a log and the weights do not have in common: a wrong column, or names that differ."""
    with_rate = [name for name, one in fleet.adapters.items() if one.rate is not None]
    weighted = [
        name for name, one in fleet.adapters.items() if one.rank is not None or one.source is not None
    ]
    if not with_rate or not weighted:
        return
    unknown = sorted(set(with_rate) - set(weighted))
    if unknown:
        built.notes.append(f"no source tells of weights of {listed(unknown, 5)}, which get requests")


def _overridden(built: ValuesBuilder, overrides: Sequence[str]) -> Values:
    """The values with those that the user gives, which are not missing any more."""
    if not overrides:
        return built.built(HEAD)
    values = cast("dict[str, object]", plain(apply(built.values, overrides, "imported fleet")))
    check_at(values, paths_of(overrides), "--set")
    for loc in paths_of(overrides):
        for places in (built.beside, built.above):
            for place in [p for p in places if p[: len(loc)] == loc]:
                del places[place]
        built.beside[loc] = "--set"
    done = ValuesBuilder(values, built.beside, built.above, _still_missing(built), built.notes)
    return done.built(HEAD)


def _still_missing(built: ValuesBuilder) -> dict[str, list[str]]:
    """What is missing after places were given values: what a comment above still says."""
    left = set(built.above.values())
    kept: dict[str, list[str]] = {}
    for what, owners in built.missing.items():
        name, _, remedy = what.partition("; ")
        end = f"; {remedy}" if remedy else ""
        still = [of for of in owners if f"missing: {name} of {of}{end}" in left]
        if still or (not owners and f"missing: {name}{end}" in left):
            kept[what] = still
    return kept
