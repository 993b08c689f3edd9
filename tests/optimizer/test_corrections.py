"""The inner rows corrected by what a twin with known boundaries says of contents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from optimizer.packing.model.problem import FloatArray, PackingOption, PackingProblem
from optimizer.search.corrections import Corrections, Lesson
from optimizer.search.judging import Pattern
from optimizer.search.params import TeachingParams
from scenarios import EngineOption
from scenarios.engine import Regime
from twin import LoadGrowth

SIZES = np.array([0.08, 0.05, 0.02])
COUNTS = np.array([40, 40, 40])
PRECISE = TeachingParams(row_noise=1e-6)


def option(slots: int, rank: int = 8, factor: float = 1.0, regime: Regime = "resident") -> PackingOption:
    usage = np.vstack([factor * SIZES, np.ones(3)])
    engine = EngineOption("gpu", slots, rank)
    return PackingOption("one", usage, np.array([1.0, float(slots)]), option=engine, regime=regime)


def corrections(*options: PackingOption, width: float = 0.1, params: TeachingParams = PRECISE) -> Corrections:
    def outer(one: PackingOption) -> PackingOption:
        return replace(one, usage=one.usage * np.array([[1 - width], [1.0]]))

    inner = PackingProblem(COUNTS, options)
    return Corrections(inner, PackingProblem(COUNTS, tuple(map(outer, options))), params)


def lesson(counts: Sequence[int], log: float, slots: int | None = None, rank: int = 8) -> Lesson:
    used = sum(counts) if slots is None else min(slots, sum(counts))
    return Lesson(Pattern(EngineOption("gpu", used, rank), tuple(counts)), LoadGrowth(log, 1e-6))


def fill(one: PackingOption, counts: Sequence[int]) -> float:
    """How full a GPU is by the rows that are learned."""
    return float(one.usage[0] @ np.array(counts) / one.capacity[0])


@pytest.mark.parametrize("log", [-0.07, -0.01, 0.02, 0.08])
def test_a_judged_content_takes_what_the_twin_says(log: float) -> None:
    judged = (5, 8, 10)
    before = fill(option(32), judged)
    told = lesson(judged, log - math.log(before))
    (corrected,) = corrections(option(32)).rows([told], 0.0)
    assert fill(corrected, judged) == pytest.approx(math.exp(-log) * before, rel=1e-3)


def test_without_lessons_the_rows_are_the_inner_ones_and_the_widest_the_outer_ones() -> None:
    two = corrections(option(32), option(64))
    alike = TeachingParams(common_share=1.0)
    for k, (inner, outer) in enumerate(zip(two.inner.options, two.outer.options, strict=True)):
        assert (two.rows([], 0.0)[k].usage == inner.usage).all()
        wide = corrections(option(32), option(64), params=alike).rows([], 1.0)[k]
        assert wide.usage == pytest.approx(outer.usage)
        assert (corrections(option(32), option(64), params=alike).rows([], 5.0)[k].usage >= outer.usage).all()


def test_rows_are_never_wider_than_the_outer_ones() -> None:
    (corrected,) = corrections(option(32), width=0.05).rows([lesson((4, 6, 8), 0.6)], 3.0)
    assert (corrected.usage[0] >= 0.95 * SIZES - 1e-12).all()


def test_rows_that_are_rules_stay_as_they_are() -> None:
    (corrected,) = corrections(option(32)).rows([lesson((5, 8, 10), -0.3)], 0.0)
    assert (corrected.usage[1] == 1).all()
    assert (corrected.capacity == option(32).capacity).all()


def test_classes_that_are_not_in_a_content_are_corrected_less() -> None:
    own = TeachingParams(row_noise=1e-6, common_share=0.0, class_distance=0.05)
    (corrected,) = corrections(option(32), params=own).rows([lesson((8, 0, 0), 0.2)], 0.0)
    changes = corrected.usage[0] / SIZES
    assert changes[0] > 1.2
    assert changes[2] == pytest.approx(1.0, abs=1e-6)


def test_a_lesson_is_of_the_first_variant_that_admits_its_content() -> None:
    """Of GPUs without the third class nothing is said by one that holds it, and the other way round."""
    base = replace(option(32), allowed=np.array([True, True, False]))
    strict = replace(option(32, factor=1.2), variant=1)
    two = corrections(base, strict)
    admitted, refused = lesson((5, 8, 0), 0.3), lesson((5, 8, 4), 0.2)
    of_base, of_strict = two.rows([admitted], 0.0)
    assert (of_base.usage[0] < base.usage[0]).all()
    assert (of_strict.usage == strict.usage).all()
    of_base, of_strict = two.rows([refused], 0.0)
    assert (of_base.usage == base.usage).all()
    assert (of_strict.usage[0] < strict.usage[0]).all()


def test_what_is_learned_falls_with_the_distance_of_options() -> None:
    one = corrections(option(16), option(32), option(128), option(32, rank=64))
    counts = (4, 8, 8)  # 20 adapters: at home with 32 slots
    told = lesson(counts, -0.1 - math.log(fill(option(32), counts)))
    same, near, far, other = (
        fill(o, counts) / fill(option(32), counts) for o in (one.rows([told], 0.0)[k] for k in (1, 0, 2, 3))
    )
    assert same == pytest.approx(math.exp(0.1), rel=1e-3)
    assert same > near > far > other > 1


def test_a_rejected_content_is_outside_however_optimistic_the_rows_are() -> None:
    """Also of an option for more adapters than slots, which would run it as the judged GPU did."""
    wide = corrections(option(32), option(32, regime="shared"), width=0.3)
    counts = (6, 8, 8)
    inside = 0.85 / fill(option(32), counts)
    many = corrections(option(32, factor=inside), option(32, factor=inside, regime="shared"), width=0.3)
    told = lesson(counts, -0.02)
    for rows in (wide.rows([told], 0.0), many.rows([told], 1.0), many.rows([told], 3.0)):
        assert all(fill(one, counts) >= math.exp(0.02) - 1e-3 for one in rows)


def test_what_fits_a_gpu_alone_goes_on_to_do_so() -> None:
    big = replace(option(32), usage=np.vstack([[0.99, 0.05, 0.02], np.ones(3)]))
    (corrected,) = corrections(big).rows([lesson((0, 8, 20), -0.5)], 0.0)
    assert corrected.usage[0, 0] <= 1.0


def test_lessons_in_another_order_teach_the_same() -> None:
    told = [lesson((5, 8, 10), -0.05), lesson((10, 1, 2), 0.03), lesson((1, 2, 28), -0.01)]
    one, other = (corrections(option(32), option(64)).rows(order, 0.5) for order in (told, told[::-1]))
    for a, b in zip(one, other, strict=True):
        assert a.usage == pytest.approx(b.usage, rel=1e-9)


def test_a_true_boundary_is_approached_as_lessons_come() -> None:
    """A twin whose row is up to 15 % off, by class: what is not judged is predicted ever better."""
    truth: FloatArray = SIZES * np.array([1.15, 1.02, 0.95])
    rng = np.random.default_rng(3)

    def content() -> tuple[int, ...]:
        counts = rng.integers(1, 12, 3)
        return tuple(int(n) for n in np.maximum(counts / (truth @ counts), 1))

    held_out = [content() for _ in range(40)]
    params = TeachingParams(row_noise=0.01, common_share=0.3)
    errors = []
    for number in (0, 1, 4, 12):
        told = [
            lesson(counts, -math.log(truth @ np.array(counts)))
            for counts in (content() for _ in range(number))
        ]
        (corrected,) = corrections(option(64), width=0.15, params=params).rows(told, 0.0)
        errors.append(np.std([fill(corrected, counts) - truth @ np.array(counts) for counts in held_out]))
    assert errors[3] < errors[0] / 2
