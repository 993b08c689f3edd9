"""What a calibration reads beside a folder's description: a table of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from scenarios import Problem, ScenarioError
from scenarios.reading.findings import Finding
from scenarios.text.formatting import choice, nearest
from twin.calibration.cost_terms import Steps
from twin.measured.measurement import table_file
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
