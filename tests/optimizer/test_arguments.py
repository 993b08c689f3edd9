"""Arguments of the verbs: each wrong one is told in one sentence, by the verb that was called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

import optimizer
import scenarios

SMALL = scenarios.read("paper_mixed_32")
PLACED = scenarios.PlacedGPU(gpu=0, device="H100-64GB", max_loras=8, max_lora_rank=8, adapters=("a",))


def replan(**arguments: object) -> object:
    return optimizer.replan(SMALL, scenarios.Placement(gpus=(PLACED,)), **arguments)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: optimizer.compare(SMALL, "exat"),
            'compare: method is "exat", which does not exist; did you mean "exact"?',
        ),
        (
            lambda: optimizer.solve(SMALL, method="exat"),
            'solve: method is "exat", which does not exist; did you mean "exact"?',
        ),
        (
            lambda: optimizer.compare(SMALL, "greedy, exact"),
            "compare: method is \"greedy, exact\", which does not exist; give a list: ['greedy', 'exact']",
        ),
        (
            lambda: optimizer.compare(SMALL, [None]),  # type: ignore[list-item]
            "compare: method is None, no name; choose from greedy, greedy-fill,",
        ),
        (
            lambda: optimizer.solve(SMALL, method=["exact"]),
            "solve: method is ['exact'], no name; choose from greedy,",
        ),
        (
            lambda: optimizer.compare("mixed_ranks"),
            "compare: scenarios[0] is 'mixed_ranks', no scenario; read one with",
        ),
        (lambda: optimizer.compare(7), "compare: scenarios[0] is 7, no scenario; read one with"),
        (lambda: optimizer.compare(SMALL, gpus=0), "compare: gpus is 0; give a whole number of at least 1"),
        (lambda: optimizer.solve(SMALL, gpus=0), "solve: gpus is 0; give a whole number of at least 1"),
        (lambda: replan(gpus=0), "replan: gpus is 0; give a whole number of at least 1"),
        (
            lambda: optimizer.solve(SMALL, objective="gpus, latency"),
            "solve: objective is \"gpus, latency\"; give a list: ['gpus', 'latency']",
        ),
        (
            lambda: optimizer.solve(SMALL, objective=["latncy"]),
            'solve: objective is "latncy"; did you mean "latency"?',
        ),
        (
            lambda: optimizer.solve(SMALL, objective="beauty"),
            'solve: objective is "beauty"; choose from gpus, cost,',
        ),
        *(
            (
                lambda verb=verb: verb(acceptance="fast"),
                f"{name}: acceptance is 'fast'; give sustained or paper, or None for the scenario's",
            )
            for name, verb in (
                ("solve", partial(optimizer.solve, SMALL)),
                ("compare", partial(optimizer.compare, SMALL)),
                ("replan", replan),
            )
        ),
        (
            lambda: optimizer.solve(SMALL, acceptance=["paper"]),
            "solve: acceptance is ['paper']; give sustained",
        ),
        (lambda: optimizer.solve(SMALL, objective=3), "solve: objective is 3; choose from gpus, cost,"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call: Callable[[], object], said: str) -> None:
    with pytest.raises(scenarios.ScenarioError) as error:
        call()
    (problem,) = error.value.problems
    assert f"{error.value.source}: {problem}".startswith(said)


def test_all_methods_that_do_not_exist_are_told_at_once() -> None:
    with pytest.raises(scenarios.ScenarioError) as error:
        optimizer.compare(SMALL, ["exat", "exact", "magic"])
    first, second = map(str, error.value.problems)
    assert first.endswith('did you mean "exact"?')
    assert second.endswith("cbc or a baseline: `lorapack methods` lists them all")
