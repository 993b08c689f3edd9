"""What people name when they have measured: tables of runs, and results of ``vllm bench serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scenarios import Problem, ScenarioError
from scenarios.reading.yaml_reader import FILE
from twin.measured.bench_runs import BenchEngine, bench_runs
from twin.measured.run_tables import measured_runs, read_runs
from twin.measured.runs import MeasuredRun

RESULTS = (".json", ".jsonl")
"""Endings of results."""


def is_table(path: str | Path) -> bool:
    """Whether a file is a table of runs, or a folder with one, rather than a result of ``vllm bench serve``.

    By its ending; where that says nothing, JSON begins with a bracket.
    """
    file = Path(path)
    if file.is_dir():
        return True
    if ".csv" in file.suffixes or file.suffix in RESULTS:
        return ".csv" in file.suffixes
    try:
        return not (file.is_file() and file.read_bytes().lstrip()[:1] in (b"{", b"["))
    except OSError:
        return True  # whose reader says why it cannot be read


def read_sources(
    files: Sequence[str | Path], model: str | None = None, engine: BenchEngine | None = None
) -> list[MeasuredRun]:
    """Runs of tables and of results of ``vllm bench serve``, in the order of the files.

    Parameters
    ----------
    files
        Tables, CSV, with the columns of `twin.measured.runs.MeasuredRun`, and folders with one; other files
        are results, JSON.
    model
        Base model whose rows of the tables count; absent: all.
    engine
        What the results do not say.

    Raises
    ------
    ScenarioError
        If a file is neither, if a table has no row of the model, or if something is missing that the results
        do not say.
    """
    results = [file for file in files if not is_table(file)]
    runs: list[MeasuredRun] = [*bench_runs(results, engine or BenchEngine())] if results else []
    for file in filter(is_table, files):
        rows = measured_runs(read_runs(file), file)
        chosen = [run for run in rows if model is None or run.model == model]
        if not chosen:
            known = ", ".join(sorted({run.model for run in rows})) or "none"
            what = f'has no run of model "{model}"'
            raise ScenarioError([Problem(FILE, what, f"its models are {known}")], str(file))
        runs += chosen
    return runs
