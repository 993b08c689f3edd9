"""Runs of a real vLLM that its profile never saw, played again by the twin without an engine.

The profile was fitted to a measurement of the same server (`benchmarks/real_engine.py`); figures are means of
three repetitions.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from scenarios import EngineConfig, FixedLengths
from twin import EngineProfile, GPULoad, RunRecords, build_setup, metrics, read_profile
from twin.engine.run import simulate_requests
from twin.measured.sent_requests import read_requests

RUN = Path(__file__).parents[1] / "data" / "real_engine" / "run"
SEEN = json.loads((RUN / "measured.json").read_text())
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def profile() -> EngineProfile:
    return read_profile(RUN / "profile.json")


def played(profile: EngineProfile, case: dict[str, object]) -> RunRecords:
    ranks = [*SEEN["ranks"], 0]
    n = len(ranks)
    load = GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=np.array(ranks, dtype=np.int32),
        rate=np.ones(n),
        prompt=(FixedLengths(tokens=1),) * n,
        output=(FixedLengths(tokens=1),) * n,
    )
    engine = EngineConfig(**SEEN["engine"])
    setup = build_setup(profile, engine, load, max_loras=engine.max_loras, max_lora_rank=engine.max_lora_rank)
    assert (setup.usable_blocks + 1) * setup.block_size == SEEN["kv_cache_tokens"]
    requests = read_requests(RUN / str(case["requests"]), n)
    return simulate_requests(requests, setup, float(str(case["seconds"])))


@pytest.mark.parametrize("case", SEEN["cases"], ids=lambda case: case["name"])
def test_the_twin_foretells_what_the_server_did(profile: EngineProfile, case: dict[str, object]) -> None:
    records = played(profile, case)
    view = metrics.window(records)
    found = metrics.latencies_of(view, profile.frontend.first_token_s)
    # Errors as measured: 1, 1 and 7 % of the throughput, and 9, 3 and 9 % of the ITL.
    assert metrics.traffic(view).served_tok_per_s == pytest.approx(case["throughput"], rel=0.08)
    assert 1e3 * found["itl"].mean_s == pytest.approx(case["itl_ms"], rel=0.1)
    wait = records.first_token_s - records.requests.arrival_s
    late = np.where(np.isnan(wait), view.end_s - records.requests.arrival_s, wait) > PATIENCE_S
    assert (late.mean() > 0.05) == case["late"]
