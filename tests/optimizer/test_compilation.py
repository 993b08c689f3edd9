"""Loops are compiled before a search: those that the method needs, in several processes, and only once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import scenarios
import twin
from optimizer.packing.registry import METHODS
from optimizer.packing.warm_up import KERNEL_GROUPS
from optimizer.search import compilation
from optimizer.search.compilation import AHEAD, LABEL, SPECIAL, TWIN, call_group, compile_loops, twin_loops
from scenarios.stopping.deadline import UNLIMITED, Deadline, Stopped
from twin import shipped_profiles
from twin.engine.compiled.loop import advance_ahead, advance_special
from twin.engine.rules import rules_of
from twin.parallel import WorkersLostError

ROOT = Path(twin.__file__).parents[1]
EVERYTHING = tuple(KERNEL_GROUPS)

COLD = """
import scenarios, twin
from optimizer.search.compilation import compile_loops
from scenarios.stopping.deadline import UNLIMITED
from twin.engine.compiled.loop import advance

if __name__ == "__main__":
    (profile,) = twin.profiles_of(scenarios.read("mixed_ranks")).values()
    told = []
    compile_loops(profile, ("cuts",), 2, UNLIMITED, lambda label, done, total: told.append((done, total)))
    print(told, sum(advance.stats.cache_hits.values()), sum(advance.stats.cache_misses.values()))
"""
"""Compiles the twin's loops and the cuts'; prints the progress told, and where the twin's code came from."""

FEWEST = """
import sys
import optimizer, scenarios
from optimizer.packing.warm_up import KERNEL_GROUPS
from optimizer.search import solve

scenario, method, *groups = sys.argv[1:]
kernels = {k: name for name, group in KERNEL_GROUPS.items() for k in group.kernels}
before = {}

compile_loops = solve.compile_loops
def compiled(*arguments):
    compile_loops(*arguments)
    before.update({k: len(k.signatures) for k in kernels})
solve.compile_loops = compiled
quick = ["acceptance=paper", "replications=1"]
result = optimizer.solve(scenarios.read(scenario, quick), method=method, time_limit_s=5)
assert result.status != "infeasible", result.message
print(sorted({name for k, name in kernels.items() if k.signatures}))
print(sorted(k.py_func.__name__ for k in kernels if len(k.signatures) > before[k]))
"""
"""Solves; prints the groups of which something is compiled, and what was compiled in the search itself."""

SCENARIO = "paper_high_32"
"""Takes `exact` six rounds to the fewest GPUs, and cuts."""


def output_of(script: str, *arguments: str, **environment: str) -> list[str]:
    """Lines that a script prints in a process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def profile() -> twin.EngineProfile:
    (found,) = twin.profiles_of(scenarios.read("mixed_ranks")).values()
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Groups that this process calls; none is on disk."""
    called: list[str] = []
    monkeypatch.setattr(compilation, "call_group", lambda group, _: called.append(group))
    monkeypatch.setattr(compilation, "_is_on_disk", lambda _: False)
    return called


@pytest.mark.slow
def test_two_processes_fill_the_cache_and_the_next_command_tells_nothing(tmp_path: Path) -> None:
    lines = [output_of(COLD, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert lines == [["[(0, 2), (1, 2), (2, 2)] 1 0"], ["[] 1 0"]]


def test_one_worker_compiles_in_this_process(calls: list[str], profile: twin.EngineProfile) -> None:
    told: list[Any] = []
    compile_loops(profile, ("heuristics", "cuts"), 1, UNLIMITED, lambda *step: told.append(step))
    assert calls == ["heuristics", TWIN, "cuts"]
    assert told == [(LABEL, done, 3) for done in range(4)]


def test_without_a_place_for_the_code_no_process_is_started(
    calls: list[str], profile: twin.EngineProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "is_kept", lambda _: False)
    monkeypatch.setattr(compilation, "in_processes", lambda *_, **__: pytest.fail("a process was started"))
    told: list[Any] = []
    compile_loops(profile, EVERYTHING, 4, UNLIMITED, lambda *step: told.append(step))
    assert sorted(calls) == sorted([TWIN, *EVERYTHING])
    assert [done for _, done, _ in told] == list(range(len(calls) + 1))


def test_what_an_ended_process_leaves_is_compiled_in_this_one(
    calls: list[str], profile: twin.EngineProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> Any:
        yield None
        raise WorkersLostError

    monkeypatch.setattr(compilation, "in_processes", ended)
    compile_loops(profile, EVERYTHING, 2, UNLIMITED, lambda *_: None)
    assert sorted(calls) == sorted([TWIN, *EVERYTHING])


@pytest.mark.usefixtures("calls")
def test_a_deadline_ends_compiling_in_processes(profile: twin.EngineProfile) -> None:
    with pytest.raises(Stopped, match="while the search was being compiled"):
        compile_loops(profile, EVERYTHING, 2, Deadline.after(0), lambda *_: None)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["greedy", "ffd", "bfd", "local", "cpsat", "patterns", "exact"])
def test_a_method_compiles_its_groups_and_nothing_in_the_search(method: str) -> None:
    compiled, late = output_of(FEWEST, SCENARIO, method)
    assert compiled == str(sorted(METHODS[method].kernels))
    assert late == "[]"


@pytest.mark.slow
def test_a_baseline_needs_the_twin_only() -> None:
    compiled, _ = output_of(FEWEST, SCENARIO, "random")
    assert compiled == "[]"


def test_a_scenario_tells_which_of_the_twins_loops_it_needs() -> None:
    profile = shipped_profiles()[0]
    newer = profile.model_copy(update={"rules": rules_of("0.20.0")})
    plain, base = scenarios.read("mixed_ranks"), scenarios.read("base_model_traffic")
    assert twin_loops(plain, {"": profile}) == ()
    assert twin_loops(base, {"": profile}) == (SPECIAL,)
    assert twin_loops(scenarios.read("public_trace"), {"": profile}) == (SPECIAL,)
    caching = scenarios.override(plain, "engine.enable_prefix_caching=true")
    assert twin_loops(caching, {"": profile}) == (SPECIAL,)
    assert twin_loops(scenarios.read("mixed_traffic"), {"": profile}) == ()
    assert twin_loops(scenarios.read("closed_loop_users"), {"": profile}) == (SPECIAL,)
    assert twin_loops(plain, {"": newer}) == (SPECIAL, AHEAD)
    assert twin_loops(scenarios.override(plain, "engine.async_scheduling=false"), {"": newer}) == (SPECIAL,)


@pytest.mark.slow
def test_loops_for_what_few_have_are_called_by_their_groups() -> None:
    for group, loop in ((SPECIAL, advance_special), (AHEAD, advance_ahead)):
        call_group(group, shipped_profiles()[0])
        assert len(loop.signatures) == 1  # type: ignore[attr-defined]
