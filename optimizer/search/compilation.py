"""The compiled loops made ready before a search, so that its time is not spent on them.

numba compiles a loop when it is first called, for half a minute in all, and keeps the machine code on disk;
later processes load it in a moment.
"""

from __future__ import annotations

import threading

import numpy as np

import twin
from optimizer.packing.warm_up import compile_kernels
from scenarios import Deadline, EngineConfig, FixedLengths, ServiceLevelObjectives, Stopped, Workload
from scenarios.stopping.interrupts import leave_behind
from scenarios.stopping.progress import Progress
from twin import EngineProfile, GPULoad

LOOK_S = 0.1
"""Seconds between two looks at the deadline."""

WORK = "compiling, once after installation"
"""What is being done, for progress."""


def compile_loops(profile: EngineProfile, deadline: Deadline, progress: Progress) -> None:
    """Compile the twin's loop and the placers', or load them from numba's cache.

    In a thread of its own, as compiling cannot be broken off: where the end comes first, it is left behind.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before they are ready.
    """
    ended, raised = threading.Event(), list[BaseException]()
    progress(WORK, 0, 2)

    def work() -> None:
        try:
            _compile_twin(profile)
            progress(WORK, 1, 2)
            compile_kernels()
            progress(WORK, 2, 2)
        except BaseException as error:  # whatever it is, it belongs to the caller
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not ended.wait(LOOK_S):
            deadline.check("the search was being compiled")
    except Stopped:
        leave_behind(thread)
        raise
    if raised:
        raise raised[0]


def _compile_twin(profile: EngineProfile) -> None:
    """Let the twin judge a GPU of one adapter, for a few requests."""
    load = GPULoad(
        names=("",),
        rank=np.array([8], dtype=np.int32),
        rate=np.array([1.0]),
        prompt=(FixedLengths(tokens=8),),
        output=(FixedLengths(tokens=2),),
    )
    workload = Workload(prompt=load.prompt[0], output=load.output[0], duration_s=5.0)
    twin.judge(
        load,
        workload,
        EngineConfig(),
        profile,
        max_loras=1,
        max_lora_rank=8,
        service_levels=ServiceLevelObjectives(),
        replications=1,
    )
