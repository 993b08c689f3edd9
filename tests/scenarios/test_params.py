"""Groups of parameters: ranges, TOML, what differs from the defaults."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from scenarios import Params, ScenarioError, params_from, read_params
from scenarios.params import parameter_table


class Cooling(Params):
    start: Annotated[float, Field(gt=0)] = 1.0
    """Temperature at the start."""
    steps: tuple[Annotated[int, Field(ge=1)], ...] = (3, 5)
    """Steps per stage."""


class Search(Params):
    cooling: Cooling = Cooling()
    rounds: Annotated[int, Field(ge=1, le=10)] = 4
    """Most rounds."""


def test_a_file_changes_what_it_names(tmp_path):
    file = tmp_path / "params.toml"
    file.write_text("rounds = 5\n[cooling]\nstart = 2\nsteps = [1]\n")
    params = read_params(file, Search)
    assert params == Search(rounds=5, cooling=Cooling(start=2.0, steps=(1,)))
    assert params.changed() == {"rounds": 5, "cooling": {"start": 2.0, "steps": (1,)}}
    assert Search().changed() == {} == params_from({}, Search).changed()


def test_everything_wrong_is_told_with_path_value_and_remedy(tmp_path):
    file = tmp_path / "params.toml"
    file.write_text("rounds = 11\n[cooling]\nstart = '1'\nstpes = [1]\n")
    with pytest.raises(ScenarioError) as error:
        read_params(file, Search)
    text = str(error.value)
    assert "rounds is 11; give at most 10 (Most rounds)" in text
    assert 'cooling.start is the text "1"; give a number (Temperature at the start)' in text
    assert 'cooling.stpes is not a key that exists here; did you mean "steps"?' in text


@pytest.mark.parametrize(("text", "message"), [("a = ", "is no TOML"), (None, "does not exist")])
def test_what_is_no_file_of_parameters(tmp_path, text, message):
    file = tmp_path / "params.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ScenarioError, match=message):
        read_params(file, Search)


def test_parameters_are_frozen():
    with pytest.raises(ScenarioError, match="rounds cannot be changed"):
        Search().rounds = 3


def test_a_description_of_two_lines_is_one_sentence_in_a_message():
    class Wide(Params):
        rounds: Annotated[int, Field(ge=1)] = 4
        """Most rounds,
        all told."""

    with pytest.raises(ScenarioError, match=r"rounds is 0; give at least 1 \(Most rounds, all told\)"):
        params_from({"rounds": 0}, Wide)


def test_the_table_has_default_range_and_meaning():
    assert parameter_table(Search) == [
        ("cooling.start", "1.0", "above 0", "Temperature at the start."),
        ("cooling.steps", "[3, 5]", "at least 1", "Steps per stage."),
        ("rounds", "4", "at least 1 and at most 10", "Most rounds."),
    ]
