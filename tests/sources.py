"""The sources of the packages as trees, for tests of the code itself."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file, parsed once; nobody changes it."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def files_of(package: str) -> tuple[Path, ...]:
    """All sources of a package, in the order of their paths."""
    return tuple(sorted((ROOT / package).rglob("*.py")))


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file."""
    return tuple(ast.walk(tree_of(file)))
