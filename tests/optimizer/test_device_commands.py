"""``lorapack devices``: the list, one GPU, and what is no GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import scenarios

Lorapack = Callable[..., tuple[int, str, str]]


def test_every_gpu_is_listed_once(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("devices")
    assert code == 0
    listed = [line.split()[0] for line in text.splitlines() if line.strip()][2:]
    assert listed == [gpu.name for gpu in scenarios.gpus()]


def test_one_gpu_is_shown_with_whole_addresses(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, text, _ = lorapack("devices", "nvidia a100-sxm4-80gb")
    assert code == 0
    gpu = scenarios.find_gpu("A100-80GB")
    assert all(name in text for name in (gpu.name, *gpu.aliases))
    assert gpu.source in text
    assert gpu.memory_from in text
    assert "79.15 GiB, measured" in text
    assert "2,039 GB/s" in text


def test_json_is_the_catalogue(lorapack: Lorapack, tmp_path: Path) -> None:
    code, text, _ = lorapack("devices", "--json", "-")
    assert code == 0
    assert [scenarios.GPU(**gpu) for gpu in json.loads(text)] == list(scenarios.gpus())
    file = tmp_path / "gpu.json"
    code, _, _ = lorapack("devices", "l4", "--json", str(file))
    assert code == 0
    assert scenarios.GPU(**json.loads(file.read_text())) == scenarios.find_gpu("L4")


@pytest.mark.parametrize(
    ("name", "told"), [("h100", "H100-NVL-94GB"), ("L40SS", "L40S"), ("abacus", "devices")]
)
def test_a_name_that_is_none_ends_with_what_may_be_meant(lorapack: Lorapack, name: str, told: str) -> None:
    code, text, said = lorapack("devices", name)
    assert (code, text) == (2, "")
    assert said.startswith(f'lorapack: GPU "{name}"')
    assert told in said


def test_a_file_that_cannot_be_written_is_noticed(lorapack: Lorapack, tmp_path: Path) -> None:
    code, _, said = lorapack("devices", "--json", str(tmp_path / "none" / "gpus.json"))
    assert code == 2
    assert "none" in said
