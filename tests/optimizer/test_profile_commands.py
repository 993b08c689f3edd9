"""``lorapack profile``: what is shipped, one in full, and one derived."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import twin

Lorapack = Callable[..., tuple[int, str, str]]


def test_the_shipped_profiles_are_listed_with_what_was_measured(lorapack: Lorapack) -> None:
    code, text, said = lorapack("profile", "list")
    assert (code, said) == (0, "")
    for profile in twin.shipped_profiles():
        (line,) = [line for line in text.splitlines() if profile.model in line]
        assert profile.device in line
        assert profile.engine_version in line
    code, text, _ = lorapack("profile", "list", "--json", "-")
    assert [one["model"] for one in json.loads(text)] == [p.model for p in twin.shipped_profiles()]


def test_a_measured_profile_is_shown_with_its_errors(
    lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, text, _ = lorapack("profile", "show", "meta-llama/Llama-3.1-8B-Instruct")
    assert code == 0
    assert "measured with vLLM 0.8.5" in text
    assert "345 runs, 128 probes" in text
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["context"]]
    assert line.split()[-1] == "5.2%"
    assert max(map(len, text.splitlines())) <= 100


def test_a_derived_profile_is_written_and_says_what_it_is(
    lorapack: Lorapack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    file = tmp_path / "qwen3.json"
    asked = ("--model", "Qwen3-32B", "--device", "h200", "--tensor-parallel-size", "2", "--out", str(file))
    code, text, said = lorapack("profile", "derive", *asked)
    assert (code, said) == (0, "")
    assert "derived from llama-3.1-8b-instruct on H100-64GB, measured with vLLM 0.8.5" in text
    assert "keys and values read of an earlier token" in " ".join(text.split())
    assert twin.read_profile(file) == twin.derive_profile("Qwen3-32B", "H200", tensor_parallel_size=2)
    code, shown, _ = lorapack("profile", "show", str(file))
    assert (code, shown) == (0, text)


def test_the_source_can_be_chosen(lorapack: Lorapack, tmp_path: Path) -> None:
    file, own = tmp_path / "out.json", tmp_path / "own.json"
    qwen = twin.find_profile("qwen-2.5-7b-instruct", None)
    twin.write_profile(qwen, own)
    for source in ("qwen-2.5-7b-instruct", qwen.name, str(own)):
        asked = ("--model", "Qwen3-8B", "--device", "L40S", "--from", source, "--out", str(file))
        assert lorapack("profile", "derive", *asked)[0] == 0
        derived = twin.read_profile(file).derived
        assert derived is not None
        assert derived.source == qwen.name


@pytest.mark.parametrize(
    ("model", "device", "source", "told"),
    [
        ("Qwen3-8B", "T4", None, "T4 has no bf16_tflops"),
        ("Qwen3-8B", "H900", None, 'GPU "H900" is not known'),
        ("nonsense", "H200", None, 'no shipped model is called "nonsense"'),
        ("Qwen3-8B", "H200", "nonsense", "no engine profile is shipped for model"),
        ("Qwen3-8B", "H200", "none.json", "none.json"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    lorapack: Lorapack, tmp_path: Path, model: str, device: str, source: str | None, told: str
) -> None:
    file = tmp_path / "out.json"
    chosen = () if source is None else ("--from", source)
    code, text, said = lorapack(
        "profile", "derive", "--model", model, "--device", device, *chosen, "--out", str(file)
    )
    assert (code, text) == (2, "")
    assert said.startswith("lorapack: ")
    assert told in said
    assert not file.exists()


def test_a_profile_is_not_derived_over_its_source(lorapack: Lorapack, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    twin.write_profile(twin.shipped_profiles()[0], own)
    asked = ("--model", "Qwen3-8B", "--device", "L40S", "--from", str(own), "--out", str(own))
    code, _, said = lorapack("profile", "derive", *asked)
    assert code == 2
    assert str(own) in said
