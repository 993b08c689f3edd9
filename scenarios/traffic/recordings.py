"""Arrivals that were recorded: traces of requests, and of clients by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from scenarios.base import FrozenModel
from scenarios.reading.findings import Finding
from scenarios.traffic.process import ArrivalProcess

TimeUnit = Literal["s", "ms", "us", "ns", "date"]

Path = Annotated[str, Field(min_length=1)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class RecordedArrivals(ArrivalProcess):
    """Base of the processes that are read from files."""

    file_keys: ClassVar[tuple[str, ...]] = ()
    """The fields that are paths."""

    lengths: bool = False
    """Take prompt and output tokens from the recording too."""
    adapter_name: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Take only what was recorded under this name; adapters with the same one share it by rate."""

    @property
    def by_name(self) -> bool:
        """Whether each adapter gets what was recorded under its own name; else all is dealt by rate."""
        return False

    @property
    def recording(self) -> Self:
        """The same whatever the name: processes with equal ones are played together."""
        return self.model_copy(update={"adapter_name": None})

    def of(self, name: str) -> Self:
        """The process of an adapter: itself, or if it goes by names what was recorded under the adapter's."""
        return self.model_copy(update={"adapter_name": name}) if self.by_name else self

    def paths(self) -> Iterator[tuple[str, str]]:
        """Yield each path with the field that holds it."""
        for key in self.file_keys:
            if (path := getattr(self, key)) is not None:
                yield key, path

    def with_paths(self, change: Callable[[str], str]) -> Self:
        """The same with each of its paths changed."""
        return self.model_copy(update={key: change(path) for key, path in self.paths()})


class TraceColumns(FrozenModel):
    """Which columns of a trace hold what; those left out are found by their names."""

    time: ColumnName | None = None
    """Instant of the arrival."""
    prompt: ColumnName | None = None
    """Tokens of the prompt."""
    output: ColumnName | None = None
    """Tokens of the answer."""
    adapter: ColumnName | Literal[False] | None = None
    """Name of the adapter: each adapter gets the requests under its name; false: they are dealt by rate."""


class TraceArrivals(RecordedArrivals):
    """Arrival instants from a trace file, each request for the adapter that the trace names.

    Where `columns` state no column of adapters, each request is dealt to an adapter in proportion to the
    rates. Under *sustained* the trace keeps its clock and is thinned, or copied, to the rates; under *paper*
    it is stretched in time. It is repeated when the workload lasts longer. CSV with a header, one JSON object
    a line, or Parquet (with the extra of that name); the first two plain or compressed by gzip.
    docs/traces.md lists the columns that are known.
    """

    file_keys: ClassVar[tuple[str, ...]] = ("file",)

    process: Literal["trace"] = "trace"
    file: Path
    """Path of the trace, relative to the scenario file."""
    columns: TraceColumns = TraceColumns()
    """Which columns hold what; those of public traces are known."""
    time_unit: TimeUnit | None = None
    """Unit of the instants; absent: as of the public trace, or as names and values tell."""

    @property
    def by_name(self) -> bool:
        """Whether each adapter gets what was recorded under its own name: where its column is stated."""
        return bool(self.columns.adapter) and self.adapter_name is None

    def dealt(self) -> TraceArrivals:
        """The same with every request dealt by rate, for adapters that have other names."""
        columns = self.columns.model_copy(update={"adapter": False})
        return self.model_copy(update={"columns": columns, "adapter_name": None})


class ServegenArrivals(RecordedArrivals):
    """Clients of a model service as ServeGen publishes them: rate and gaps by window, and lengths.

    The requests of all clients are dealt to adapters in proportion to the rates, or each adapter is the
    client that its name says. Windows keep their clock, and repeat.
    """

    file_keys: ClassVar[tuple[str, ...]] = ("folder", "file", "clients")

    process: Literal["servegen"] = "servegen"
    folder: Path | None = None
    """Folder of ``chunk-N-trace.csv`` and ``chunk-N-dataset.json``, relative to the scenario file."""
    file: Path | None = None
    """In place of a folder: one table of all clients, a row for each of their windows of 600 s."""
    clients: Path | None = None
    """With `file`: table of the clients' mean lengths; absent: no lengths are known."""
    each_client: bool = False
    """Each adapter is a client, at its own rate: the one that is named ``client-N`` is client N."""
    start_s: Annotated[float, Field(ge=0, le=31_536_000)] = 0.0
    """Second of the recording at which a run begins."""

    @property
    def by_name(self) -> bool:
        """Whether each adapter is the client that its name says."""
        return self.each_client and self.adapter_name is None

    def findings(self) -> Iterator[Finding]:
        """Yield files that are missing, or too many."""
        if (self.folder is None) == (self.file is None):
            stated = "has neither folder nor file" if self.folder is None else "has both folder and file"
            yield Finding((), stated, "give the folder of ServeGen's files, or one table as file")
        elif self.clients is not None and self.file is None:
            yield Finding(("clients",), "is given without file", "leave it out: a folder has lengths")
        elif self.lengths and self.folder is None and self.clients is None:
            yield Finding(("lengths",), "is true, and no file has lengths", "give clients, or set it false")
