"""Values with comments read back as they were, however long they are."""

from __future__ import annotations

import pytest
import yaml

from scenarios.reading.commented_yaml import LONGEST_LINE, Comments, commented_yaml

HOSTILE = [
    'a"b',
    "a'b",
    "a\nb",
    "a: b # c",
    "../../etc",
    "$(touch x)",
    "{{ x }}",
    "%i",
    "é漢",
    "x" * 200,
    " a  b ",
    "",
]

VALUES: list[object] = [
    [f"adapter-{k}" for k in range(100)],
    {f"adapter-{k}": {"source": f"s3://bucket/{k}"} for k in range(50)},
    {"edges": [float(k) for k in range(1, 60)], "weights": [1.0] * 58},
    {name or "none": name for name in HOSTILE},
    HOSTILE * 3,
    [{"name": name, "inner": [1, 2, {"deep": name * 3}]} for name in HOSTILE],
    {"long text": "word " * 100, "other": "tail\n\nand more " * 20},
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("beside", ["", "where it was said"])
def test_long_values_are_laid_out_and_read_back(value: object, beside: str) -> None:
    comments = Comments({("top", "a"): beside} if beside else {}, {})
    for values in ({"a": value, "b": 1}, {"top": {"a": value, "b": [1, 2]}, "c": {"d": value}}):
        text = commented_yaml(values, comments, ("head",))
        assert yaml.safe_load(text) == values


def test_lists_of_names_are_no_longer_than_a_line() -> None:
    text = commented_yaml({"adapters": [f"adapter-{k}" for k in range(100)]}, Comments({}, {}))
    assert max(map(len, text.splitlines())) <= LONGEST_LINE
    assert text.startswith("adapters: [adapter-0, ")


def test_short_values_stay_on_their_line() -> None:
    values = {"workload": {"prompt": {"mean": 10, "std": 2}}}
    assert commented_yaml(values, Comments({}, {})) == "workload: {prompt: {mean: 10, std: 2}}\n"
