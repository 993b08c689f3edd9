"""The batch, its sums and its timing wheel against requests that are counted one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from types import ModuleType

import numpy as np
import pytest

from twin import Requests
from twin.engine.compiled.batch import (
    join_batch,
    needs_block,
    next_decode_step,
    postpone,
    start_decoding,
    tokens_of,
)
from twin.engine.compiled.endings import finish_due, preempt_last
from twin.engine.compiled.queues import pop, push_back
from twin.engine.compiled.slots import load_pending
from twin.engine.state import State, engine_constants, initial_state


@dataclass
class Decoding:
    """A decoding request."""

    tokens: int
    last: int


def in_batch(state: State) -> list[int]:
    """The batch in order of admission; both ways along its links say the same."""
    forwards, backwards = [], []
    r = int(state.now["first"])
    while r >= 0:
        forwards.append(r)
        r = int(state.request["follower"][r])
    r = int(state.now["last"])
    while r >= 0:
        backwards.append(r)
        r = int(state.request["earlier"][r])
    assert forwards == backwards[::-1]
    return forwards


@pytest.mark.parametrize("seed", range(12))
def test_sums_and_timing_wheel_say_what_counting_says(cases: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, longest = 120, int(rng.choice([5, 7, 8, 40]))
    requests = Requests(
        arrival_s=np.zeros(n),
        prompt_tokens=rng.integers(1, 50, n).astype(np.int32),
        output_tokens=rng.integers(2, longest + 1, n).astype(np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
    )
    setup = replace(cases.engine(rng, requests), max_inflight=0, usable_blocks=10**6)
    engine, state = engine_constants(requests, setup, inf, 0.0, inf), initial_state(requests, setup, 1)
    block, now = setup.block_size, state.now
    free, arrived, ended, preempted = 10**6, 0, 0, 0
    back: list[int] = []
    model: dict[int, Decoding] = {}

    def admit(r: int) -> None:
        """Admit a request whose prompt, and what it had generated, are computed in no time."""
        nonlocal free
        pop(engine, state, 0)
        join_batch(state, r, 0)
        state.request["generated"][r] += 1
        tokens = int(requests.prompt_tokens[r] + state.request["generated"][r])
        start_decoding(engine, state, r)
        taken = -(-(tokens - 1) // block)
        free -= taken
        now["free"] -= taken
        model[r] = Decoding(tokens, int(requests.prompt_tokens[r] + requests.output_tokens[r]))

    for _ in range(400):
        now["steps"] += 1
        r = int(now["last"])
        if r >= 0 and model[r].tokens < model[r].last - 1 and rng.random() < 0.15:
            tokens = model.pop(r).tokens
            preempt_last(engine, state)
            free += -(-(tokens - 1) // block)
            assert state.request["generated"][r] == tokens - requests.prompt_tokens[r]
            back.append(r)
            preempted += 1
        elif back:
            admit(back.pop())
        elif arrived < n and rng.random() < 0.7:
            push_back(engine, state, arrived)
            admit(arrived)
            arrived += 1
        load_pending(engine, state, state.series[0])
        assert in_batch(state) == list(model)
        need = {r for r in model if (model[r].tokens - 1) % block == 0}
        assert int(state.classes["count"][int(now["phase"])]) == len(need)
        due = [r for r in model if rng.random() < 0.9]
        for r in model.keys() - due:
            postpone(engine, state, r)
        taken = len(need.intersection(due))
        now["free"] -= taken
        free -= taken
        now["step_decodes"] = len(due)
        next_decode_step(engine, state)
        for r in due:
            model[r].tokens += 1
        finish_due(engine, state)
        for r in [r for r in due if model[r].tokens == model[r].last]:
            free += -(-(model.pop(r).tokens - 1) // block)
            ended += 1
            assert state.request["finish"][r] == now["clock"]
        assert np.count_nonzero(~np.isnan(state.request["finish"])) == ended
        assert (int(now["decoding"]), int(now["running"])) == (len(model), len(model))
        assert int(now["context"]) == sum(one.tokens for one in model.values())
        assert int(now["free"]) == free
        for r, one in model.items():
            assert tokens_of(state, r) == one.tokens
            assert needs_block(engine, state, r) == ((one.tokens - 1) % block == 0)
    assert ended > 20
    assert preempted > 5
