"""Golden LP texts of the assignment model, one problem per family of rows, beside what each must mean.

After a change that is meant, ``python tests/optimizer/test_packing_models.py`` writes them anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.packing import pack
from optimizer.packing.assignment.formulation import assignment_model
from optimizer.packing.assignment.milp import lp_text
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem
from scenarios import EngineOption

GOLDEN = Path(__file__).parents[1] / "golden"


def base() -> PackingProblem:
    """Three classes, two kinds of bins; class 2 enters the large one only."""
    small = PackingOption(
        "small", np.array([[3.0, 2.0, 5.0]]), np.array([6.0]), allowed=np.array([True, True, False]),
        option=EngineOption("s", 1, 0),
        latency_usage=np.array([[2.0, 1.0, 4.0]]), latency_offset=np.array([1.0]),
    )  # fmt: skip
    large = PackingOption(
        "large", np.array([[3.0, 2.0, 5.0], [1.0, 1.0, 1.0]]), np.array([11.0, 4.0]), price=1.5,
        option=EngineOption("l", 1, 0),
        latency_usage=np.array([[1.0, 1.0, 2.0]]), latency_offset=np.array([2.0]),
    )  # fmt: skip
    return PackingProblem(np.array([3, 2, 1]), (small, large))


def golden_problems() -> dict[str, tuple[PackingProblem, int]]:
    """Problems by the name of their file, with the number of bins."""
    plain = base()
    limited = (replace(plain.options[0], limit=1), plain.options[1])
    dominance = np.array([[1, 0], [0, 0], [-1, 1]])  # class 0 is heavier than 1, 2 is like none
    return {
        "packing_rows": (plain, 2),
        "packing_limits": (replace(plain, options=limited, device_limits={"l": 2}, budget=4.0), 3),
        "packing_cut": (replace(plain, cuts=(NoGoodCut((1,), np.array([1, 1, 1])),), dominance=dominance), 1),
        "packing_worst": (replace(plain, objective="worst", max_bins=2), 2),
        "packing_mean": (replace(plain, objective="mean", max_bins=2), 2),
    }


@pytest.mark.parametrize("name", sorted(golden_problems()))
def test_the_model_is_the_golden_one(name: str) -> None:
    problem, bins = golden_problems()[name]
    assert lp_text(problem, bins) == (GOLDEN / f"{name}.lp").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(golden_problems()))
def test_a_packing_satisfies_every_row_of_its_model(name: str) -> None:
    problem, _ = golden_problems()[name]
    packing = pack(problem, "cpsat").packing
    assert packing is not None
    built = assignment_model(problem, problem.max_bins or len(packing))
    values = built.values(packing)
    assert values is not None
    free = {v for v in range(len(built.formulation.variables)) if v not in values}
    for row in built.formulation.rows:
        if not any(v in free for v, _ in row.terms):
            total = sum(a * values[v] for v, a in row.terms)
            assert row.lower is None or total >= row.lower, row.name
            assert row.upper is None or total <= row.upper, row.name


if __name__ == "__main__":
    for file, (shown, count) in golden_problems().items():
        (GOLDEN / f"{file}.lp").write_text(lp_text(shown, count), encoding="utf-8")
