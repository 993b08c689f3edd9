"""JSON where YAML is read: what json.dumps writes, and clear words for what is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from scenarios.reading.yaml_reader import parse, plain

NAME = "😀 na\\me \\ud83d\\ude00 𝔘"


def document(name: str) -> dict[str, object]:
    return {**scenarios.read("mixed_ranks").model_dump(mode="json"), "name": name}


def message(text: str, *, as_json: bool = False) -> str:
    with pytest.raises(scenarios.ScenarioError) as caught:
        parse(text, "file", as_json=as_json)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["json", "yaml", "JSON"])
def test_surrogate_pairs_are_characters(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"scenario.{ending}"
    file.write_text(json.dumps(document(NAME)))
    assert r"\ud83d\ude00" in file.read_text()
    assert scenarios.read(file).name == NAME
    placement = {"gpus": [{"gpu": 0, "device": NAME, "max_loras": 1, "max_lora_rank": 8, "adapters": ["a"]}]}
    file.write_text(json.dumps({"placement": placement}))
    assert scenarios.read_placement(file).gpus[0].device == NAME


json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.dictionaries(
        json_texts.filter(lambda key: key != "<<"), json_texts | st.lists(json_texts, max_size=3)
    ),
    st.booleans(),
)
def test_json_reads_as_json_reads_it(value: dict[str, object], ensure_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    assert plain(parse(text, "x")) == plain(value)


def test_in_yaml_only_double_quotes_have_escapes() -> None:
    text = "a: \"\\ud83d\\ude00\"\nb: '\\ud83d\\ude00'\nc: \\ud83d\\ude00\n"
    assert parse(text, "x") == {"a": "😀", "b": r"\ud83d\ude00", "c": r"\ud83d\ude00"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": 1,\n"b": "\\ud83d"}', 2),
        ('{"a": "\\ude00\\ud83d"}', 1),
        ('{"\\ud83d": 1}', 1),
        ('a: "\\ud83d\\ude00"\nb: "\\ud83d"', 2),
        ('a: "\\UFFFFFFFF"', 1),
    ],
)
def test_half_a_character_is_named(text: str, line: int) -> None:
    for as_json in (False, True) if text.startswith("{") else (False,):
        said = message(text, as_json=as_json)
        assert f"line {line}: the file has an escape that is no character" in said
        assert "write both halves" in said


def test_a_number_that_is_no_character_beside_a_pair() -> None:
    assert "an escape that is no character" in message('a: "\\ud83d\\ude00\\UFFFFFFFF"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"gpus": [1,\n 2',
            "line 2: the file is not valid JSON: a comma or a closing bracket is missing at",
        ),
        ('{"gpus" 1}', "not valid JSON: a colon is missing at column 9"),
        ('{"gpus": "a}', "not valid JSON: a quote is not closed that opens at column 10"),
        ('{"gpus": "\\ud83d\\ude00",\n', "not valid JSON"),
    ],
)
def test_a_broken_json_file_is_called_that(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "placement.json"
    file.write_text(text)
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read_placement(file)
    assert said in str(caught.value)
    assert "YAML" not in str(caught.value)
    file.rename(tmp_path / "scenario.json")
    with pytest.raises(scenarios.ScenarioError, match="not valid JSON"):
        scenarios.read(tmp_path / "scenario.json")
    assert "YAML" in message(text)


@pytest.mark.parametrize(
    "text", ["a:\n\tb: 1", "a:\n  \tb: 1", "a:\n-\tb: 1", "a: 1\n\tb: 2", "a:\n  b: |\n\t\tx", "\ta: 1"]
)
def test_a_tab_for_indentation_is_named(text: str) -> None:
    line = text.count("\n", 0, text.index("\t")) + 1
    assert f"line {line}: the file is not valid YAML: a tab indents line {line}; use spaces" in message(text)


def test_a_character_that_yaml_refuses_is_found_behind_others() -> None:
    assert "line 2: the file holds the character U+001B" in message("é: 名\nb: é\x1b[2J")


def test_a_placement_with_any_device_name_reads_back(tmp_path: Path) -> None:
    gpu = scenarios.PlacedGPU(
        gpu=0, device="a\x7f\u2028\x85\ufeff😀\x1b", max_loras=1, max_lora_rank=8, adapters=("a",)
    )
    for ending in ("json", "JSON", "yaml"):
        file = tmp_path / f"plan.{ending}"
        scenarios.write_placement(scenarios.Placement(gpus=(gpu,)), file)
        assert scenarios.read_placement(file).gpus == (gpu,)
    json.loads((tmp_path / "plan.JSON").read_text(encoding="utf-8"))
