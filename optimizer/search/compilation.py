"""The compiled loops made ready before a search, so that its time is not spent on them.

numba compiles a loop when it is first called, for some twenty seconds in all, and keeps the machine code on
disk; later processes load it in a moment. What is not on disk yet is compiled by several processes at once,
each of them a group of loops, and then loaded by this one.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from joblib import delayed, parallel_config

import twin
from optimizer.packing.warm_up import KERNEL_GROUPS, compile_kernels
from scenarios import (
    Arrivals,
    ClosedLoopArrivals,
    Deadline,
    EngineConfig,
    FixedLengths,
    RecordedArrivals,
    Scenario,
    ServiceLevelObjectives,
    Stopped,
    Workload,
)
from scenarios.stopping.interrupts import leave_behind
from scenarios.stopping.progress import Progress
from twin import Effort, EngineProfile, GPULoad
from twin.engine.compilation import is_kept, is_on_disk
from twin.engine.compiled.bulk_copy import order_instants, read_requests, write_requests
from twin.engine.compiled.loop import advance, advance_ahead, advance_special
from twin.parallel import WorkersLostError, in_processes

LOOK_S = 0.1
"""Seconds between two looks at the deadline."""

LABEL = "compiling, once after installation"
"""What is being done, for progress."""

PURPOSE = "the search was being compiled"
"""The same, for the message of a search that ends meanwhile."""

TWIN, SPECIAL, AHEAD = "twin", "twin, for what few scenarios have", "twin, for steps that are scheduled ahead"
"""Names of the groups of the twin's loops."""

ORDER = ("heuristics", TWIN, SPECIAL, AHEAD, "branch and price", "items", "cuts")
"""Groups in the order of compiling. Of two processes one then does the twin and the cuts, and the other the
rest, which has much in common."""


def twin_loops(scenario: Scenario, profiles: Mapping[str, EngineProfile]) -> tuple[str, ...]:
    """Groups of the twin's loops that a scenario needs beside that of all."""
    rules, engine = [profile.rules for profile in profiles.values()], scenario.engine
    ahead = any(one.is_async(engine.async_scheduling) for one in rules)
    special = (
        bool(engine.enable_prefix_caching)
        or bool(scenario.base_names)
        or any(entry.reuse is not None for entry in scenario.adapters)
        or any(_may_be_special(one) for one in _arrivals(scenario))
        or any(one.passed_over != "kept" for one in rules)
    )
    return ((SPECIAL,) if special else ()) + ((AHEAD,) if ahead else ())


def _arrivals(scenario: Scenario) -> Iterator[Arrivals]:
    """The processes of a scenario."""
    yield scenario.workload.arrivals
    yield from (entry.arrivals for entry in scenario.adapters if entry.arrivals is not None)


def _may_be_special(arrivals: Arrivals) -> bool:
    """Whether requests of a process may follow others, or tell what prompts have in common."""
    recorded = isinstance(arrivals, RecordedArrivals) and arrivals.lengths
    return recorded or isinstance(arrivals, ClosedLoopArrivals)


def compile_loops(
    profile: EngineProfile, kernels: Iterable[str], workers: int, deadline: Deadline, progress: Progress
) -> None:
    """Compile the twin's loops and some of the placers', or load them from numba's cache.

    Parameters
    ----------
    profile
        Any engine profile.
    kernels
        Groups of the placers' loops (`optimizer.packing.warm_up`), and of the twin's (`twin_loops`).
    workers
        Most processes.
    deadline
        When to stop.
    progress
        Told of every group that was not on disk.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before they are ready.
    """
    groups = [name for name in ORDER if name == TWIN or name in kernels]
    missing = [name for name in groups if not _is_on_disk(name)]
    if missing:
        progress(LABEL, 0, len(missing))
    if min(workers, len(missing)) > 1 and is_kept(advance):
        _compile_at_once(missing, profile, workers, deadline, progress)
        missing = []
    _call_in_thread(groups, missing, profile, deadline, progress)


def _kernels(group: str) -> tuple[object, ...]:
    if group == TWIN:
        return advance, write_requests, read_requests, order_instants
    if group in (SPECIAL, AHEAD):
        return (advance_special if group == SPECIAL else advance_ahead,)
    return KERNEL_GROUPS[group].kernels


def _is_on_disk(group: str) -> bool:
    return all(is_on_disk(kernel) for kernel in _kernels(group))


def _compile_at_once(
    groups: Sequence[str], profile: EngineProfile, workers: int, deadline: Deadline, progress: Progress
) -> None:
    """Fill numba's cache, a process for each group as far as there are so many."""
    jobs, number = [delayed(call_group)(name, profile) for name in groups], min(workers, len(groups))
    # It is the disk of this machine that is to be filled. What processes that are killed leave undone is
    # compiled by this one.
    with parallel_config(backend="loky"), suppress(WorkersLostError):
        for done, _ in enumerate(in_processes(jobs, number, deadline=deadline, work=PURPOSE), 1):
            progress(LABEL, done, len(groups))


def _call_in_thread(
    groups: Sequence[str],
    missing: Sequence[str],
    profile: EngineProfile,
    deadline: Deadline,
    progress: Progress,
) -> None:
    """Call the loops of groups, some of which are missing on disk.

    In a thread of its own, as compiling cannot be broken off: where the end comes first, it is left behind.
    """
    ended, raised = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            for name in groups:
                call_group(name, profile)
                if name in missing:
                    progress(LABEL, missing.index(name) + 1, len(missing))
        except BaseException as error:  # whatever it is, it belongs to the caller
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not ended.wait(LOOK_S):
            deadline.check(PURPOSE)
    except Stopped:
        leave_behind(thread)
        raise
    if raised:
        raise raised[0]


def call_group(group: str, profile: EngineProfile) -> None:
    """Call all loops of a group, so that they are compiled or loaded."""
    with _no_garbage_collection():
        if group in (TWIN, SPECIAL, AHEAD):
            _call_twin(profile, group)
        else:
            compile_kernels([group])


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A sixth of the time that numba takes is looking through millions of objects that all stay."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _call_twin(profile: EngineProfile, group: str) -> None:
    """Let the twin judge a GPU of one adapter, or of the base model, for a few requests."""
    load = GPULoad(
        names=("",),
        rank=np.array([0 if group == SPECIAL else 8], dtype=np.int32),
        rate=np.array([1.0]),
        prompt=(FixedLengths(tokens=8),),
        output=(FixedLengths(tokens=2),),
    )
    twin.judge(
        load,
        Workload(prompt=load.prompt[0], output=load.output[0]),
        EngineConfig(async_scheduling=group == AHEAD),
        profile,
        max_loras=1,
        max_lora_rank=8,
        service_levels=ServiceLevelObjectives(),
        replications=1,
        effort=Effort(settle_s=1.0, measure_s=4.0, requests=1),
    )
