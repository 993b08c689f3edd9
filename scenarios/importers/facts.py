"""What sources say of a fleet: values, each with where it was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from scenarios.errors import InputError
from scenarios.importers.links import Link
from scenarios.traffic.arrivals import Arrivals
from scenarios.traffic.lengths import Lengths
from scenarios.traffic.rates import UncertainRate

T_co = TypeVar("T_co", covariant=True)

ImportWindow = Literal["busiest", "mean"]
RateForm = Literal["mean", "interval"]

TOLD, ANSWERED, READ = 2, 1, 0
"""Weights of a place of an adapter (`AdapterFacts.source_weight`)."""

MODELS, METRICS = "/v1/models", "/metrics"
"""What a server is asked (`ServerFacts.asked`)."""

LOG_FIELDS = ("time", "adapter", "prompt_tokens", "output_tokens", "end", "status", "session")
"""What a request log may say, by the names that a map of its columns uses."""


class ImportSourceError(InputError):
    """A source cannot be read, is none that is known, or contradicts another."""


@dataclass(frozen=True)
class Said(Generic[T_co]):
    """A value, and where it was said.

    Parameters
    ----------
    value
        The value.
    origin
        Where, in a few words that become a comment beside it: ``adapters/fr/adapter_config.json``.
    """

    value: T_co
    origin: str


@dataclass(frozen=True)
class AdapterFacts:
    """What a source says of one adapter; None is what it does not say.

    Parameters
    ----------
    served_name
        Name by which clients ask for it, as it is in the source, of whatever characters.
    origin
        Where it was found.
    rank
        The largest of its ranks (`rank_pattern` too): what a slot must hold.
    source
        Folder or address of its weights.
    base_model
        Model that it adapts, as the source calls it.
    rate, prompt, output, arrivals
        Its traffic.
    notes
        What a user must know of it, such as that vLLM refuses it; full sentences without its name.
    source_weight
        How much `source` counts where another source has another: what engines are told (`TOLD`) more than
        what they answer (`ANSWERED`), and that more than the folder in which it was read (`READ`).
    """

    served_name: str
    origin: str
    rank: Said[int] | None = None
    source: Said[str] | None = None
    base_model: Said[str] | None = None
    rate: Said[float | UncertainRate] | None = None
    prompt: Said[Lengths] | None = None
    output: Said[Lengths] | None = None
    arrivals: Said[Arrivals] | None = None
    notes: tuple[str, ...] = ()
    source_weight: int = TOLD


@dataclass(frozen=True)
class ServerFacts:
    """An engine that runs, or replicas of it that are alike, with the adapters that it holds.

    Parameters
    ----------
    name
        What the source calls it; servers of one name are one, told of in several sources.
    origin
        Where it was found.
    adapters
        Served names of what is loaded there; empty: the source does not say, or none.
    engine
        Arguments in vLLM's names (``max_loras``, ``max_model_len``), without those of the command line
        that are no engine's.
    replicas
        How many of it run; 0: the source does not say.
    model
        Base model that it serves.
    served_model_name
        Name by which clients ask for the base model.
    device
        Name of its kind of GPU, as the source calls it.
    address
        Where it listens: ``http://host:port``, or empty.
    program
        Which engine it is: ``vLLM``, ``SGLang`` or ``NIM``.
    notes
        What a user must know of it.
    namespace
        Namespace of Kubernetes that it runs in; empty: none is said.
    instances
        What its replicas hold beside `adapters`, by the replica's name, where a source tells them apart.
    asked
        What it was asked, if the source is its answer (``/v1/models``, ``/metrics``): that is of a server
        that others may tell of, and none beside it.
    takes_adapters
        Whether it loads and unloads adapters while it runs.
    image
        Its container's image.
    release
        Release of the engine: ``0.11.0``.
    """

    name: str
    origin: str
    adapters: tuple[str, ...] = ()
    engine: Mapping[str, Said[object]] = field(default_factory=dict)
    replicas: int = 1
    model: Said[str] | None = None
    served_model_name: Said[str] | None = None
    device: Said[str] | None = None
    address: str = ""
    program: str = "vLLM"
    notes: tuple[str, ...] = ()
    namespace: str = ""
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: str = ""
    takes_adapters: Said[bool] | None = None
    image: Said[str] | None = None
    release: Said[str] | None = None

    @property
    def engines(self) -> int:
        """Engines of one instance: those of vLLM's ``--data-parallel-size`` answer as one."""
        said = self.engine.get("data_parallel_size")
        size = said.value if said is not None and isinstance(said.value, int) else 1
        return size if size > 0 and self.replicas and self.replicas % size == 0 else 1

    def holding(self, served_name: str) -> tuple[int, ...]:
        """The replicas, counted from 0, that hold an adapter."""
        if served_name in self.adapters:
            return tuple(range(self.replicas))
        each = self.engines
        first = [k * each for k, held in enumerate(self.instances.values()) if served_name in held]
        return tuple(j for k in first for j in range(k, min(k + each, self.replicas)))

    def names(self) -> tuple[str, ...]:
        """All adapters that any of its replicas holds."""
        beside = (name for held in self.instances.values() for name in held)
        return tuple(dict.fromkeys((*self.adapters, *beside)))


