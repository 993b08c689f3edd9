"""A scenario: the adapters to serve, their workload, the GPUs at hand and what is wanted of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.json_schema import GenerateJsonSchema

from scenarios import checks
from scenarios.acceptance import Acceptance, foreign_findings, without_foreign
from scenarios.adapter_classes import AdapterClass, group
from scenarios.adapters import Adapter
from scenarios.base import MOST_GIB, FrozenModel
from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.reading.findings import Finding, Loc
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.traffic.recordings import RecordedArrivals
from scenarios.traffic.workload import Workload

ObjectiveName = Literal[
    "gpus", "cost", "latency", "worst_latency", "ttft", "worst_ttft", "worst_ttft_p99", "balance"
]
OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
"""Names of the objectives."""


class Device(FrozenModel):
    """A kind of GPU (or group of GPUs under one engine) and how many of them there are at most."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Name as in the engine profile: H100-64GB."""
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """How many there are at most."""
    memory_gib: Annotated[float | None, Field(gt=0, le=MOST_GIB)] = None
    """GPU memory in GiB; absent: the profile's."""
    price_per_hour: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    """Price of one for an hour, in any currency; absent: none, and no objective cost."""
    profile: Annotated[str | None, Field(max_length=4096)] = None
    """Engine profile file, relative to the scenario; absent: the shipped one of this name."""
    gpus_per_node: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """How many of them, counted as `count` does, are in one node and may be lost together."""


def expand_devices(value: object) -> object:
    """Spell out the short forms of devices: one name, one mapping, or names in a list."""
    if isinstance(value, str | Mapping | Device):
        value = (value,)
    if isinstance(value, list | tuple):
        return tuple({"name": item} if isinstance(item, str) else item for item in value)
    return value


def expand_objective(value: object) -> object:
    """Spell out the short form of objectives: one name."""
    return (value,) if isinstance(value, str) else value


def expand_switch(value: object) -> object:
    """Take yes, no, on and off for a switch, as YAML 1.1 does."""
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


_Devices = Annotated[tuple[Device, ...], Field(min_length=1)]
_Objectives = Annotated[tuple[ObjectiveName, ...], Field(min_length=1)]
_Switch = Annotated[
    bool, BeforeValidator(expand_switch, json_schema_input_type=bool | Literal["yes", "no", "on", "off"])
]


_Owner = TypeVar("_Owner", Workload, Adapter)

_DISTINCT_DEVICES = "remove one, or give it another name and, as its profile, the file of its engine profile"


