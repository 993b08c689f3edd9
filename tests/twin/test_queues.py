"""Waiting requests against a plain list that is scanned from its front, as vLLM does."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from twin import Requests
from twin.engine.compiled.queues import (
    change_sides,
    first_admissible,
    look_ahead,
    pop,
    push_back,
    push_front,
    receive,
)
from twin.engine.state import engine_constants, initial_state


def requests_of(rng: np.random.Generator, n: int, adapters: int) -> Requests:
    ones = np.ones(n, dtype=np.int32)
    adapter = rng.integers(0, adapters, n).astype(np.int32)
    return Requests(np.arange(n, dtype=np.float64), ones, ones, adapter, adapters)


class Waiting:
    """vLLM's waiting list, and what runs."""

    def __init__(self, adapter: list[int], max_loras: int) -> None:
        self.adapter, self.max_loras = adapter, max_loras
        self.waiting: list[int] = []
        self.running: list[int] = []

    def first_admissible(self) -> int:
        active = {self.adapter[r] for r in self.running}
        free = len(active) < self.max_loras
        return next((r for r in self.waiting if free or self.adapter[r] in active), -1)


class Engine:
    """The compiled queues, with what the scheduler does around them."""

    def __init__(self, requests: Requests, setup: Any) -> None:
        self.constants = engine_constants(requests, setup, inf, 0.0, inf)
        self.state = initial_state(requests, setup, 1)
        self.adapter = requests.adapter

    def first_admissible(self) -> int:
        return int(first_admissible(self.constants, self.state))

    def count(self, r: int, change: int) -> None:
        """One running request more, or less, of a request's adapter."""
        adapter, active = int(self.adapter[r]), self.state.adapter["active"]
        before = int(active[adapter])
        active[adapter] += change
        if (before == 0) != (before + change == 0):
            self.state.now["distinct"] += change
            change_sides(self.state, adapter)


@pytest.mark.parametrize("seed", range(12))
def test_the_tournament_finds_what_a_scan_finds(cases: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = requests_of(rng, 150, int(rng.integers(1, 20)))
    setup = replace(cases.engine(rng, requests), max_loras=int(rng.integers(1, 5)), max_inflight=0)
    engine, model = Engine(requests, setup), Waiting(requests.adapter.tolist(), setup.max_loras)
    arrived = admitted = 0
    for kind in rng.choice(4, 1500, p=[0.3, 0.3, 0.25, 0.15]):
        r = model.first_admissible()
        assert engine.first_admissible() == r
        assert int(engine.state.now["waiting"]) == len(model.waiting)
        if kind == 0 and arrived < len(requests):
            push_back(engine.constants, engine.state, arrived)
            model.waiting.append(arrived)
            arrived += 1
        elif kind == 1 and r >= 0:
            pop(engine.constants, engine.state, int(requests.adapter[r]))
            engine.count(r, 1)
            model.waiting.remove(r)
            model.running.append(r)
            admitted += 1
        elif kind >= 2 and model.running:
            preempted = kind == 3
            r = model.running.pop(-1 if preempted else int(rng.integers(len(model.running))))
            engine.count(r, -1)
            if preempted:
                push_front(engine.constants, engine.state, r)
                model.waiting.insert(0, r)
    assert arrived == len(requests) < admitted  # some were preempted and came back


def test_requests_are_queued_when_they_arrive_and_the_client_may_send(cases: ModuleType) -> None:
    rng = np.random.default_rng(1)
    requests = requests_of(rng, 6, 2)
    engine = Engine(requests, replace(cases.engine(rng, requests), max_inflight=3))
    now = engine.state.now
    now["clock"] = 1.5
    receive(engine.constants, engine.state)
    assert (int(now["waiting"]), float(now["arrival"])) == (2, 2.0)
    now["clock"] = 5.0
    receive(engine.constants, engine.state)
    assert (int(now["waiting"]), float(now["arrival"])) == (3, inf)  # its cap is reached
    now["waiting"], now["open_again"] = 2, 4.5
    look_ahead(engine.constants, engine.state)
    receive(engine.constants, engine.state)
    assert engine.state.request["sent"][:4].tolist() == [0.0, 1.0, 2.0, 4.5]
    assert np.isnan(engine.state.request["sent"][4])