@dataclass(frozen=True)
class RouteFacts:
    """Where the requests of a name go.

    Parameters
    ----------
    served_name
        Of an adapter, or of the base model.
    weights
        Weight by the name, or the address, of a server.
    origin
        Where it was found.
    """

    served_name: str
    weights: Mapping[str, float]
    origin: str


@dataclass(frozen=True)
class BaseTraffic:
    """Requests of the base model itself."""

    rate: Said[float | UncertainRate] | None = None
    prompt: Said[Lengths] | None = None
    output: Said[Lengths] | None = None
    arrivals: Said[Arrivals] | None = None


@dataclass(frozen=True)
class TotalTraffic:
    """What all adapters get together, where a source does not tell them apart, or of all of them.

    Parameters
    ----------
    rate
        Requests per second of all, for comments: it is no adapter's.
    prompt, output
        Lengths of all requests: the workload's.
    arrivals
        Arrival process of adapters that have none of their own.
    notes
        What else is known: burstiness, daily pattern, the window that was taken.
    """

    rate: Said[float] | None = None
    prompt: Said[Lengths] | None = None
    output: Said[Lengths] | None = None
    arrivals: Said[Arrivals] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricsSnapshot:
    """Counters of a server at an instant; two of one server say a rate.

    Parameters
    ----------
    name
        File that it is from.
    taken_s, taken_how
        Seconds since 1970, and what says so.
    started_s
        When the server started, by which its snapshots are known; None: it does not say.
    series
        Value by name and labels.
    """

    name: str
    taken_s: float
    taken_how: str
    started_s: float | None
    series: Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class SourceFacts:
    """All that one source says.

    Parameters
    ----------
    kind
        What the source is, in words: ``PEFT adapter folder``.
    adapters, servers, routes
        What it tells of them.
    base_names
        Names by which clients ask for the base model.
    base
        Traffic of the base model.
    total
        Traffic of all.
    settings
        Values of the section ``export`` of a scenario (`ExportSettings`): namespace, image.
    notes
        What a user must know of the source as a whole.
    snapshots
        Counters, of which several sources say rates together.
    links
        Of objects of a cluster, what several say together: on which servers adapters are, and routes.
    """

    kind: str
    adapters: tuple[AdapterFacts, ...] = ()
    servers: tuple[ServerFacts, ...] = ()
    routes: tuple[RouteFacts, ...] = ()
    base_names: tuple[str, ...] = ()
    base: BaseTraffic | None = None
    total: TotalTraffic | None = None
    settings: Mapping[str, Said[object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    snapshots: tuple[MetricsSnapshot, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class ImportOptions:
    """How sources are read.

    Parameters
    ----------
    columns
        Which column, or path of keys, of a log holds which field (``adapter``: ``model``).
    window
        ``busiest``: the busiest hour of a log; ``mean``: all of it.
    rates
        ``mean``: one number; ``interval``: between low and high.
    trace_file
        Where a recording is written, if arrivals follow no simple process.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    window: str = "busiest"
    rates: str = "mean"
    trace_file: Path | None = None