class Scenario(FrozenModel):
    """Everything that `optimizer.solve` needs to know; read from YAML by `scenarios.read`."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Short name."""
    description: Annotated[str, Field(max_length=10_000)] = ""
    """What the scenario shows."""
    model: Annotated[str, Field(min_length=1)]
    """Base model, as in the engine profile."""
    adapters: Annotated[tuple[Adapter, ...], Field(min_length=1)]
    """The adapters to serve."""
    workload: Workload
    """What the adapters' users send."""
    devices: Annotated[
        _Devices,
        BeforeValidator(
            expand_devices,
            json_schema_input_type=str
            | Device
            | Annotated[tuple[Device | Annotated[str, Field(min_length=1)], ...], Field(min_length=1)],
        ),
    ]
    """Kinds of GPU to choose from."""
    engine: EngineConfig = EngineConfig()
    """The engine's arguments, in vLLM's own names."""
    objective: Annotated[
        _Objectives, BeforeValidator(expand_objective, json_schema_input_type=ObjectiveName | _Objectives)
    ] = ("gpus", "worst_ttft_p99")
    """Objectives, the most important first; of the plans on the fewest GPUs one whose worst GPU is quick."""
    acceptance: Acceptance = "sustained"
    """By what a GPU is accepted: sustained, that it keeps up for ever; or paper, that it serves 90 % of the
    tokens within a run."""
    headroom: Annotated[float, Field(ge=0, le=10)] = 0.05
    """How much more than its rates every GPU must sustain, as a share of them (acceptance: sustained)."""
    derived_costs: Literal["pessimistic", "expected", "refused"] = "pessimistic"
    """Where step times are derived, not measured: whether a GPU must keep up at their pessimistic end (of
    effect under acceptance: sustained), at what is expected of them, or whether they are refused."""
    service_levels: ServiceLevelObjectives = ServiceLevelObjectives()
    """What a plan must give to be accepted."""
    allow_replicas: _Switch = True
    """Whether an adapter hotter than a GPU may be split over several."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of everything random."""
    replications: Annotated[int, Field(ge=1, le=1000)] = 3
    """Twin runs, with seeds of their own, per verdict."""
    export: ExportSettings | None = None
    """Names, images and storage of a deployment; absent: defaults, which docs/fleet.md lists."""

    def findings(self) -> Iterator[Finding]:
        """Yield every inconsistency between the scenario's parts."""
        yield from foreign_findings(self.stated(), self.acceptance)
        levels = self.service_levels if self.acceptance == "paper" else None
        yield from checks.across(enumerate(self.adapters), self.workload, self.engine, levels)
        names = [device.name for device in self.devices]
        yield from checks.distinct("devices", names, ("name",), _DISTINCT_DEVICES)
        yield from checks.distinct("objective", self.objective)
        gpus = sum(device.count for device in self.devices)
        yield from checks.served_names_distinct(enumerate(self.adapters), self.export)
        yield from checks.replicas_possible(enumerate(self.adapters), gpus, self.allow_replicas)
        for k, device in enumerate(self.devices):
            if "cost" in self.objective and device.price_per_hour is None:
                message = f"is missing for {device.name}, and the objective cost compares prices"
                remedy = "give the price of one GPU for an hour, or choose the objective gpus"
                yield Finding(("devices", k, "price_per_hour"), message, remedy)

    def stated(self) -> dict[str, object]:
        """What was given, not left at its default, of all that belongs to one criterion alone."""

        def stated(model: FrozenModel | None) -> dict[str, object]:
            return {} if model is None else {name: getattr(model, name) for name in model.model_fields_set}

        return {
            "headroom": self.headroom if "headroom" in self.model_fields_set else None,
            "service_levels": stated(self.service_levels),
            "adapters": [{"service_levels": stated(entry.service_levels)} for entry in self.adapters],
        }

    def written(self, values: Any) -> Any:
        """Without what belongs to the other criterion."""
        return without_foreign(values, self.acceptance)

    @model_serializer(mode="wrap")
    def _of_its_criterion(self, content: SerializerFunctionWrapHandler) -> Any:
        return self.written(content(self))

    @property
    def judged_load(self) -> float:
        """By what rates are multiplied where it is judged whether a GPU keeps up with them."""
        return 1.0 + self.headroom if self.acceptance == "sustained" else 1.0

    def paths(self) -> Iterator[tuple[Loc, str]]:
        """Yield every path to a file in the scenario, with where it stands."""
        for k, device in enumerate(self.devices):
            if device.profile is not None:
                yield ("devices", k, "profile"), device.profile
        owners: list[tuple[Loc, Workload | Adapter]] = [(("workload",), self.workload)]
        owners += [(("adapters", k), entry) for k, entry in enumerate(self.adapters)]
        for loc, owner in owners:
            if isinstance(owner.arrivals, RecordedArrivals):
                yield from (((*loc, "arrivals", key), path) for key, path in owner.arrivals.paths())

    def with_paths(self, change: Callable[[str], str]) -> Scenario:
        """Return the scenario with each of its `paths` changed."""

        def changed(owner: _Owner) -> _Owner:
            """The workload, or an entry, with the paths of its recording changed."""
            if not isinstance(owner.arrivals, RecordedArrivals):
                return owner
            return owner.model_copy(update={"arrivals": owner.arrivals.with_paths(change)})

        devices = tuple(
            device.model_copy(update={"profile": device.profile and change(device.profile)})
            for device in self.devices
        )
        adapters = tuple(changed(entry) for entry in self.adapters)
        return self.model_copy(
            update={"devices": devices, "workload": changed(self.workload), "adapters": adapters}
        )

    @cached_property
    def classes(self) -> tuple[AdapterClass, ...]:
        """Classes of identical adapters, in order of first appearance."""
        workload = self.workload
        return group(self.adapters, workload.prompt, workload.output, workload.arrivals)

    @property
    def uncertain(self) -> bool:
        """Whether the rate of an adapter is not known."""
        return any(one.kind.uncertain for one in self.classes)

    @cached_property
    def mixed(self) -> bool:
        """Whether adapters have arrivals or common prompts of their own, or some are the base model."""
        own = any(entry.arrivals is not None or entry.reuse is not None for entry in self.adapters)
        return own or any(one.rank == 0 for one in self.classes)

    @cached_property
    def base_names(self) -> frozenset[str]:
        """Names of entries for the base model itself."""
        return frozenset(name for one in self.classes if one.rank == 0 for name in one.names)

    @property
    def n_adapters(self) -> int:
        """How many adapters there are."""
        return sum(entry.count for entry in self.adapters)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that can change a result: the content without names for people and deployments."""
        deployed = {"adapters": {"__all__": {"source", "served_name"}}}
        content = self.model_dump(
            mode="json", exclude={"name": True, "description": True, "export": True, **deployed}
        )
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def criterion_in_words(scenario: Scenario, *, one_run: bool = False) -> str:
    """By what a scenario's GPUs are accepted, with its numbers, and of what load the figures beside it are.

    Parameters
    ----------
    scenario
        The scenario.
    one_run
        Whether the figures are of one run at the rates themselves, not those by which GPUs were judged.
    """
    levels = scenario.service_levels
    cornered = scenario.uncertain and not one_run
    worst = "; rates between low and high: figures are of the worst corner" if cornered else ""
    if scenario.acceptance == "paper":
        seconds = scenario.workload.duration_s - scenario.workload.warmup_s
        return f"paper: {100 * levels.served_share:.4g} % of the tokens served within {seconds:,g} s{worst}"
    late = f"at most {100 * levels.late_share:.4g} % of the requests wait over {levels.patience_s:g} s"
    load = f"at {scenario.judged_load:.4g} times the load"
    figures = (
        f"judged {load}; figures are of one run at the load itself" if one_run else f"figures are {load}"
    )
    return f"sustained: {late}, for ever; {figures}{worst}"


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a scenario file, short forms included.

    It says what an editor can check; what the parts must agree on is checked by `scenarios.read`.
    """
    body = Scenario.model_json_schema()
    return {"$schema": GenerateJsonSchema.schema_dialect, **body, "title": "lorapack scenario"}
