"""Imports run one way: scenarios ← twin ← learn ← optimizer; solvers stay in optimizer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.sources import ROOT, files_of, nodes_of

LAYERS = ("scenarios", "twin", "learn", "optimizer")
MOST_MODULES = 17
"""Modules of a folder that can be taken in at a glance."""

SOLVERS = {"ortools", "pulp", "highspy"}
FORBIDDEN = {
    "scenarios": {"twin", "learn", "optimizer", "sklearn", "numba", *SOLVERS},
    "twin": {"learn", "optimizer", "sklearn", *SOLVERS},
    "learn": {"optimizer", *SOLVERS},
}


def imported(file: Path, *, typing: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and top-level package of every import of a file, of what is for type checkers alone too."""
    skipped = frozenset() if typing else typing_only(file)
    for node in nodes_of(file):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield node.lineno, str(node.module).partition(".")[0]


@cache
def typing_only(file: Path) -> frozenset[ast.AST]:
    """Nodes of a file that type checkers alone see."""
    return frozenset(
        inner
        for node in nodes_of(file)
        if isinstance(node, ast.If)
        and "TYPE_CHECKING" in ast.unparse(node.test)
        and "not" not in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    )


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_run_one_way(layer: str) -> None:
    files = files_of(layer)
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {package}"
        for file in files
        for line, package in imported(file)
        if package in FORBIDDEN[layer]
    ]
    assert not wrong


@pytest.mark.slow
def test_only_folders_of_plots_draw() -> None:
    """Elsewhere matplotlib is for types alone; and nobody draws unless a picture is asked for."""
    drawing = {
        str(file.relative_to(ROOT))
        for layer in LAYERS
        for file in files_of(layer)
        if "matplotlib" in {package for _, package in imported(file, typing=False)}
    }
    assert drawing
    assert {Path(file).parent.name for file in drawing} == {"plots"}
    code = (
        "import sys, optimizer, learn; optimizer.Result, learn.Regions; sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_scenario_is_read_without_pandas() -> None:
    code = "import sys, scenarios; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_layer_is_a_package() -> None:
    assert all((ROOT / layer / "__init__.py").is_file() for layer in LAYERS)


def module_of(file: Path) -> str:
    """Dotted name of a source file."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path, modules: frozenset[str]) -> set[str]:
    """Modules of ours that a file needs when it runs, those imported within functions too."""
    skipped = typing_only(file)
    found: set[str] = set()
    for node in nodes_of(file):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & modules or {str(node.module)}
    return (found & modules) - {module_of(file)}


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {module_of(file): file for layer in LAYERS for file in files_of(layer)}
    modules = frozenset(files)
    graph = {module: imports_of(file, modules) for module, file in files.items()}
    faces = {module for module, file in files.items() if file.name == "__init__.py"}
    order = TopologicalSorter({m: needs - faces for m, needs in graph.items() if m not in faces})
    order.prepare()  # raises CycleError, which names the circle


def test_no_folder_is_wider_than_a_glance() -> None:
    wide = {
        str(folder.relative_to(ROOT)): len(names)
        for layer in LAYERS
        for folder in [ROOT / layer, *(p for p in (ROOT / layer).rglob("*") if p.is_dir())]
        if len(names := [p for p in folder.glob("*.py") if p.name != "__init__.py"]) > MOST_MODULES
    }
    assert not wide
