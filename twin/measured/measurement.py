"""A folder of measurements: where its tables lie, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from scenarios import EngineConfig, FrozenModel, Problem, ScenarioError, params_from
from scenarios.base import MOST_GIB
from scenarios.reading import overrides as changes
from scenarios.reading.findings import Finding
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import parse
from twin.engine.rules import rules_of
from twin.measured.tables import Text

DESCRIPTION = "measurement.yaml"

ENDINGS = (".csv", ".csv.gz")
"""Endings of tables, of which the first is taken where both are there."""


class Measurement(FrozenModel):
    """What all measurements of a folder have in common; the file ``measurement.yaml``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    device: Text
    """Kind of GPU, as scenarios name it."""
    gpu_memory_gib: Annotated[float, Field(gt=0, le=MOST_GIB)]
    """Memory of the GPU as the engine sees it, in GiB."""
    engine_version: Text
    """Version of vLLM."""
    engine: EngineConfig
    """Configuration of the measured engines, as in a scenario; ``max_model_len`` may exceed a model's own."""
    source: Text
    """Where the measurements are from, for the profile's provenance."""
    metrics_pause_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds from the end of one reading of the server's metrics to the next; needed to fit its stalls."""

    def findings(self) -> Iterator[Finding]:
        """Yield a version of which no rules are known."""
        try:
            rules_of(self.engine_version)
        except ValueError:
            yield Finding(("engine_version",), f'is "{self.engine_version}"', "write it like 0.8.5")


def read_measurement(folder: Path, overrides: Iterable[str] = ()) -> Measurement:
    """Read the description of a folder's measurements.

    Parameters
    ----------
    folder
        Folder, whose ``measurement.yaml`` may be absent if the overrides say everything.
    overrides
        Values to change or to add, ``path=value`` each: ``engine.max_num_seqs=512``.

    Raises
    ------
    ScenarioError
        With everything that is missing or wrong.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        remedy = f"name a folder with {DESCRIPTION} and tables, as in docs/calibration.md"
        raise ScenarioError([Problem("the folder", what, remedy)], str(folder))
    path = folder / DESCRIPTION
    source = str(path)
    root = parse(text_of(path, source), source) if path.exists() else {}
    values = changes.apply(root, overrides, source)
    return params_from(values, Measurement, source)  # type: ignore[arg-type]


def files_of(source: str | Path) -> list[Path]:
    """The files behind a table or a folder of measurements, which no output may replace."""
    path = Path(source)
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def table_file(folder: Path, name: str) -> Path | None:
    """The file of a folder's table; None where there is none."""
    return next((file for ending in ENDINGS if (file := folder / (name + ending)).exists()), None)
