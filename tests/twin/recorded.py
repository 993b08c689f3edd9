"""Schedules that vLLM's own scheduler recorded, and what it takes to play them with the reference."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from twin.schedules import replay
from twin.schedules.schedule import checked

OWN = Path(__file__).parent / "data" / "vllm_versions"
"""Folders of versions with a file for each kind: plain, cached, async, async_cached."""

SHARED = Path(__file__).parents[2].parent / "shared" / "vllm_versions"
"""More of them, one schedule a file."""

CLOSE = {"rtol": 1e-9, "atol": 1e-9}

Document = dict[str, Any]


def read(path: Path) -> Iterator[tuple[str, Document]]:
    """Names and schedules of a file: one, or a dictionary of some."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document = json.loads(text)
    yield from [(path.stem, document)] if "engine" in document else document.items()


def play(reference: ModuleType, document: Document, **other_rules: object) -> Any:
    """Play a schedule's requests with the reference, by the version's rules or by others."""
    schedule = checked(document, "schedule")
    requests = replay._requests(schedule)
    setup = replay._setup(schedule, requests)
    rules = setup.rules.model_copy(update=other_rules)
    return reference.Reference(requests, dataclasses.replace(setup, rules=rules)).run()


def assert_played(played: Any, result: Document) -> None:
    """All steps and all requests are as in the result; instants but for rounding."""
    rows, requests = result["steps"]["rows"], played.requests
    assert [row[1:] for row in played.rows] == [tuple(row[1:]) for row in rows]
    times = [
        ([row[0] for row in played.rows], [row[0] for row in rows]),
        ([r.finish for r in requests], result["finish_s"]),
        ([r.first_token - r.arrival for r in requests], result["ttft_s"]),
        (played.scheduled_at, result.get("scheduled_s", played.scheduled_at)),
    ]
    for got, expected in times:
        np.testing.assert_allclose(got, expected, **CLOSE)
    assert [r.preemptions for r in requests] == result["preemptions"]
    cached = [r.cached for r in requests]
    assert cached == result.get("cached_tokens", cached)
