"""What every test leaves as it was, and what it does not spend its time on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing

import learn
from learn import SamplingPlan
from scenarios import Device, Scenario
from scenarios.stopping import interrupts
from twin import EngineProfile

FEW = SamplingPlan(compositions=60, round_size=30, width=1.08, spread=0)
"""How much is sampled where no regions are shipped and a test does not say how much."""


_COMPILE_ALL = """
from optimizer.search.compilation import ORDER, compile_loops
from scenarios import UNLIMITED
from twin import shipped_profiles
compile_loops(shipped_profiles()[0], ORDER, 2, UNLIMITED, lambda *_: None)
"""

_compiling: list[subprocess.Popen[bytes]] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to compile all loops while the workers of a whole run look for tests.

    Each of them would compile the same ones otherwise, for a minute.
    """
    if session.config.getoption("numprocesses", None) and "tests" in session.config.args:
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        _compiling.append(subprocess.Popen([sys.executable, "-P", "-c", _COMPILE_ALL], env=found))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished() -> None:
    """Let no worker begin before the loops are there."""
    for process in _compiling:
        process.wait()


@pytest.fixture(scope="session", autouse=True)
def _few_runs_in_a_cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Regions that are not shipped are learned of few runs, once, and the user's cache is left alone.

    The folder is that of all workers of a run, and of the processes that they start.
    """
    whole = learn.regions_for

    def with_few(scenario: Scenario, device: Device, profile: EngineProfile, **how: Any) -> learn.Regions:
        if how.get("plan") is None:
            asked = {name: how[name] for name in ("cache_dir", "params", "levels") if name in how}
            known = learn.known_regions(scenario, device, profile, **asked)
            if known is not None:
                return known
            how["plan"] = FEW
        return whole(scenario, device, profile, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAPACK_CACHE", str(cache_of_all(tmp_path_factory)))
        patch.setattr(learn, "regions_for", with_few)
        yield


def cache_of_all(folders: pytest.TempPathFactory) -> Path:
    """A folder for the cache that the workers of a run share: beside theirs."""
    own = folders.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "lorapack"


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once() -> Iterator[None]:
    """A tenth of a second for each run of the command, which a process of its own pays once."""
    once = cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", once)
        patch.setattr(typer.testing, "_get_command", once)
        yield


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command takes signals over for good, and ignores them at its end; a test runner goes on."""
    monkeypatch.setattr(interrupts, "_notice", interrupts._Notice())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
