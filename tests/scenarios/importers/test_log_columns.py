"""Columns of logs: what is missing is told at once, and a map of one log does not spoil another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scenarios import ScenarioError, import_fleet
from scenarios.importers.facts import ImportSourceError


def csv_log(path: Path, header: str, name: str = "fr") -> Path:
    rows = [f"2026-11-02T14:{k // 60:02d}:{k % 60:02d}Z,{name},{100 + k},{k + 1}" for k in range(60)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def spend_log(path: Path) -> Path:
    rows = [
        {
            "startTime": f"2026-11-02T15:00:{k:02d}Z",
            "endTime": f"2026-11-02T15:00:{k:02d}.5Z",
            "model_group": "de",
            "model": "hosted_vllm/de",
            "prompt_tokens": 10 + k,
            "completion_tokens": 5,
        }
        for k in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_all_columns_that_are_not_known_are_told_in_one_message(tmp_path: Path) -> None:
    log = csv_log(tmp_path / "log.csv", "at,who,tok_in,tok_out")
    with pytest.raises(ImportSourceError) as refused:
        import_fleet(log)
    text = str(refused.value)
    assert "no column that is known for time, adapter, prompt_tokens or output_tokens" in text
    assert (
        "--map time=COLUMN --map adapter=COLUMN --map prompt_tokens=COLUMN --map output_tokens=COLUMN" in text
    )


def test_all_mapped_columns_that_are_missing_are_told_in_one_message(tmp_path: Path) -> None:
    log = csv_log(tmp_path / "log.csv", "time,adapter,prompt_tokens,output_tokens")
    with pytest.raises(
        ImportSourceError, match=r'has no column "a" or "b".*--map time=COLUMN --map adapter=COLUMN'
    ):
        import_fleet(log, columns={"time": "a", "adapter": "b"})


def test_a_map_of_one_log_leaves_those_of_known_forms_alone(tmp_path: Path) -> None:
    logs = [
        csv_log(tmp_path / "own.csv", "received_at,lora,tok_in,tok_out"),
        spend_log(tmp_path / "spend.jsonl"),
    ]
    columns = {
        "time": "received_at",
        "adapter": "lora",
        "prompt_tokens": "tok_in",
        "output_tokens": "tok_out",
    }
    fleet = import_fleet(logs, columns=columns)
    rates = {one["name"]: one["rate"] for one in yaml.safe_load(fleet.text)["adapters"]}
    assert rates.keys() == {"fr", "de"}
    assert all(rates.values())


def test_a_map_that_a_known_form_has_counts_there(tmp_path: Path) -> None:
    fleet = import_fleet(spend_log(tmp_path / "spend.jsonl"), columns={"adapter": "model"})
    assert [one["name"] for one in yaml.safe_load(fleet.text)["adapters"]] == ["hosted_vllm/de"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("enginee.max_model_len=3", "enginee is not a key that exists here"),
        ("engine.max_modell_len=3", "engine.max_modell_len is not a key that exists here"),
        ("adapters[0].ranks=3", r"adapters\[0\].ranks is not a key that exists here"),
        ("engine.max_model_len=abc", 'max_model_len is the text "abc"'),
        ("devices=17", "devices is 17"),
        ("adapters[0].rate=-1", r"adapters\[0\].rate is -1"),
        ("adapters[9].rate=1", "adapters is a list of 1 and has no item 9"),
    ],
)
def test_a_value_that_no_scenario_takes_is_refused_at_import(
    tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(ScenarioError, match=words):
        import_fleet(spend_log(tmp_path / "spend.jsonl"), override)


def test_values_given_at_import_are_taken_while_others_are_missing(tmp_path: Path) -> None:
    given = ["devices=H100-64GB", "adapters[0].rank=8", "engine.max_num_seqs=64", "workload.prompt=100"]
    values = yaml.safe_load(import_fleet(spend_log(tmp_path / "spend.jsonl"), given).text)
    assert values["engine"] == {"max_num_seqs": 64}
    assert values["model"] is None
