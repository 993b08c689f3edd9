"""The tutorial runs, and what is kept is of such a run; python tests/test_docs_tutorial.py keeps it anew."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
MOST_BYTES = 450_000
"""What the notebook may weigh with its pictures, which the site and GitHub show."""


def executed() -> Any:
    """The tutorial after its run."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
        ).execute()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # instants, which differ from run to run
    return notebook


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell shows, by kind."""
    return [
        [
            kind
            for output in cell.get("outputs", ())
            for kind in sorted(output.get("data", {output.output_type: ""}))
        ]
        for cell in notebook.cells
    ]


def shown(notebook: Any) -> list[str]:
    """Texts that are the same in every run: those without seconds."""
    texts = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/plain" in output.get("data", {})
    ]
    return [text for text in texts if "search" not in text and "Figure" not in text]


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_what_is_kept_of_it() -> None:
    kept, now = nbformat.read(TUTORIAL, as_version=4), executed()
    assert kinds(now) == kinds(kept), "run python tests/test_docs_tutorial.py"
    assert sum("image/png" in of_cell for of_cell in kinds(now)) >= 6
    assert shown(now) == shown(kept), "run python tests/test_docs_tutorial.py"


def test_the_tutorial_is_light_and_was_run_without_a_fault() -> None:
    assert TUTORIAL.stat().st_size < MOST_BYTES
    cells = [cell for cell in nbformat.read(TUTORIAL, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [one for one in outputs if one.output_type == "error" or one.get("name") == "stderr"]
    lines = [len(cell.source.splitlines()) for cell in cells]
    assert max(lines) <= 16, "what a cell needs belongs in the packages"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    nbformat.write(executed(), TUTORIAL)
