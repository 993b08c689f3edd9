"""The twin schedules step by step as a real server of vLLM 0.32.0 did, with adapters, by its own log."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from twin.schedules.replay import replay

FILES = sorted((Path(__file__).parents[1] / "data" / "real_engine" / "steps").glob("*.json"))

PREEMPTIONS = {"cached": 2, "long_prompts": 0, "plain": 0, "small_cache": 27}


class Steps(NamedTuple):
    """Requests and tokens of each step."""

    requests: list[int]
    tokens: list[int]


def document_of(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def logged(document: dict[str, Any]) -> Steps:
    assert document["logged"]["columns"] == [
        *("context_requests", "context_tokens"),
        *("generation_requests", "generation_tokens"),
    ]
    rows = document["logged"]["rows"]
    return Steps([row[0] + row[2] for row in rows], [row[1] + row[3] for row in rows])


def played(document: dict[str, Any], **engine: object) -> Steps:
    changed = copy.deepcopy(document)
    changed["engine"] |= engine
    steps = replay(changed)["result"]["steps"]
    rows = [dict(zip(steps["columns"], row, strict=True)) for row in steps["rows"]]
    return Steps([row["running"] for row in rows], [row["scheduled_tokens"] for row in rows])


def test_every_workload_is_there() -> None:
    assert [path.stem for path in FILES] == sorted(PREEMPTIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_step_has_the_requests_and_tokens_that_the_server_logged(path: Path) -> None:
    document = document_of(path)
    assert played(document) == logged(document)
    assert sum(replay(document)["result"]["preemptions"]) == PREEMPTIONS[path.stem]


@pytest.mark.parametrize(
    "path", [path for path in FILES if not PREEMPTIONS[path.stem]], ids=lambda path: path.stem
)
def test_the_same_requests_are_read_and_generate(path: Path) -> None:
    """Each step lasts a second: a request generates from its first token until it ends."""
    document = document_of(path)
    result = replay(document)["result"]
    ends = list(zip(result["ttft_s"], result["finish_s"], strict=True))
    for number, (_, _, generation, generated) in enumerate(document["logged"]["rows"]):
        assert generation == generated == sum(first <= number < end for first, end in ends), number


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("plain", {"version": "0.13.0"}),  # puts requests that are passed over back in reversed order
        ("small_cache", {"version": "0.30.0"}),  # has a queue of their own for them
        ("plain", {"max_loras": 5}),
        ("plain", {"async_scheduling": True}),
        ("small_cache", {"num_blocks": 42}),
        ("small_cache", {"scheduler_reserve_full_isl": False}),
        ("long_prompts", {"long_prefill_token_threshold": 0}),
        ("cached", {"enable_prefix_caching": False}),
    ],
)
def test_another_engine_schedules_otherwise(name: str, engine: dict[str, object]) -> None:
    (path,) = (path for path in FILES if path.stem == name)
    document = document_of(path)
    assert played(document, **engine) != logged(document)
