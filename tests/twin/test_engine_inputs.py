"""What the loop refuses to play, and how it explains it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import twin
from scenarios import AdapterClass, EngineConfig, FixedLengths, Workload
from twin.engine.run import simulate_requests


@pytest.fixture
def case(cases: ModuleType) -> Any:
    """A case with several requests."""
    return next(c for c in map(cases.case, range(100)) if len(c.requests) > 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_s": np.arange(100.0, 0.0, -1.0)}, "sorted by arrival"),
        ({"arrival_s": np.full(100, np.nan)}, "sorted by arrival"),
        ({"prompt_tokens": np.zeros(100, dtype=np.int32)}, "at least one prompt token"),
        ({"output_tokens": np.zeros(100, dtype=np.int32)}, "at least one prompt token"),
        ({"adapter": np.full(100, 99, dtype=np.int32)}, "adapters are numbered from 0"),
        ({"adapter": np.full(100, -1, dtype=np.int32)}, "adapters are numbered from 0"),
    ],
)
def test_requests_that_cannot_be(case: Any, change: dict[str, Any], message: str) -> None:
    (name, values), n = next(iter(change.items())), len(case.requests)
    with pytest.raises(twin.EngineInputError, match=message):
        simulate_requests(replace(case.requests, **{name: values[:n]}), case.setup)


def test_cost_tables_that_are_too_short(case: Any) -> None:
    short = replace(case.setup.tables, token_s=np.zeros(1))
    with pytest.raises(twin.EngineInputError, match=r"tables\.token_s is 1, it must be at least"):
        simulate_requests(case.requests, replace(case.setup, tables=short))


def test_an_engine_without_requests_ends_at_once(case: Any) -> None:
    empty = twin.Requests(np.zeros(0), *(np.zeros(0, dtype=np.int32) for _ in range(3)), n_adapters=3)
    setup = replace(case.setup, gpu_load_s=np.zeros(3), disk_load_s=np.zeros(3), max_loras=1)
    assert len(simulate_requests(empty, setup).finish_s) == 0


def test_a_memory_failure_survives_a_process_boundary() -> None:
    lengths = FixedLengths(tokens=10)
    load = twin.GPULoad.from_classes([AdapterClass(8, 0.1, lengths, lengths, ("x",))])
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    workload = Workload(prompt=lengths, output=lengths)
    with pytest.raises(twin.MemoryFailure) as caught:
        twin.simulate(load, workload, EngineConfig(), profile, max_loras=4000, max_lora_rank=8)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value)
    assert copied.plan == caught.value.plan
