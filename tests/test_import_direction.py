"""Imports run one way: scenarios ← twin ← learn ← optimizer; solvers stay in optimizer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("scenarios", "twin", "learn", "optimizer")
SOLVERS = {"ortools", "pulp", "highspy"}
PLOTTING = {"matplotlib"}
FORBIDDEN = {
    "scenarios": {"twin", "learn", "optimizer", "sklearn", "numba", "pandas", *SOLVERS, *PLOTTING},
    "twin": {"learn", "optimizer", "sklearn", *SOLVERS, *PLOTTING},
    "learn": {"optimizer", *SOLVERS, *PLOTTING},
}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and top-level package of every import of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield node.lineno, str(node.module).partition(".")[0]


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_run_one_way(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {package}"
        for file in files
        for line, package in imported(file)
        if package in FORBIDDEN[layer]
    ]
    assert not wrong


def test_every_layer_is_a_package() -> None:
    assert all((ROOT / layer / "__init__.py").is_file() for layer in LAYERS)
