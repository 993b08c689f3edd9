"""Twin runs as a table: what the GPU was given, what it did, and where the run comes from."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from learn.features import ADDITIVE, FEATURES, BoolArray, FloatArray, IntArray, shares_slots
from scenarios import LorapackError, write_whole
from scenarios.errors import cause_of
from scenarios.reading.syntax.json_text import json_value
from scenarios.reading.syntax.words import csv_words
from scenarios.result_view import ResultView
from scenarios.text.formatting import shortened
from scenarios.text.tables import Part, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGETS = (
    "throughput_tok_per_s",
    "itl_ms",
    "ttft_ms",
    "ttft_p99_ms",
    "served_share",
    "worst_served_share",
    "margin",
    "starved",
)
"""What a run says: tokens per second served, mean latencies and the 99th percentile of the time to first
token, served share of the GPU, smallest served share of an adapter, how far the run is from its nearest
service level as a share of it, and whether it starves (1) or not (0). A latency without a request is nan."""

_ORIGIN = ("composition", "run", "total_rate", "max_loras", "max_lora_rank", "kv_cache_tokens")
_FEATURES = tuple(f.name for f in FEATURES)
COLUMNS = (*_ORIGIN, *(name for name in _FEATURES if name not in _ORIGIN), *TARGETS)
"""Columns of a dataset's table."""

_MISSING = ("itl_ms", "ttft_ms", "ttft_p99_ms")
"""Columns that may be nan."""

POSITIVE = (
    "total_rate",
    "rate",
    "prompt_mean",
    "output_mean",
    "max_loras",
    "max_lora_rank",
    "kv_cache_tokens",
    "token_rate",
)
"""Columns that are above 0, as without load or an engine there is no run; of the others only the margin may
be below."""

_INTEGERS = ("composition", "run", "max_loras", "max_lora_rank", "kv_cache_tokens", "starved")


class DatasetError(LorapackError, ValueError):
    """A dataset file is unreadable or not of this version's form."""


@dataclass(frozen=True)
class Dataset(ResultView):
    """Twin runs, in the order of their compositions.

    ``plot`` draws adapters and offered tokens of every run, and whether it starves.

    Parameters
    ----------
    table
        One row per run, columns `COLUMNS`.
    metadata
        Seed, profile, engine, workload: everything that determines the runs.
    """

    table: pd.DataFrame
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.table.columns]
        if missing:
            raise DatasetError(f"the dataset lacks the columns {', '.join(missing)}; sample it again")

    def __repr__(self) -> str:
        return f"<Dataset: {len(self):,} twin runs>"

    def _draw(self, ax: Axes | None) -> Figure:
        from learn.plots.runs import draw_runs

        return draw_runs(self.target("count"), self.target("token_rate"), self.starved, ax)

    def _shown(self) -> Iterable[Part]:
        runs = self.table.groupby(["max_loras", "max_lora_rank"])["starved"].agg(["size", "sum"])
        rows = [(*option, int(row["size"]), int(row["sum"])) for option, row in runs.iterrows()]  # type: ignore[misc]
        starved = int(self.starved.sum())
        return [
            f"{len(self):,} twin runs, {starved:,} of which starve",
            table((">slots", ">rank", ">runs", ">starved"), rows),
        ]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def features(self) -> FloatArray:
        """All features, shape (n, len(FEATURES))."""
        return self.table[list(_FEATURES)].to_numpy(dtype=np.float64)

    @property
    def sums(self) -> FloatArray:
        """Additive feature sums, shape (n, K)."""
        return self.table[list(ADDITIVE)].to_numpy(dtype=np.float64)

    @property
    def engines(self) -> FloatArray:
        """Slots, max rank and KV cache tokens of each run, shape (n, 3)."""
        return self.table[["max_loras", "max_lora_rank", "kv_cache_tokens"]].to_numpy(dtype=np.float64)

    @property
    def shared(self) -> BoolArray:
        """Which runs have more adapters than slots, shape (n,)."""
        return shares_slots(self.target("count"), self.target("max_loras"))

    @property
    def starved(self) -> BoolArray:
        """Which runs starve, shape (n,)."""
        return np.asarray(self.table["starved"].to_numpy() > 0)

    @property
    def groups(self) -> IntArray:
        """Composition of each run, shape (n,)."""
        return self.table["composition"].to_numpy(dtype=np.int64)

    @property
    def scattered(self) -> BoolArray:
        """Which runs are at random loads, not part of the search for a boundary, shape (n,)."""
        return np.asarray(self.table["run"].to_numpy() >= int(self.metadata["plan"]["max_runs"]))

    def target(self, name: str) -> FloatArray:
        """A column, such as one of `TARGETS`, shape (n,)."""
        return self.table[name].to_numpy(dtype=np.float64)

    def where(self, mask: BoolArray) -> Dataset:
        """The runs of a mask."""
        return Dataset(self.table.loc[mask].reset_index(drop=True), self.metadata)

    def text(self) -> str:
        """CSV; the first line holds, as JSON, the metadata, the number of runs, and a digest of all."""
        body = self.table.to_csv(index=False, columns=list(COLUMNS), lineterminator="\n", na_rep="nan")
        head = {"metadata": self.metadata, "runs": len(self), "sha256": _digest(self.metadata, body)}
        return f"# {json.dumps(head, sort_keys=True)}\n{body}"

    def save(self, path: str | Path) -> None:
        """Write as text; the write is all or nothing."""
        write_atomically(Path(path), self.text())


