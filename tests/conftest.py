"""What every test leaves as it was, and what it does not spend its time on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
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
from twin.engine.compilation import _CodeCache

FEW = SamplingPlan(compositions=60, round_size=30, width=1.08, spread=0)
"""How much is sampled where no regions are shipped and a test does not say how much."""


_COMPILE = """
from optimizer.search.compilation import ORDER, call_group
from twin import shipped_profiles
for group in sorted(ORDER, key=lambda name: not name.startswith("twin")):
    call_group(group, shipped_profiles()[0])
"""
FEW_FILES = 9
"""Files and folders of tests for which the loops are not compiled beforehand."""

_COMPILING = "LORAPACK_TESTS_COMPILING"
"""The variable that names a file which is there as long as loops are compiled for all workers."""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to compile all loops for the workers of a long run: each would compile the same ones."""
    files = session.config.args
    if not session.config.getoption("numprocesses", None) or not ("tests" in files or len(files) > FEW_FILES):
        return
    marker, os.environ[_COMPILING] = tempfile.mkstemp()
    os.close(marker)
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen([sys.executable, "-P", "-c", _COMPILE], env={**os.environ, "PYTHONPATH": path})

    def forget() -> None:
        process.wait()
        Path(os.environ[_COMPILING]).unlink()

    threading.Thread(target=forget, daemon=True).start()


def is_of_a_group(cache: _CodeCache) -> bool:
    """Whether it is the code of a loop that is compiled beforehand."""
    from optimizer.search.compilation import ORDER, _kernels

    return any(kernel._cache is cache for group in ORDER for kernel in _kernels(group))


@pytest.fixture(scope="session", autouse=True)
def _loops_are_compiled_once() -> Iterator[None]:
    """What another process is compiling is waited for, and so is the answer whether it is there."""
    marker = Path(os.environ.get(_COMPILING, "/nowhere"))

    def waiting(look: Callable[..., Any]) -> Callable[..., Any]:
        def wait_and_look(cache: _CodeCache, *asked: Any) -> Any:
            while not (found := look(cache, *asked)) and marker.exists() and is_of_a_group(cache):
                time.sleep(0.1)
            return found

        return wait_and_look

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_overload", "holds"):
            patch.setattr(_CodeCache, name, waiting(getattr(_CodeCache, name)))
        yield


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test tables as wide, wherever it runs, and the signals that the one before found.

    The command takes signals over for good, and ignores them at its end; a test runner goes on. A hook, as
    fixtures of ten thousand tests take ten seconds.
    """
    os.environ["COLUMNS"] = "100"
    interrupts._notice = interrupts._Notice()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ended = yield
    for number, handler in before.items():
        signal.signal(number, handler)
    return ended
