"""Which options are worth opening: none is left out that some packing needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from optimizer.packing import pack
from optimizer.packing.model.options import useful_options
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem
from scenarios import EngineOption

ONE = PackingOption("one", np.array([[1.0, 2.0]]), np.array([4.0]), option=EngineOption("gpu", 4, 8))
OTHER = replace(ONE, name="other", option=EngineOption("gpu", 8, 8))


def test_of_options_that_hold_the_same_the_first_is_kept() -> None:
    assert useful_options(PackingProblem(np.array([3, 3]), (ONE, OTHER))) == (0,)
    wider = replace(OTHER, capacity=np.array([5.0]))
    assert useful_options(PackingProblem(np.array([3, 3]), (ONE, wider))) == (1,)
    dearer = replace(wider, price=2.0)
    assert useful_options(PackingProblem(np.array([3, 3]), (ONE, dearer))) == (0, 1)


def test_an_option_that_a_cut_narrows_makes_none_superfluous_that_it_does_not() -> None:
    """Two bins of the other option hold all; of the one with the cut it would be more."""
    cut = NoGoodCut((0,), np.array([1, 1]))
    problem = PackingProblem(np.array([2, 3]), (ONE, OTHER), cuts=(cut,))
    assert useful_options(problem) == (1,)
    assert pack(problem).objective == pack(problem, "cpsat").objective == 2


def test_an_option_of_which_there_are_few_makes_none_superfluous() -> None:
    few = replace(ONE, limit=1)
    problem = PackingProblem(np.array([3, 3]), (few, OTHER))
    assert useful_options(problem) == (1,)
    assert pack(problem).objective == 3
    apart = replace(OTHER, option=EngineOption("elsewhere", 4, 8))
    assert useful_options(PackingProblem(np.array([3, 3]), (ONE, apart), device_limits={"gpu": 1})) == (1,)


def test_where_latency_counts_an_option_that_is_slower_for_some_contents_makes_none_superfluous() -> None:
    def with_latency(option: PackingOption, slope: float, offset: float) -> PackingOption:
        usage, offsets = np.full((1, 2), slope), np.array([offset])
        return replace(option, latency_usage=usage, latency_offset=offsets)

    steep, late = with_latency(ONE, 2.0, 1.0), with_latency(OTHER, 1.0, 2.0)
    for options, useful in (
        ((steep, late), (0, 1)),
        ((late, steep), (0, 1)),
        ((with_latency(ONE, 1.0, 1.0), late), (0,)),
    ):
        problem = PackingProblem(np.array([1, 1]), options, objective="worst", max_bins=2)
        assert useful_options(problem) == useful
