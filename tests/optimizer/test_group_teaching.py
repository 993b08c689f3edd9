"""What the twin's margins say of the load of GPUs, and what that changes in the rows of groups."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.search.corrections import Corrections
from optimizer.search.cut_loop import CutLoop
from optimizer.search.grouping.teaching import MarginScale, Teacher, all_sorts
from optimizer.search.judging import Pattern
from optimizer.search.params import GroupingParams, TeachingParams
from scenarios import UNLIMITED, Deadline, EngineOption, Stopped

PARAMS = GroupingParams()
ENGINE = EngineOption("gpu", 16, 8)


@dataclass
class Verdict:
    """Its margin is ten times the logarithm of the growth."""

    log: float
    memory_failure: str | None = None

    @property
    def accepted(self) -> bool:
        return self.log >= 0.0

    @property
    def signed_margin(self) -> float:
        return 10 * self.log


def problem(share: float) -> PackingProblem:
    """Two groups of ten; an item takes a share of the learned row, and of a rule."""
    usage = np.array([[share, 1.5 * share], [1 / 16, 1 / 16]])
    option = PackingOption("gpu", usage, np.ones(2), option=ENGINE, regime="resident")
    return PackingProblem(np.array([10, 10]), (option,))


def taught(judge: Any = None) -> Teacher:
    corrections = Corrections(problem(0.2), problem(0.1), TeachingParams())
    return Teacher(CutLoop(judge), corrections, PARAMS)


def boundary(patterns: Any, deadline: Deadline = UNLIMITED) -> list[Any]:
    """A twin that takes items of 0.15 and 0.225, where the inner rows say 0.2 and 0.3."""
    deadline.check("asking")
    return [Verdict(-math.log(p.load * (0.15 * p.counts[0] + 0.225 * p.counts[1]))) for p in patterns]


def pattern(*counts: int, slots: int = 16, rank: int = 8) -> Pattern:
    """Its engine has no more slots than adapters."""
    return Pattern(EngineOption("gpu", min(slots, sum(counts)), rank), counts)


def test_a_margin_says_how_far_the_load_may_grow() -> None:
    draw = np.random.default_rng(3)
    true = draw.uniform(-0.15, 0.15, 60)
    scale = MarginScale.of([(10 * g, g + draw.normal(0, 0.005)) for g in true], PARAMS)
    assert scale is not None
    assert (np.diff(scale.logs) >= 0).all()
    for log in (-0.1, -0.02, 0.03, 0.12):
        told = scale.growth(Verdict(log))  # type: ignore[arg-type]
        assert told.log == pytest.approx(log, abs=0.012)
        assert told.error < 0.012


def test_beyond_what_was_seen_it_says_no_more_than_was_seen() -> None:
    scale = MarginScale.of([(10 * g, g) for g in np.linspace(-0.1, 0.1, 21)], PARAMS)
    assert scale is not None
    assert scale.growth(Verdict(2.0)).log == pytest.approx(0.1)  # type: ignore[arg-type]
    assert scale.growth(Verdict(-math.inf)).log == pytest.approx(-0.1)  # type: ignore[arg-type]


def test_the_sign_of_a_growth_is_that_of_the_verdict() -> None:
    """Where margins are noisy the regression may say that a rejected load could grow."""
    scale = MarginScale.of([(-0.1, 0.02)] * 5 + [(0.1, 0.03)] * 5, PARAMS)
    assert scale is not None
    assert scale.growth(Verdict(-0.01)).log == 0.0  # type: ignore[arg-type]
    assert scale.growth(Verdict(0.01)).log > 0.0  # type: ignore[arg-type]


def test_too_little_and_what_is_far_away_makes_no_scale() -> None:
    assert MarginScale.of([(1.0, 0.1)] * (PARAMS.least_observations - 1), PARAMS) is None
    assert MarginScale.of([(9.0, 1.5)] * 30, PARAMS) is None
    assert MarginScale.of([(-math.inf, -0.1)] * 30, PARAMS) is None


def test_answers_correct_the_rows_and_all_later_verdicts_are_measurements() -> None:
    teacher = taught(boundary)
    asked = [pattern(k, 6 - k) for k in range(5)]
    inner = problem(0.2)
    assert teacher.likely(inner, 1.0) is inner
    assert teacher.growths(asked, boundary(asked)) == [None] * 5, "nothing is known before"
    assert teacher.ask(asked, boundary(asked), UNLIMITED)
    usage = teacher.likely(problem(0.2)).options[0].usage
    assert usage[0, 0] == pytest.approx(0.15, rel=0.05)
    assert (usage[1] == 1 / 16).all(), "a rule is not learned"
    later = [pattern(2, 3), pattern(4, 1)]
    for found, true in zip(teacher.growths(later, boundary(later)), boundary(later), strict=True):
        assert found is not None
        assert found.log == pytest.approx(true.log, abs=0.03)
    before = len(teacher._lessons)
    teacher.hear(later, boundary(later))
    assert len(teacher._lessons) == before + 2


def test_with_caution_rows_are_narrower() -> None:
    teacher = taught(boundary)
    asked = [pattern(3, 3)]
    teacher.ask(asked, boundary(asked), UNLIMITED)
    likely, careful = (teacher.likely(problem(0.2), c).options[0].usage for c in (0.0, 1.0))
    assert (careful[0] > likely[0]).all()


def test_no_time_teaches_nothing() -> None:
    teacher = taught(boundary)
    assert not teacher.ask([pattern(3, 3)], boundary([pattern(3, 3)]), Deadline.after(0.0))
    assert not teacher._lessons
    with pytest.raises(Stopped):
        boundary([pattern(3, 3)], Deadline.after(0.0))


def test_what_does_not_start_is_not_asked_about() -> None:
    teacher = taught(boundary)
    assert teacher.ask([pattern(3, 3)], [Verdict(-1.0, "no KV block")], UNLIMITED)  # type: ignore[list-item]
    assert not teacher._lessons


def test_no_more_lessons_are_kept_than_so_many() -> None:
    teacher = replace(taught(boundary), params=GroupingParams(lessons=3, asked=8))
    asked = [pattern(k, 6 - k) for k in range(6)]
    teacher.ask(asked, boundary(asked), UNLIMITED)
    assert len(teacher._lessons) == 3


def test_some_gpus_are_of_all_sorts() -> None:
    patterns = [pattern(n, 0, slots=32, rank=r) for r in (8, 16, 32) for n in range(1, 30)]
    chosen = all_sorts(patterns, 9)
    assert len(chosen) == 9
    assert {p.option.max_lora_rank for p in chosen} == {8, 16, 32}
    assert max(p.option.max_loras for p in chosen) - min(p.option.max_loras for p in chosen) > 20
    assert len(all_sorts(patterns[:2], 9)) == 2
