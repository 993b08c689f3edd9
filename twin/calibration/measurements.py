"""What a calibration reads: folders with a description and a table of each kind, one or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from scenarios import Problem, ScenarioError
from scenarios.reading.findings import Finding
from scenarios.reading.yaml_reader import FILE
from scenarios.text.formatting import choice, nearest
from twin.calibration.cost_terms import Steps
from twin.measured.measurement import Measurement, read_measurement, table_file
from twin.measured.run_tables import measured_runs
from twin.measured.runs import MeasuredRun
from twin.measured.tables import Count, Number, Positive, PositiveCount, TableRow, Text, read_table


class Probe(TableRow):
    """A step of known composition, or the median of many alike; the table ``probes.csv``."""

    model: Text
    """Base model."""
    step_ms: Positive
    """Time of the step: from its start to the next one's."""
    batched_tokens: Positive
    """Tokens scheduled in the step."""
    decodes: Number
    """Requests that decode in it; the other tokens are prefill."""
    context_tokens: Number
    """Tokens of prompt and answer so far of the requests that decode, together."""
    n_adapters: Number = 0.0
    """Distinct adapters in the step; 0 without LoRA."""
    n_served: Number | None = None
    """Adapters that the engine serves; if not given, those of the step."""
    max_loras: Count = 0
    """Adapter slots; 0 without LoRA."""
    max_lora_rank: Count = 0
    """Rank of every slot; 0 without LoRA."""
    weight: Number = 1.0
    """How much the probe counts in the fit; a clean run counts 1."""

    def findings(self) -> Iterator[Finding]:
        """Yield adapters without a slot, whose cost would be none."""
        if self.n_adapters > 0 and not (self.max_loras and self.max_lora_rank):
            what = f"is {self.n_adapters:g} in an engine without LoRA"
            yield Finding(("n_adapters",), what, "give max_loras and max_lora_rank, or 0 adapters")

    @property
    def steps(self) -> Steps:
        """The step as a fit sees it."""
        return Steps(
            weight=np.ones(1),
            tokens=np.array([self.batched_tokens]),
            decodes=np.array([self.decodes]),
            context=np.array([self.context_tokens]),
            adapters=np.array([self.n_adapters]),
            waiting=np.zeros(1),
            max_loras=self.max_loras,
            max_lora_rank=self.max_lora_rank,
            served=round(self.n_adapters if self.n_served is None else self.n_served),
        )


class AdapterLoad(TableRow):
    """Copies of one kind of adapter; the table ``adapter_loads.csv``."""

    model: Text
    """Base model."""
    adapter_rank: PositiveCount
    """Rank of the adapter."""
    max_lora_rank: PositiveCount
    """Rank of every slot."""
    cpu_to_gpu_ms: Positive
    """Mean time of the copy from CPU memory to a slot."""
    disk_to_cpu_ms: Positive
    """Median time to read it from disk into CPU memory."""


class LengthBin(TableRow):
    """A bin of a histogram of lengths, whose shape alone counts; the table ``length_histograms.csv``."""

    model: Text
    """Base model."""
    kind: Literal["prompt", "output"]
    """``prompt``, or ``output`` for the lengths asked of the answers."""
    bin_lo: Number
    """Fewest tokens in the bin: the end of the bin before it."""
    bin_hi: Positive
    """Tokens at the end of the bin."""
    count: Number
    """Requests in the bin, or any weight."""


class LengthMeans(TableRow):
    """Mean lengths of a model's requests, one row a model; the table ``length_means.csv``."""

    model: Text
    """Base model."""
    prompt_tokens: Positive
    """Mean tokens of the prompts offered."""
    output_tokens: Positive
    """Mean tokens asked of the answers (``max_tokens``)."""
    served_tokens: Positive
    """Mean tokens of the answers, with those that ended early, in runs that completed nearly all requests."""
    max_total_tokens: Annotated[int, Field(ge=2, lt=1e9)]
    """Most tokens of prompt and answer together."""


class MetricsReading(TableRow):
    """An instant at which the server's metrics were read; the table ``metrics_readings.csv``."""

    run_id: Text
    """Run, as in ``serving_runs.csv``."""
    t: Number
    """Seconds since the start of the run."""


