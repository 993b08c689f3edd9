"""Adapters in memory against two plain lists in order of use, touched adapter by adapter as vLLM does."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from types import ModuleType

import numpy as np
import pytest

from twin import Requests
from twin.engine.compiled.slots import enter, leave, load_pending
from twin.engine.state import engine_constants, initial_state


class Memory:
    """Least recently used lists of GPU slots and CPU memory."""

    def __init__(self, turn: list[int], slots: int, cpu: int, warm: int) -> None:
        self.order = sorted(range(len(turn)), key=turn.__getitem__)
        self.max_slots, self.max_cpu = slots, cpu
        self.slots: list[int] = []
        self.cpu = list(range(warm))
        self.gpu_loads, self.disk_loads = [0] * len(turn), [0] * len(turn)

    def step(self, batch: set[int]) -> None:
        for adapter in (a for a in self.order if a in batch):
            if adapter in self.cpu:
                self.cpu.remove(adapter)
            else:
                self.disk_loads[adapter] += 1
                if len(self.cpu) == self.max_cpu:
                    gone = next(a for a in self.cpu if a not in batch)
                    self.cpu.remove(gone)
                    self.slots = [a for a in self.slots if a != gone]
            self.cpu.append(adapter)
            if adapter in self.slots:
                self.slots.remove(adapter)
            else:
                self.gpu_loads[adapter] += 1
                if len(self.slots) == self.max_slots:
                    self.slots.pop(0)
            self.slots.append(adapter)


@pytest.mark.parametrize("seed", range(16))
def test_slots_hold_what_two_lists_in_order_of_use_hold(cases: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = int(rng.integers(4, 30))
    slots = int(rng.integers(1, min(m, 9)))
    ones = np.ones(1, dtype=np.int32)
    requests = Requests(np.zeros(1), ones, ones, np.zeros(1, dtype=np.int32), m)
    setup = replace(
        cases.engine(rng, requests),
        max_loras=slots,
        max_cpu_loras=int(rng.integers(slots, m + 1)),
        gpu_load_s=rng.uniform(0.001, 0.01, m),
        disk_load_s=rng.uniform(0.05, 0.1, m),
        cold=bool(seed % 2),
    )
    engine, state = engine_constants(requests, setup, inf, 0.0, inf), initial_state(requests, setup, 1)
    warm = 0 if setup.cold else min(m, setup.max_cpu_loras)
    model = Memory(state.adapter["turn"].tolist(), slots, setup.max_cpu_loras, warm)
    batch: list[int] = []  # adapters of the running requests, one entry a request
    busy = 0
    for _ in range(300):
        state.now["steps"] += 1
        if batch and rng.random() < 0.2:  # preempted: nobody is admitted in such a step
            leave(state, batch.pop(), 0)
        else:
            for adapter in rng.integers(0, m, int(rng.integers(0, 4))).tolist():
                if adapter in batch or len(set(batch)) < slots:
                    batch.append(adapter)
                    enter(state, adapter)
        gpu, disk = list(model.gpu_loads), list(model.disk_loads)
        seconds = load_pending(engine, state, state.series[0])
        model.step(set(batch))
        expected = np.subtract(model.gpu_loads, gpu) @ setup.gpu_load_s
        expected += np.subtract(model.disk_loads, disk) @ setup.disk_load_s
        assert seconds == pytest.approx(expected)
        assert np.flatnonzero(state.adapter["in_slot"]).tolist() == sorted(model.slots)
        assert np.flatnonzero(state.adapter["in_cpu"]).tolist() == sorted(model.cpu)
        busy += len(set(batch)) == slots
        for k in reversed(np.flatnonzero(rng.random(len(batch)) < 0.1).tolist()):  # done with the step
            leave(state, batch.pop(k), 1)
    assert state.adapter["gpu_loads"].tolist() == model.gpu_loads
    assert state.adapter["disk_loads"].tolist() == model.disk_loads
    assert state.series["gpu_loads"][0] == sum(model.gpu_loads) > slots
    assert busy > 0
