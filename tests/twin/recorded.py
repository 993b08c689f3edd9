"""Schedules that vLLM's own scheduler recorded, and what it takes to play them with the reference."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from twin import EngineSetup, Requests, SchedulerRules, StepTables
from twin.engine.setup import rules_of

DATA = Path(__file__).parent / "data" / "vllm_versions"
SHARED = Path(__file__).parents[2].parent / "shared"

Document = dict[str, Any]


def read(path: Path) -> Iterator[tuple[str, Document]]:
    """Names and schedules of a file: one, or a dictionary of some."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document = json.loads(text)
    yield from [(path.stem, document)] if "engine" in document else document.items()


def rules(engine: Document) -> SchedulerRules:
    """Rules of the version but for what the schedule states; asynchronous only if it says so."""
    stated = {
        "reserve_full_isl": engine.get("scheduler_reserve_full_isl"),
        "watermark": engine.get("watermark"),
        "async_scheduling": engine.get("async_scheduling", False),
    }
    update = {name: value for name, value in stated.items() if value is not None}
    return rules_of(engine["version"]).model_copy(update=update)


def setup(document: Document, adapters: int) -> EngineSetup:
    """The engine of a schedule, whose adapters cost nothing to load."""
    engine, latency = document["engine"], document["latency"]
    distinct = np.arange(min(adapters, engine["max_loras"]) + 1.0)
    free = np.zeros(adapters)
    return EngineSetup(
        max_loras=engine["max_loras"],
        max_cpu_loras=max(adapters, engine["max_loras"]),
        max_num_seqs=engine["max_num_seqs"],
        max_num_batched_tokens=engine["max_num_batched_tokens"],
        long_prefill_token_threshold=engine.get("long_prefill_token_threshold", 0),
        block_size=engine["block_size"],
        usable_blocks=engine["num_blocks"] - 1,
        rules=rules(engine),
        tables=StepTables(
            latency["base_s"] + latency["per_token_s"] * np.arange(engine["max_num_batched_tokens"] + 1.0),
            latency["per_adapter_s"] * distinct,
            np.zeros(len(distinct)),
        ),
        gpu_load_s=free,
        disk_load_s=free,
    )


def play(reference: ModuleType, document: Document) -> Any:
    """Play a schedule's requests with the reference. In rows of seven, adapter 0 is the base model."""
    rows = document["requests"]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    with_base = len(columns) > 4
    numbers = columns[3] - 1 if with_base else columns[3]
    requests = Requests(
        arrival_s=columns[0].astype(np.float64),
        prompt_tokens=columns[1].astype(np.int32),
        output_tokens=columns[2].astype(np.int32),
        adapter=numbers.astype(np.int32),
        n_adapters=int(numbers.max()) + 1,
    )
    texts = None
    if with_base and document["engine"].get("enable_prefix_caching"):
        texts = reference.Texts(*(column.tolist() for column in columns[4:]))
    return reference.Reference(requests, setup(document, requests.n_adapters), texts=texts).run()


def assert_equal(played: Any, document: Document) -> None:
    """All steps and all requests as recorded; instants but for rounding."""
    result = document["result"]
    expected = [tuple(row[1:]) for row in result["steps"]["rows"]]
    assert [row[1:] for row in played.rows] == expected
    close = {"rtol": 1e-9, "atol": 2e-9}
    np.testing.assert_allclose(
        [row[0] for row in played.rows], [row[0] for row in result["steps"]["rows"]], **close
    )
    requests = played.requests
    np.testing.assert_allclose([r.finish for r in requests], result["finish_s"], **close)
    np.testing.assert_allclose([r.first_token - r.arrival for r in requests], result["ttft_s"], **close)
    assert [r.preemptions for r in requests] == result["preemptions"]
    if "cached_tokens" in result:
        assert [r.cached for r in requests] == result["cached_tokens"]
    if "scheduled_s" in result:
        np.testing.assert_allclose(played.scheduled_at, result["scheduled_s"], **close)