TABLES: Mapping[str, type[TableRow]] = {
    "serving_runs": MeasuredRun,
    "probes": Probe,
    "adapter_loads": AdapterLoad,
    "length_histograms": LengthBin,
    "length_means": LengthMeans,
    "metrics_readings": MetricsReading,
}
"""Rows of each table by its name, which is that of the file without its ending."""


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of a folder by its name; without rows where there is no such file.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the files, and with every file that is no table of this form.
    """
    tables: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    files = {path.name: path for path in sorted(folder.glob("*.csv*"))}
    for name, row_model in TABLES.items():
        file = table_file(folder, name)
        if file is None:
            tables[name] = pd.DataFrame(columns=list(row_model.model_fields))
            continue
        try:
            tables[name] = read_table(files.pop(file.name), row_model)
        except ScenarioError as error:
            problems += [replace(problem, path=f"{file.name}, {problem.path}") for problem in error.problems]
    for other in files:
        close = nearest(other.split(".")[0], TABLES)
        known = f"remove it; the tables are {choice(TABLES, 'and')}"
        problems.append(
            Problem(other, "is no table of this form", f'did you mean "{close}.csv"?' if close else known)
        )
    if tables.get("serving_runs") is not None and not len(tables["serving_runs"]):
        problems.append(Problem("serving_runs.csv", "is missing or empty", "add the runs to fit"))
    if problems:
        raise ScenarioError(problems, str(folder))
    return tables


OF_THE_SLOTS = frozenset({"max_loras", "max_lora_rank", "max_cpu_loras", "slots"})
"""Arguments that servers of one measurement may differ in: each row has its own."""

OF_THE_CACHE = frozenset({"gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override"})
"""What decides the size of the KV cache, which each row has."""

OF_A_RUN = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
"""Arguments that rows may have."""


@dataclass(frozen=True)
class MeasuredFolders:
    """Measurements of one kind of server: its folders, and what they hold together.

    Parameters
    ----------
    folders
        At least one.
    about
        What all of them have in common.
    tables
        Every table by its name, rows in the order of the folders. Where there are several, runs and groups
        have the folder's name before their own, and lengths are of the first folder that has them.
    """

    folders: tuple[Path, ...]
    about: Measurement
    tables: Mapping[str, pd.DataFrame]

    @property
    def source(self) -> str:
        """The folders, as messages name them."""
        return " and ".join(map(str, self.folders))

    @property
    def config(self) -> Path | None:
        """The model's ``config.json``, if a folder has one."""
        return next((file for folder in self.folders if (file := folder / "config.json").exists()), None)

    def runs_of(self, table: pd.DataFrame) -> list[MeasuredRun]:
        """The runs of some rows of ``serving_runs``, with the requests that their folder has of them."""
        folder = table[FOLDER].to_numpy()
        parts = (measured_runs(table[folder == k], path) for k, path in enumerate(self.folders))
        return [run for part in parts for run in part]


FOLDER = "folder"
"""Column of joined serving runs with the number of their folder."""


def read_folders(folders: Sequence[Path], about: Sequence[Measurement] = ()) -> MeasuredFolders:
    """Read measurements of servers that differ in what their rows say of them alone.

    Parameters
    ----------
    folders
        At least one.
    about
        Description of each; absent: its ``measurement.yaml``.

    Raises
    ------
    ScenarioError
        If one cannot be read, or they are of servers that no one profile is of.
    """
    twice = [path for k, path in enumerate(folders) if path.resolve() in {f.resolve() for f in folders[:k]}]
    if twice:
        raise ScenarioError([Problem(FILE, "is given twice", "name each folder once")], str(twice[0]))
    about = about or [read_measurement(folder) for folder in folders]
    tables = [read_tables(folder) for folder in folders]
    _check_alike(folders, about, tables)
    sources = dict.fromkeys(one.source for one in about)
    first = about[0].model_copy(update={"source": "; ".join(sources)})
    return MeasuredFolders(tuple(folders), first, _joined(folders, tables))


def _check_alike(
    folders: Sequence[Path], about: Sequence[Measurement], tables: Sequence[Mapping[str, pd.DataFrame]]
) -> None:
    """Refuse folders of servers that differ in what their rows do not say."""
    runs = [of["serving_runs"] for of in tables]
    told = {name for name in OF_A_RUN if all(table[name].notna().all() for table in runs)}
    apart, problems = OF_THE_SLOTS | OF_THE_CACHE | told, []
    for folder, one in zip(folders[1:], about[1:], strict=True):
        for name, here, there in _differences(about[0], one, apart):
            what = f"is {there} in {folder} and {here} in {folders[0]}"
            problems.append(Problem(name, what, "fit a profile to each of the two"))
    if problems:
        raise ScenarioError(problems, " and ".join(map(str, folders)))


def _differences(
    first: Measurement, other: Measurement, apart: Set[str]
) -> Iterator[tuple[str, object, object]]:
    """What two descriptions say otherwise, by its path."""
    for name in ("device", "gpu_memory_gib", "engine_version", "metrics_pause_s"):
        here, there = getattr(first, name), getattr(other, name)
        if here != there:
            yield name, here, there
    here_of, there_of = (one.engine.model_dump(mode="json") for one in (first, other))
    for name in sorted(here_of.keys() | there_of.keys()):
        if name not in apart and here_of.get(name) != there_of.get(name):
            yield f"engine.{name}", here_of.get(name), there_of.get(name)


def _joined(
    folders: Sequence[Path], tables: Sequence[Mapping[str, pd.DataFrame]]
) -> Mapping[str, pd.DataFrame]:
    """The tables of all folders as one of each kind."""
    numbered = [
        {**of, "serving_runs": of["serving_runs"].assign(**{FOLDER: k})} for k, of in enumerate(tables)
    ]
    if len(numbered) == 1:
        return numbered[0]
    for folder, of in zip(folders, numbered, strict=True):
        for name in ("serving_runs", "metrics_readings"):
            labels = {key: f"{folder}: " + of[name][key] for key in ("run_id", "group") if key in of[name]}
            of[name] = of[name].assign(**labels)
    joined = {name: _stacked([of[name] for of in numbered]) for name in TABLES}
    of_lengths = next((of for of in numbered if len(of["length_means"])), numbered[0])
    return joined | {name: of_lengths[name] for name in ("length_histograms", "length_means")}


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables; of empty ones, which know no types, only the columns."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]
