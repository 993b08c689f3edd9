"""Values and lines of YAML: anchors, aliases, merges, tags and limits, by either of PyYAML's parsers."""

from __future__ import annotations

import pytest
import yaml

from scenarios import ScenarioError
from scenarios.reading import yaml_syntax
from scenarios.reading.yaml_documents import document_texts
from scenarios.reading.yaml_reader import MAX_DEPTH, LocatedDict, LocatedList, parse


@pytest.fixture(autouse=True, params=["fast", "slow"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "slow":
        monkeypatch.setattr(yaml_syntax, "_LOADER", yaml.SafeLoader)


def message(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "file")
    return str(caught.value)


def test_an_anchor_may_be_used_again() -> None:
    assert parse("a: &x 1\nb: *x\nc: &x [2]\nd: *x", "file") == {"a": 1, "b": 1, "c": [2], "d": [2]}


def test_an_alias_has_a_line_of_its_own() -> None:
    root = parse("a: &x {k: 1}\nb:\n  - *x\n  - 3\n", "file")
    assert isinstance(root, LocatedDict)
    items = root["b"]
    assert isinstance(items, LocatedList)
    assert items.lines == [3, 4]
    assert items[0] is root["a"]


def test_every_wrong_alias_is_told_with_its_path() -> None:
    text = message("a:\n  - *x\n  - {b: *y}\nc: &c [*c]\n")
    assert "3 problems" in text
    assert "line 2: a[0] is the alias *x, which names nothing above it" in text
    assert "line 3: a[1].b is the alias *y" in text
    assert "line 4: c[0] is the alias *c, which stands inside what it names" in text


def test_levels_within_an_alias_count() -> None:
    inner = "[" * 10 + "]" * 10
    levels = MAX_DEPTH - 11  # beside the mapping at the top and the alias's own ten
    text = f"a: &a {inner}\nb: {'[' * levels}*a{']' * levels}\n"
    assert isinstance(parse(text, "file"), LocatedDict)
    assert f"line 2: the file is nested more than {MAX_DEPTH} levels" in message(text.replace("*a", "[*a]"))


def test_the_first_mapping_that_is_merged_wins_and_keys_keep_their_lines() -> None:
    root = parse("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  w: 0\n  x: 9\n", "file")
    assert isinstance(root, LocatedDict)
    merged = root["c"]
    assert isinstance(merged, LocatedDict)
    assert list(merged.items()) == [("w", 0), ("x", 9), ("y", 1), ("z", 2)]
    assert merged.lines == {"w": 5, "x": 6, "y": 1, "z": 2}


@pytest.mark.parametrize("text", ["a: !!map [1]", "a: !!seq {b: 1}", "a: !!set {b}", "a: !!binary aGk="])
def test_a_tag_of_another_kind_is_refused(text: str) -> None:
    assert f"a has the tag {text.split()[1]}; remove it" in message(text)


def test_documents_are_divided_and_those_without_a_value_left_out() -> None:
    text = '# c\n---\na: "é漢😀"\n---\n# nothing\n---\n\n---\nb: |\n  ---x\n...\n'
    parts = document_texts(text, "file")
    assert [parse(part, "file") for part, _ in parts] == [{"a": "é漢😀"}, {"b": "---x\n"}]
    assert [line for _, line in parts] == [1, 7]
    assert document_texts("", "file") == document_texts("# c\n", "file") == []


def test_json_is_one_document() -> None:
    text = ' {"a": "\\ud83d\\ude00"}'
    assert document_texts(text, "file") == [(text, 0)]


def test_a_mistake_in_any_document_is_told_with_the_line_of_the_file() -> None:
    with pytest.raises(ScenarioError, match="line 5"):
        document_texts("a: 1\n---\nb: 2\nc: [\n", "file")
