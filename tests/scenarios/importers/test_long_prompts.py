"""Prompts that the engine would refuse are cut at import, so that the scenario is taken as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios import import_fleet
from scenarios.importers.long_prompts import cut_prompts
from scenarios.importers.values import ValuesBuilder
from scenarios.traffic.lengths import HistogramLengths

HISTOGRAM = {"edges": [1.0, 11.0, 101.0, 1001.0], "weights": [1, 2, 1]}


def built(prompt: object) -> ValuesBuilder:
    values: dict[str, object] = {"adapters": [{"name": "a", "prompt": prompt}], "workload": {}}
    return ValuesBuilder(values)


def prompt_of(one: ValuesBuilder) -> object:
    entries = one.values["adapters"]
    assert isinstance(entries, list)
    return entries[0]["prompt"]


@pytest.mark.parametrize("limit", [50, 101, 102, 500, 1000])
def test_a_histogram_is_cut_within_a_bin_and_stays_one(limit: int) -> None:
    one = built(HISTOGRAM)
    cut_prompts(one, limit)
    lengths = HistogramLengths.model_validate(prompt_of(one))
    assert lengths.longest_tokens == limit - 1
    assert sum(lengths.weights) == pytest.approx(1, rel=1e-5)
    assert "up to 1,001 tokens" in one.notes[0]
    assert one.beside["adapters", 0, "prompt"].startswith(f"cut at {limit:,}, told up to 1,001")


@pytest.mark.parametrize(
    ("prompt", "limit"),
    [
        (HISTOGRAM, 1002),
        ({"mean": 100, "std": 10, "min": 1, "max": 200}, 201),
        ({"mean": 100, "std": 10, "min": 1, "max": 200}, 100),  # the mean is told by whoever checks
        ({"mean": 100, "std": 10}, 150),
        (100, 50),
        (None, 50),
        (HISTOGRAM, 2),
    ],
)
def test_what_fits_or_cannot_be_cut_stays(prompt: object, limit: int) -> None:
    one = built(prompt)
    cut_prompts(one, limit)
    assert prompt_of(one) == prompt
    assert one.notes == []


def test_what_import_writes_of_a_log_with_long_prompts_is_taken(tmp_path: Path) -> None:
    rows = [
        f"2026-11-02T14:{k // 60:02d}:{k % 60:02d}Z,fr,{9000 if k % 50 == 7 else 100 + k % 40},20"
        for k in range(600)
    ]
    log = tmp_path / "log.csv"
    log.write_text("time,adapter,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    script = tmp_path / "start.sh"
    script.write_text("vllm serve llama-3.1-8b-instruct --max-model-len 8192 --lora-modules fr=/l/fr &\n")
    given = ["devices=H100-64GB", "adapters[0].rank=8"]
    fleet = import_fleet([script, log], given)
    assert any("prompts of up to" in note for note in fleet.notes)
    assert fleet.scenario().engine.max_model_len == 8192
    raised = import_fleet([script, log], [*given, "engine.max_model_len=16384"])
    assert not any("prompts of up to" in note for note in raised.notes)
    assert raised.scenario().engine.max_model_len == 16_384
