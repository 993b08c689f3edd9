"""How far a load may grow, asked of judges whose boundary the test knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from scenarios import Stopped
from twin import GPUVerdict, LoadGrowth, load_growths
from twin.load_growth import LONGEST_STEP, FineSteps
from twin.verdict import REJECTED_MARGIN

STEPS = FineSteps(relative_tolerance=0.2, longest_first_step=0.15, max_questions=6)
"""Few questions, as of a search that asks about many contents."""


def verdict(accepted: bool, margin: float | None) -> GPUVerdict:
    return GPUVerdict(
        accepted=accepted, offered_tok_per_s=1.0, served_tok_per_s=1.0, served_share=1.0, worst_adapter=None,
        worst_served_share=1.0, itl_ms=None, ttft_ms=None, itl_p99_ms=None, ttft_p99_ms=None,
        kv_cache_tokens=1, margin=margin,
    )  # fmt: skip


class Boundary:
    """Accepts loads up to a factor; the margin is a function of the distance from it in ln(load)."""

    def __init__(self, log: float, margin: Callable[[float], float]) -> None:
        self.log, self.margin = log, margin
        self.asked: list[float] = []

    def __call__(self, asked: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
        loads = [math.log(factor) for _, factor in asked]
        self.asked += loads
        return [self.verdict(load) for load in loads]

    def verdict(self, at: float) -> GPUVerdict:
        accepted = at <= self.log
        return verdict(accepted, self.margin(self.log - at))


def found(judge: Boundary, steps: FineSteps = STEPS) -> LoadGrowth | None:
    return load_growths([judge.verdict(0.0)], judge, steps)[0]


MARGINS: dict[str, Callable[[float], float]] = {
    "as steep as the load": lambda d: d,
    "steep": lambda d: 20 * d,
    "saturated where accepted": lambda d: min(d, 0.001),
    "silent": lambda d: math.copysign(0.5, d),
}


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("log", [-0.3, -0.08, -0.02, -0.003, 0.004, 0.03, 0.12])
def test_the_boundary_is_within_the_error(log: float, margin: str) -> None:
    judge = Boundary(log, MARGINS[margin])
    growth = found(judge)
    assert growth is not None
    assert abs(growth.log - log) <= growth.error + 1e-12
    assert len(judge.asked) <= STEPS.max_questions
    if margin == "as steep as the load":
        assert 2 * growth.error <= max(STEPS.tolerance, STEPS.relative_tolerance * abs(growth.log)) + 1e-12
        assert len(judge.asked) <= 4


def test_what_the_load_does_not_change_is_no_lesson() -> None:
    for log in (math.inf, -math.inf):
        judge = Boundary(log, lambda d: math.copysign(0.1, d))
        assert found(judge) is None
        assert len(judge.asked) == STEPS.max_questions


def test_contents_are_asked_about_together() -> None:
    questions: list[list[int]] = []
    inner = Boundary(-0.05, lambda d: d)

    def ask(asked: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
        questions.append([k for k, _ in asked])
        return inner(asked)

    one, two = load_growths([inner.verdict(0.0)] * 2, ask, STEPS)
    assert one == two
    assert all(asked == [0, 1] for asked in questions)


@pytest.mark.parametrize("log", [-9.0, -0.4, 3.0, 9.0])
def test_a_change_however_far_is_found_to_a_percent_without_wild_loads(log: float) -> None:
    """Of a nearly idle GPU the change is far; a load far beyond it would have too many requests to draw."""
    judge = Boundary(log, lambda d: math.copysign(0.5, d))
    growth = found(judge, FineSteps())
    assert growth is not None
    assert growth.accepted_factor <= math.exp(log) <= growth.accepted_factor * 1.0101
    assert max(judge.asked) <= max(log, 0.0) + LONGEST_STEP


def test_the_end_is_not_swallowed() -> None:
    def ask(_asked: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
        raise Stopped("the time limit was reached while the twin was judging")

    with pytest.raises(Stopped):
        load_growths([verdict(False, -0.1)], ask, STEPS)


@pytest.mark.parametrize(
    ("accepted", "margin", "taken"),
    [
        (True, 0.4, 0.4),
        (False, -0.2, -0.2),
        (True, -0.1, 0.0),
        (False, 0.3, -REJECTED_MARGIN),
        (False, None, -math.inf),
        (True, None, 0.0),
    ],
)
def test_the_margin_has_the_sign_of_the_verdict(accepted: bool, margin: float | None, taken: float) -> None:
    """Growth, a single adapter or an hour may reject what all smooth measures accept."""
    assert verdict(accepted, margin).signed_margin == taken
