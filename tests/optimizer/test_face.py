"""What the package shows, and how little it costs to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import optimizer

ROOT = Path(optimizer.__file__).parent.parent

HEAVY = {"numba", "pandas", "sklearn", "scipy", "ortools", "pulp", "highspy", "matplotlib"}


def python(*arguments: str) -> str:
    """Standard output of a Python that sees a copy of the packages, installed or not."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


@pytest.mark.parametrize("module", ["optimizer", "optimizer.cli.commands"])
def test_importing_the_package_or_its_commands_imports_nothing_heavy(module: str) -> None:
    loaded = python("-c", f"import sys, {module}; print(*sys.modules)").split()
    assert HEAVY.isdisjoint(loaded)
    assert "optimizer.search.solve" not in loaded


def test_every_name_is_there_when_it_is_asked_for() -> None:
    assert dir(optimizer) == sorted(optimizer.__all__)
    assert all(getattr(optimizer, name) is not None for name in optimizer.__all__)
    assert callable(optimizer.compare)  # no module hides it
    with pytest.raises(AttributeError, match="nothing"):
        _ = optimizer.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [("-c", "from optimizer.cli import main; main()"), ("-m", "optimizer")])
def test_the_command_tells_its_version(command: tuple[str, str]) -> None:
    assert python(*command, "--version") == f"lorapack {optimizer.__version__}\n"
