"""Machine code on disk depends on every file that it is made of."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import optimizer.packing.model.compilation
import twin.engine.compilation
from tests.sources import nodes_of

DECORATORS = {"compiled", "cached", "kept", "njit"}


@cache
def names_in_compiled_code(file: Path) -> frozenset[str]:
    """Names that the bodies of compiled functions use."""
    used = set[str]()
    if not any(f"@{name}" in file.read_text(encoding="utf-8") for name in DECORATORS):
        return frozenset()  # no need to parse it
    for function in (node for node in nodes_of(file) if isinstance(node, ast.FunctionDef)):
        decorators = {n.id for d in function.decorator_list for n in ast.walk(d) if isinstance(n, ast.Name)}
        if decorators & DECORATORS:
            used |= {n.id for part in function.body for n in ast.walk(part) if isinstance(n, ast.Name)}
            used.add(function.name)
    return frozenset(used)


def files_of_compiled_code(folder: Path, package: str) -> set[str]:
    """Files of a package with compiled functions, and with what these take from other files of it."""
    found = set()
    for path in folder.rglob("*.py"):
        used = names_in_compiled_code(path)
        if used:
            found.add(path.relative_to(folder).with_suffix("").as_posix())
        for node in (n for n in (nodes_of(path) if used else ()) if isinstance(n, ast.ImportFrom)):
            module = node.module or ""
            if module.startswith(f"{package}.") and used & {a.asname or a.name for a in node.names}:
                found.add(module.removeprefix(f"{package}.").replace(".", "/"))
    return found


@pytest.mark.parametrize(
    ("module", "package"),
    [(twin.engine.compilation, twin), (optimizer.packing.model.compilation, optimizer.packing)],
    ids=lambda m: m.__name__,
)
def test_the_sources_are_the_files_whose_code_is_compiled(module: object, package: ModuleType) -> None:
    folder = Path(str(package.__file__)).parent
    found = files_of_compiled_code(folder, package.__name__)
    assert len(found) > 3
    assert found <= set(module.SOURCES)  # type: ignore[attr-defined]
    assert all((folder / f"{name}.py").is_file() for name in module.SOURCES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", ["scenarios", "twin", "learn", "optimizer"])
def test_nothing_is_compiled_in_another_way(package: str) -> None:
    """numba's own cache knows one file only."""
    root = Path(twin.__file__).parent.parent / package
    using = {p.name for p in root.rglob("*.py") if "njit" in p.read_text(encoding="utf-8")}
    assert using == ({"compilation.py"} if package == "twin" else set())
    decorated = {p.parent for p in root.rglob("*.py") if names_in_compiled_code(p)}
    rooms = ("engine/compiled", "measured", "packing/branch_and_price", "packing/heuristics", "packing/model")
    assert decorated <= {root / room for room in rooms}
