"""The benchmark of the paper's workloads: it goes on where it stopped, and says what its rows hold."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scenarios

SETS = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "paper_sets.py")))
WORKLOAD, cells, known_rows, measured = SETS.WORKLOAD, SETS.cells, SETS.known_rows, SETS.measured
paper_scenario, parse, summary = SETS.paper_scenario, SETS.parse, SETS.summary
Row = dict[str, Any]

GPUS = {"greedy": 5, "bfd": 3, "exact": 2}


def given(file: Path | None, *more: str) -> argparse.Namespace:
    out = () if file is None else ("--out", str(file))
    sets = (
        "--acceptance",
        "paper",
        "--models",
        "llama",
        "--sets",
        "high,low",
        "--counts",
        "32",
        "--methods",
        "greedy,bfd,exact",
    )
    return parse([*sets, *out, *more])


def solved(cell: Row) -> Row:
    """A row with made-up figures; the greedy has no plan on the low set."""
    gpus = None if (cell["method"], cell["set"]) == ("greedy", "low") else GPUS[cell["method"]]
    return cell | {
        "gpus": gpus, "bound": 2.0 if cell["method"] == "exact" else None, "gap": None,
        "accepted": None if gpus is None else True, "ttft_p50_ms": 100.0, "ttft_p99_ms": 1500.0,
        "seconds": 1.0, "cpu_seconds": 1.0, "message": "one, two",
        "status": "optimal" if cell["method"] == "exact" else "feasible",
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path, ending: str) -> None:
    file, asked = tmp_path / f"rows.{ending}", list[tuple[str, str]]()

    def measure(cell: Row, _workers: int) -> Row | None:
        asked.append((cell["set"], cell["method"]))
        return None if len(asked) == 5 else solved(cell)

    first = measured(given(file), measure)
    assert len(first) == len(known_rows(file)) == 4
    whole = measured(given(file), measure)
    assert len(asked) == 5 + 2  # what was interrupted is done again, and nothing else
    assert asked[4] == asked[5]
    assert [(row["set"], row["method"]) for row in whole] == [
        (cell["set"], cell["method"]) for cell in cells(given(file))
    ]
    assert [row["gpus"] for row in whole] == [5, 3, 2, None, 3, 2]
    assert measured(given(file), measure) == whole
    assert len(asked) == 7
    measured(given(file, "--time-limit", "7"), measure)
    assert len(asked) == 7 + 6  # rows of another limit are others


def test_the_summary_says_what_holds_of_exact() -> None:
    rows = [solved(cell) for cell in cells(given(None))]
    text = " ".join(summary(rows, ["greedy", "bfd", "exact"]).split())
    assert "greedy: 5 GPUs in sum on 1 of 1 high workloads, exact 2: 60.0% fewer" in text
    assert "exact needs more than an accepted plan of another method: never" in text
    assert "exact: 2 of 2 plans accepted by the twin, 2 meet the bound" in text
    worse = [row | {"gpus": 4, "accepted": False} if row["method"] == "exact" else row for row in rows]
    text = " ".join(summary(worse, ["greedy", "bfd", "exact"]).split())
    assert "another method: llama high 32: 4 ! against 3 of bfd; llama low 32: 4 ! against 3 of bfd" in text
    assert "exact: 0 of 2 plans accepted" in text


def test_every_workload_of_the_paper_is_a_scenario() -> None:
    workloads = {tuple(cell[key] for key in WORKLOAD) for cell in cells(parse([]))}
    assert len(workloads) == 36 * len(parse([]).acceptance)
    for workload in workloads:
        scenario = paper_scenario(*workload, 1)
        assert isinstance(scenario, scenarios.Scenario)
        assert scenario.n_adapters == workload[3]
