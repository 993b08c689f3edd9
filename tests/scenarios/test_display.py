"""Text from outside is shown, never obeyed: in terminals, in spreadsheets, in messages, in YAML."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenarios
from scenarios import Problem, ScenarioError, spreadsheet_cell, visible, visible_lines

BASE = scenarios.read("mixed_ranks")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 名前 😀 a b", "plain é 名前 😀 a b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x00\x07\x7f", r"\x00\x07\x7f"),
        ("\x9b2J\x85", r"\x9b2J\x85"),  # C1: \x9b begins a sequence as \x1b[ does
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("a\u200bb\u200dc\ufeffd\u2060\u00ad", r"a\u200bb\u200dc\ufeffd\u2060\xad"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
        ("\U000e0041\ue000\uffff", r"\U000e0041\ue000\uffff"),
        ("\u3164\u115f", r"\u3164\u115f"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_shown(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert visible(expected) == expected


@settings(max_examples=50)
@given(st.text())
def test_visible_text_is_one_line_without_controls(text: str) -> None:
    shown = visible(text)
    assert len(f"{shown}.".splitlines()) == 1
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in shown)
    assert visible_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("＝1", "'＝1"),
        ("paper_high_32", "paper_high_32"),
        ("a=b", "a=b"),
        ("a\x1b[2J", r"a\x1b[2J"),
        ("", ""),
        (-1.5, -1.5),
        (None, None),
        (True, True),
    ],
)
def test_no_text_is_a_formula(value: object, expected: object) -> None:
    assert spreadsheet_cell(value) == expected


def test_problems_show_paths_values_and_sources() -> None:
    problem = Problem("a\x1b[2J", "is \u202e", "drop\nit")
    assert str(problem) == r"a\x1b[2J is \u202e; drop\nit"
    text = str(ScenarioError([problem], "s\x1b[2J\n.yaml"))
    assert text.splitlines()[0] == r"s\x1b[2J\n.yaml: 1 problem"
    assert visible_lines(text) == text


def test_an_error_about_a_value_shows_it() -> None:
    with pytest.raises(ScenarioError) as caught:
        scenarios.read(
            "mixed_ranks", [r'objective="\e[2J\u202e"', r'"\e]0;x\a"=1', r'engine.max_loras="\u200b"']
        )
    assert visible_lines(str(caught.value)) == str(caught.value)
    with pytest.raises(ScenarioError, match=r"\\x1b\[2J\\u202e"):
        scenarios.read("mixed_ranks", [r'objective="\e[2J\u202e"'])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_yaml_hides_nothing_and_reads_back_equal(text: str) -> None:
    scenario = BASE.model_copy(update={"description": text})
    written = scenarios.dumps(scenario)
    assert visible_lines(written) == written
    assert scenarios.loads(written).description == text


def test_of_many_or_long_problems_no_more_is_told_than_anybody_reads() -> None:
    many = [Problem(f"adapters[{k}].rank", "is 7", "use 8") for k in range(120)]
    lines = str(ScenarioError(many, "s.yaml")).split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("s.yaml: 120 problems", "  ... and 70 more", 52)
    long = [Problem(f"column {'x' * 10_000}", "is none of this table's", "remove it") for _ in range(30)]
    text = str(ScenarioError(long, "s.csv"))
    assert text.startswith("s.csv: 30 problems\n  column xxx")
    assert "xxx ... xxx" in text
    assert text.endswith("xxx is none of this table's; remove it\n  ... and 23 more")
    assert len(text) < 16_000
