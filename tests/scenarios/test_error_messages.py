"""What pydantic refuses, in a user's words: choices come from the models, whatever their names look like."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Discriminator, Field, Tag, ValidationError

from scenarios import FrozenModel, ScenarioError, loads
from scenarios.reading.error_messages import problems
from scenarios.text.formatting import listed, nearest

AWKWARD = ("a, b", "this or that", "it's", 'say "x"')


class Plain(FrozenModel):
    form: Literal["plain, short"] = "plain, short"
    size: Literal[1, 2] = 1


class Other(FrozenModel):
    form: Literal["one or the other", "it's"] = "it's"
    size: Literal["s, m", "l"] = "l"


class Model(FrozenModel):
    word: Literal["a, b", "this or that", "it's", 'say "x"'] | None = None
    words: tuple[Literal["a, b", "c"], ...] = ()
    table: dict[str, Literal["x or y", "z"]] = Field(default_factory=dict)
    union: Annotated[Plain | Other, Field(discriminator="form")] | None = None
    either: Annotated[
        Annotated[Literal["one, two"], Tag("text")] | Annotated[tuple[Literal["3"], ...], Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, tuple) else "text"),
    ] = "one, two"


def messages(values: dict[str, object]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(values, strict=True)
    return [str(problem) for problem in problems(caught.value.errors(), Model, values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"word": 3}, 'word is 3; use a, b, this or that, it\'s or say "x"'),
        ({"words": ("c", "d")}, 'words[1] is the text "d"; use a, b or c'),
        ({"table": {"k": "x"}}, 'table.k is the text "x"; use x or y or z'),
        ({"either": 1}, "either is 1; use one, two"),
        ({"either": ("3", 4)}, "either[1] is 4; use 3"),
        ({"union": {}}, "union.form is missing; add it: it's, one or the other or plain, short"),
        ({"union": {"form": 1}}, "union.form is 1; use plain, short, one or the other or it's"),
        ({"union": {"form": "plain, short", "size": 3}}, "union.size is 3; use 1 or 2"),
        (
            {"union": {"form": "plain, short", "length": 3}},
            "union.length is not a key that exists here; remove it; the keys are form and size",
        ),
    ],
)
def test_choices_are_those_of_the_model(values: dict[str, object], expected: str) -> None:
    assert messages(values) == [expected]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("{zipf: 6}", 'adapters[0].rate.zipf is not a key that exists here; did you mean "zipf_total"?'),
        ("{zipf_totl: 6}", "adapters[0].rate.zipf_totl is not a key that exists here; did you mean"),
        ("{exponent: 1}", "adapters[0].rate.zipf_total is missing; add it"),
        ("{one: 1, zipf_total: 6}", "adapters[0].rate.one is not a key that exists here; remove it"),
        ("1,5", "adapters[0].5 is not a key that exists here; write lists in brackets, as [8, 16], and dec"),
        ("[1, x]", 'adapters[0].rate[1] is the text "x"; give a number'),
    ],
)
def test_the_path_of_a_wrong_rate_is_that_of_the_file(rate: str, expected: str) -> None:
    text = (
        "name: x\nmodel: llama-3.1-8b-instruct\ndevices: H100-64GB\nworkload: {prompt: 9, output: 9}\n"
        f"adapters:\n- {{name: a, rank: 8, rate: {rate}}}\n"
    )
    with pytest.raises(ScenarioError) as caught:
        loads(text)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"line 6: {expected}")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("zipf", "zipf_total"),
        ("ttf", None),  # two begin with it, and none is near
        ("price", "price_per_hour"),  # though it is nearer to profile
        ("pr", None),
        ("exponnt", "exponent"),
    ],
)
def test_the_beginning_of_one_word_only_is_a_near_miss(word: str, meant: str | None) -> None:
    known = [
        "zipf_total",
        "profile",
        "exponent",
        "price_per_hour",
        "ttf_one_long_name",
        "ttf_other_long_name",
    ]
    assert nearest(word, known) == meant


@pytest.mark.parametrize("word", AWKWARD)
def test_a_near_miss_of_an_awkward_name_is_the_whole_name(word: str) -> None:
    (message,) = messages({"word": f"{word}?"})
    assert f'did you mean "{word}"? use ' in message


@pytest.mark.parametrize(
    ("names", "words"),
    [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c", "d"], "a, b and 2 more")],
)
def test_names_in_a_row_are_none_or_named_or_counted(names: list[str], words: str) -> None:
    assert listed(names, 2) == words