def read_dataset(path: str | Path) -> Dataset:
    """Read what `Dataset.save` wrote.

    Raises
    ------
    DatasetError
        If the file is missing, damaged or of another form.
    """
    path = Path(path)
    try:
        return dataset_of(path.read_text(encoding="utf-8"))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a dataset ({cause_of(error)}); sample it again") from error


def dataset_of(text: str) -> Dataset:
    """The dataset of a text.

    Raises
    ------
    DatasetError
        If it lacks columns.
    ValueError
        If it is not what was written, or holds a value that no run has.
    """
    head, body = _parts(text)
    metadata, runs = head["metadata"], body.count("\n") - 1
    if runs != head.get("runs"):
        raise ValueError(f"it holds {runs} of the {head.get('runs')} runs that were written")
    if head.get("sha256") != _digest(metadata, body):
        raise ValueError("its content is not what was written")
    try:
        cells = pd.read_csv(io.StringIO(body), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"its runs are no CSV: {csv_words(str(error))}") from error
    numbers = pd.DataFrame({name: _numbers(cells[name]) for name in cells})
    _check_values(numbers)
    return Dataset(numbers.astype({name: np.int64 for name in _INTEGERS if name in numbers}), metadata)


def metadata_of(text: str) -> dict[str, Any]:
    """The metadata of a dataset's text, whatever has become of its runs.

    Raises
    ------
    ValueError
        If it has none.
    """
    metadata: dict[str, Any] = _parts(text)[0]["metadata"]
    return metadata


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """What the first line says, and the lines of the table."""
    first, _, body = text.partition("\n")
    if not first.startswith("# "):
        raise ValueError("its first line holds no metadata")
    head = json_value(first[2:])
    if not isinstance(head, dict):
        raise ValueError(f"its first line holds {first[2:42]!r}, not a mapping")
    if not isinstance(head.get("metadata"), dict):
        raise ValueError(f"its metadata are {str(head.get('metadata'))[:40]!r}, not a mapping")
    return head, body


def _digest(metadata: dict[str, Any], body: str) -> str:
    return hashlib.sha256(f"{json.dumps(metadata, sort_keys=True)}\n{body}".encode()).hexdigest()


def _numbers(cells: pd.Series[str]) -> FloatArray:
    """A column's numbers, each as it was written; ``nan`` where a run has none."""
    try:
        return np.asarray(cells.astype(np.float64), dtype=np.float64)
    except ValueError:
        words = pd.to_numeric(cells, errors="coerce").isna() & (cells != "nan")
        row = int(np.argmax(words.to_numpy()))
        raise ValueError(
            f'row {row + 1} has {cells.name} "{shortened(cells.iloc[row])}", no number'
        ) from None


def _check_values(table: pd.DataFrame) -> None:
    """Refuse the first value that no run has."""
    for name in (column for column in COLUMNS if column in table):
        values = table[name].to_numpy()
        minimum = np.finfo(np.float64).tiny if name in POSITIVE else -np.inf if name == "margin" else 0.0
        wrong = ~((np.isfinite(values) & (values >= minimum)) | (np.isnan(values) & (name in _MISSING)))
        if name == "starved":
            wrong |= (values != 0) & (values != 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"row {row + 1} has {name} {values[row]:g}, which no run has")


def table_of(rows: Sequence[dict[str, float]]) -> pd.DataFrame:
    """Table of runs, with integer columns as integers."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(np.float64)  # of no rows, they are objects
    return table.astype(dict.fromkeys(_INTEGERS, np.int64))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
