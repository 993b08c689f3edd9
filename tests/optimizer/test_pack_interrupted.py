"""Ctrl-C in the middle of any method returns the best plan so far; a killed solver costs its proof alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pulp
import pytest

from optimizer.packing import pack
from optimizer.packing.model.problem import PackingOption, PackingProblem
from scenarios import OutputFileError


def many_plans(objective: str) -> PackingProblem:
    """No method is through with it within minutes."""
    rng = np.random.default_rng(0)
    option = PackingOption(
        "x",
        rng.uniform(0.1, 0.5, (4, 60)),
        np.ones(4),
        latency_usage=rng.uniform(0, 1, (1, 60)),
        latency_offset=np.zeros(1),
    )
    return PackingProblem(np.ones(60, dtype=int), (option,), max_bins=25, objective=objective)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("method", "objective"), [("cpsat", "price"), ("milp", "price"), ("cbc", "price"), ("exact", "worst")]
)
def test_ctrl_c_returns_the_best_plan(
    method: str, objective: str, press_ctrl_c: Callable[[float], None]
) -> None:
    plans: list[float] = []

    def tell(_packing: object, value: float) -> None:
        if not plans:
            press_ctrl_c(0.5)  # the solver is at work
        plans.append(value)

    result = pack(many_plans(objective), method, time_limit_s=120, on_incumbent=tell)
    assert (result.stop_reason, result.objective) == ("interrupted", plans[-1])


PROBLEM = PackingProblem.bin_packing([6, 5, 4, 4, 3, 3], capacity=10)


def test_a_solver_that_is_ended_from_outside_costs_its_proof_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pack(PROBLEM, "cbc")
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", shutil.which("false"))
    killed = pack(PROBLEM, "cbc")
    assert (whole.status, whole.message) == ("optimal", "")
    assert killed.objective == whole.objective  # best fit's
    assert killed.message == "CBC was ended from outside, as where memory runs out, and has no answer"


def test_files_of_a_solver_go_where_there_is_room_and_those_of_killed_processes_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".lorapack-0123456789ab"
    left.mkdir()
    (left / "packing.mps").write_text("half")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert pack(PROBLEM, "cbc").status == "optimal"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(OutputFileError, match=r"CBC's files cannot be written .* name a folder .* TMPDIR"):
        pack(PROBLEM, "cbc")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a blank"))
    with pytest.raises(OutputFileError, match=r"CBC takes no files in .*a blank.* name another .* TMPDIR"):
        pack(PROBLEM, "cbc")
