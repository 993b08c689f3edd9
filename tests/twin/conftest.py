"""Fixtures of the twin's tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from optimizer.cli import main

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """Import a helper that lies beside the tests."""
    spec = importlib.util.spec_from_file_location(f"twin_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow scheduler in plain Python."""
    return load("reference")


@pytest.fixture(scope="session")
def recorded() -> ModuleType:
    """Recorded schedules, and what it takes to play them."""
    return load("recorded")


@pytest.fixture(scope="session")
def cases() -> ModuleType:
    """Random engines and workloads."""
    return load("engine_cases")


@pytest.fixture(scope="session")
def measured_tables() -> ModuleType:
    """Measurement tables made by engines of known cost."""
    return load("measured_tables")


@pytest.fixture(scope="session")
def small_engine() -> ModuleType:
    """A small model on a small machine, and measurements of it."""
    return load("small_engine")


@pytest.fixture(scope="session")
def speculating() -> ModuleType:
    """An engine that speculates token by token."""
    return load("speculating")


Lorapack = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lorapack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lorapack:
    """Runs the command; its exit code, what it printed, and what it said on stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lorapack", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(str(stop.value.code or 0)), captured.out, captured.err

    return run
