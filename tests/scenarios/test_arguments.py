"""Rules of arguments, and errors that tell all that is wrong."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from optimizer.packing import PackingError, PackingOption
from scenarios import Problem, ScenarioError
from scenarios.arguments import ArgumentCheck, instance_of, is_number, number, refuse, whole
from scenarios.errors import InputError


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (whole(least=1), (1, np.int64(7)), (0, -1, 1.0, True, "1", None)),
        (number(above=0), (0.5, 3, np.float64(1)), (0, -1.0, float("inf"), float("nan"), False, "1")),
        (number(least=0, below=1), (0, 0.99), (1, -1e-9, float("nan"))),
        (instance_of(str), ("a",), (b"a", 1)),
        (is_number, (1, 0.5, float("inf")), (True, float("nan"), "1", 1j)),
    ],
)
def test_rules(rule, kept, broken):
    assert all(rule(value) for value in kept)
    assert not any(rule(value) for value in broken)


def test_all_problems_are_told_at_once():
    given = ArgumentCheck("solve")
    given.check("gpus", 0, whole(least=1), "give more")
    given.check("workers", 2, whole(least=1), "give more")
    given.check("objective", "speed", bool, "never told")
    given.check("method", "magic", lambda _: False, "choose another", 'is "magic"')
    with pytest.raises(ScenarioError) as error:
        given.refuse()
    assert [str(p) for p in error.value.problems] == [
        "gpus is 0; give more",
        'method is "magic"; choose another',
    ]
    ArgumentCheck("solve").refuse()
    refuse([], ScenarioError)


def test_errors_of_input_have_one_base_and_survive_a_pickle():
    with pytest.raises(PackingError) as error:
        PackingOption("x", np.array([[-1.0, 1.0]]), np.array([-2.0]), price=0.0)
    assert str(error.value).splitlines() == [
        'option "x": usage[0, 0] is -1, below 0; replace it by 0, which is conservative',
        'option "x": capacity -2 is below 0; drop the option',
        'option "x": price is 0, must be above 0; give what a bin costs, or 1',
    ]
    for raised in (error.value, ScenarioError([Problem("a", "is 1", "raise it")], "solve")):
        assert isinstance(raised, InputError)
        assert isinstance(raised, ValueError)
        again = pickle.loads(pickle.dumps(raised))
        assert (type(again), str(again), again.problems) == (type(raised), str(raised), raised.problems)
