"""How far a load may grow, asked of judges whose boundary the test knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from optimizer.search.judging import NEAR, Pattern, margin_of
from optimizer.search.lessons.growth import Growth, growths
from optimizer.search.params import TeachingParams
from scenarios import UNLIMITED, EngineOption, Stopped
from twin import GPUVerdict

PARAMS = TeachingParams()
PATTERN = Pattern(EngineOption("gpu", 8, 8), (3, 2))


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

    def __call__(self, patterns: Sequence[Pattern], _deadline: object = None) -> list[GPUVerdict]:
        self.asked += [math.log(p.load) for p in patterns]
        return [self._verdict(math.log(p.load)) for p in patterns]

    def _verdict(self, at: float) -> GPUVerdict:
        accepted = at <= self.log
        return verdict(accepted, self.margin(self.log - at))


def found(judge: Boundary) -> Growth | None:
    first = judge([PATTERN])
    judge.asked.clear()
    return growths(judge, [PATTERN], first, PARAMS, UNLIMITED)[0]  # type: ignore[arg-type]


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
    assert len(judge.asked) <= PARAMS.max_questions
    if margin == "as steep as the load":
        assert 2 * growth.error <= max(PARAMS.tolerance, PARAMS.relative_tolerance * abs(growth.log)) + 1e-12
        assert len(judge.asked) <= 4


def test_what_the_load_does_not_change_is_no_lesson() -> None:
    for log in (math.inf, -math.inf):
        judge = Boundary(log, lambda d: math.copysign(0.1, d))
        assert found(judge) is None
        assert len(judge.asked) == PARAMS.max_questions


def test_contents_are_asked_about_together() -> None:
    asked: list[int] = []
    inner = Boundary(-0.05, lambda d: d)

    def judge(patterns: Sequence[Pattern], deadline: object = None) -> list[GPUVerdict]:
        asked.append(len(patterns))
        return inner(patterns, deadline)

    other = Pattern(PATTERN.option, (1, 1))
    first = inner([PATTERN, other])
    one, two = growths(judge, [PATTERN, other], first, PARAMS, UNLIMITED)  # type: ignore[arg-type]
    assert one == two
    assert set(asked) == {2}


def test_the_end_is_not_swallowed() -> None:
    def judge(_patterns: Sequence[Pattern], _deadline: object = None) -> list[GPUVerdict]:
        raise Stopped("the time limit was reached while the twin was judging")

    with pytest.raises(Stopped):
        growths(judge, [PATTERN], [verdict(False, -0.1)], PARAMS, UNLIMITED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accepted", "margin", "taken"),
    [
        (True, 0.4, 0.4),
        (False, -0.2, -0.2),
        (True, -0.1, 0.0),
        (False, 0.3, -NEAR),
        (False, None, -math.inf),
        (True, None, 0.0),
    ],
)
def test_the_margin_has_the_sign_of_the_verdict(accepted: bool, margin: float | None, taken: float) -> None:
    """Growth, a single adapter or an hour may reject what all smooth measures accept."""
    assert margin_of(verdict(accepted, margin)) == taken
