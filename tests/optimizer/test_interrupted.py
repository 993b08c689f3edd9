"""An interruption at any moment at which a search looks up: what was cut short proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimizer.packing import methods, pack
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status, StopReason
from optimizer.packing.warm_up import compile_kernels
from optimizer.search.cut_loop import CutLoop
from optimizer.search.minimize_gpus import GPUMinimum, Search, minimize_gpus
from scenarios import UNLIMITED, Deadline, EngineOption, noticed
from scenarios.stopping import interrupts
from tests.slow import slow
from twin import GPUVerdict


class Looks:
    """What the process has been asked: nothing, until so many times somebody has looked."""

    def __init__(self, before: int) -> None:
        self.before, self.depth, self.lock = before, 0, interrupts._notice.lock
        self.leave, self.threads, self.looks = None, list[Any](), 0

    @property
    def requests(self) -> int:
        self.looks += 1
        return int(self.looks > self.before)

    @requests.setter
    def requests(self, number: int) -> None:
        """The end of a block takes requests back; here they stay."""


@contextmanager
def interrupted_after(looks: int) -> Iterator[Looks]:
    before, interrupts._notice = interrupts._notice, Looks(looks)  # type: ignore[assignment]
    try:
        yield interrupts._notice  # type: ignore[misc]
    finally:
        interrupts._notice = before


def at_every_look(run: Callable[[], Any]) -> Iterator[tuple[int, Any]]:
    """Results of a search that is interrupted at its first look, its second, and ever later ones."""
    moment = 0
    while True:
        with interrupted_after(moment) as notice:
            result = run()
        yield moment, result
        if notice.looks <= moment:
            return
        moment += 1 + moment // 8


def hold(result: PackingResult, problem: PackingProblem, optimum: float) -> None:
    """Whatever a result says is true."""
    if np.isfinite(optimum):
        assert result.status is not Status.INFEASIBLE
        assert result.bound <= optimum * (1 + 1e-6)
    if result.packing is not None:
        assert result.objective == pytest.approx(problem.value(result.packing))
        assert result.objective >= optimum * (1 - 1e-6)
    if result.status is Status.OPTIMAL:
        assert result.objective == pytest.approx(optimum, rel=1e-6)
    assert (result.stop_reason is StopReason.PROVEN) == (result.status in (Status.OPTIMAL, Status.INFEASIBLE))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["exact", "cpsat", "milp", "local"])
def test_an_interrupted_placer_says_nothing_false(
    method: str,
    seed: int,
    random_problem: Callable[..., PackingProblem],
    optimum: Callable[[PackingProblem], float],
) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 1)
    best = optimum(problem)
    for _, result in at_every_look(lambda: pack(problem, method, time_limit_s=20)):
        hold(result, problem, best)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", ["worst", "mean"])
def test_an_interrupted_search_for_latency_says_nothing_false(
    objective: str,
    seed: int,
    random_problem: Callable[..., PackingProblem],
    optimum: Callable[[PackingProblem], float],
) -> None:
    problem = random_problem(seed, objective=objective)
    best = optimum(problem)
    for _, result in at_every_look(lambda: pack(problem, "exact", time_limit_s=20)):
        hold(result, problem, best)


def test_an_interrupted_search_through_columns_says_nothing_false() -> None:
    """Sixty items that all differ: column generation, diving, restricted masters and the rest."""
    rng = np.random.default_rng(5)
    option = PackingOption("x", rng.uniform(0.1, 0.5, (3, 24)), np.ones(3))
    problem = PackingProblem(np.ones(24, dtype=int), (option,))
    whole = pack(problem, "exact", time_limit_s=60)
    assert whole.status is Status.OPTIMAL
    best = whole.objective
    assert best is not None
    moments = 0
    for _, result in at_every_look(lambda: pack(problem, "exact", time_limit_s=60)):
        hold(result, problem, best)
        moments += 1
    assert moments > 5


def test_a_known_bound_that_was_wrong_is_no_proof_either() -> None:
    option = PackingOption("x", np.array([[0.4, 0.3]]), np.ones(1))
    problem = PackingProblem(np.array([4, 4]), (option,))
    best = pack(problem).objective
    assert best is not None
    for _, result in at_every_look(lambda: pack(problem, known_bound=best + 3)):
        if result.status is Status.OPTIMAL:
            assert result.objective == best


# --- the loop with the twin --------------------------------------------------------------------------


def verdict(accepted: bool) -> GPUVerdict:
    return GPUVerdict(
        gpu=0, accepted=accepted, offered_tok_per_s=100.0,
        served_tok_per_s=100.0, served_share=1.0, worst_adapter=None, worst_served_share=1.0, itl_ms=10.0,
        ttft_ms=20.0, itl_p99_ms=10.0, ttft_p99_ms=20.0, kv_cache_tokens=1000,
    )  # fmt: skip


SIZES = np.array([3.0, 2.0])


def problem_of(capacity: float) -> PackingProblem:
    option = PackingOption("gpu", SIZES[None, :], np.array([capacity]), option=EngineOption("gpu", 64, 0))
    return PackingProblem(np.array([6, 6]), (option,), dominance=SIZES[:, None], max_bins=20)


@pytest.mark.parametrize("truly", [6.0, 10.0, 12.0, *slow([8.0])])
@pytest.mark.parametrize("method", ["exact", "bfd"])
def test_an_interrupted_search_with_the_twin_proves_nothing(method: str, truly: float) -> None:
    """The linear model holds GPUs to be smaller than they are; the twin accepts what truly fits."""

    def judge(patterns: Sequence[Any], deadline: Deadline = UNLIMITED) -> list[GPUVerdict]:
        told = []
        for pattern in patterns:
            deadline.check("the twin was judging")
            told.append(verdict(pattern.load * float(SIZES @ np.array(pattern.counts)) <= truly))
        return told

    fewest = pack(problem_of(truly)).objective
    assert fewest is not None

    def run() -> GPUMinimum:
        instance: Any = SimpleNamespace(
            inner=problem_of(6.0), outer=problem_of(13.0), divisible=None, scenario=SimpleNamespace(seed=0)
        )
        search = Search(instance, methods()[method], CutLoop(judge))  # type: ignore[arg-type]
        with noticed():
            return minimize_gpus(search, Deadline.after(60))

    compile_kernels()
    found = set[float]()
    for _, search in at_every_look(run):
        assert not search.infeasible
        assert (search.outer_bound or 0.0) <= fewest
        if search.best is not None:
            assert search.best.value >= fewest
            found.add(search.best.value)
            if search.proven:
                assert search.best.value == fewest
    assert len(found) >= 1
