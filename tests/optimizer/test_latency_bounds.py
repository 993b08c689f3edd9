"""Bounds on latencies: no packing has floors below them, and where there is none it is said why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

import scenarios
from optimizer.packing.highs_model import HighsSolution
from optimizer.packing.model.problem import FloatArray
from optimizer.search.instance import Instance
from optimizer.search.latency.floor_relaxation import FloorRelaxation, Piece
from optimizer.search.latency.lower_bound import latency_bound, no_bound
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.search.params import DEFAULTS, LatencyBoundParams
from optimizer.search.preparation import instance_of
from scenarios import UNLIMITED, Deadline
from tests.slow import slow

PARAMS = DEFAULTS.latency_bounds
QUICK = PARAMS.model_copy(update={"rounds": 1, "pieces": 3})
"""Bounds that are true and no more."""
FEW = ("adapters[0].count=3", "adapters[0].rate=2.0")


@cache
def instance(*overrides: str, name: str = "paper_mixed_32") -> Instance:
    return instance_of(scenarios.read(name, overrides=list(overrides)))


@cache
def relaxation(objective: str, gpus: int, *overrides: str) -> FloorRelaxation:
    one = instance(*overrides).priced("gpus", gpus)
    return FloorRelaxation.of(one, LATENCY_OBJECTIVES[objective], one.inner)


def bound(
    objective: str, gpus: int, *overrides: str, held: float = 1e4, params: LatencyBoundParams = PARAMS
) -> float:
    one = instance(*overrides).priced("gpus", gpus)
    found = latency_bound(one, LATENCY_OBJECTIVES[objective], one.inner, held, UNLIMITED, params)
    assert found.value is not None
    assert not found.why_none
    return found.value


def floors(one: Instance, objective: str, contents: FloatArray) -> FloatArray:
    """The least latency of GPUs that hold so many of each class on any option, shape (m,)."""
    relaxation = FloorRelaxation.of(one, LATENCY_OBJECTIVES[objective], one.inner)
    least = np.full(len(contents), np.inf)
    for variant in relaxation.variants:
        option = variant.option
        fits = (contents @ option.usage.T <= option.capacity).all(axis=1)
        fits &= (contents[:, ~option.fits_class] == 0).all(axis=1)
        if fits.any():
            steps = variant.step.least_s(contents[fits] @ relaxation.features) * 1e3
            least[fits] = np.minimum(least[fits], variant.floor.base_ms + variant.floor.steps * steps)
    return least


@pytest.mark.parametrize("objective", ["worst_latency", *slow(["ttft", "latency", "worst_ttft_p99"])])
def test_no_packing_on_two_gpus_has_floors_below_the_bound(objective: str) -> None:
    one = instance(*FEW, "adapters[0].count=6").priced("gpus", 2)
    total = one.inner.counts.astype(float)
    first = np.array(list(product(*(range(int(n) + 1) for n in total))), dtype=float)
    a, b = floors(one, objective, first), floors(one, objective, total - first)
    tokens = np.array([c.tokens_per_s for c in one.classes])
    share = first @ tokens / (total @ tokens)
    served = [np.where(s > 0, x, 0.0) for s, x in ((share, a), (1 - share, b))]
    worst = LATENCY_OBJECTIVES[objective].worst
    value = np.maximum(*served) if worst else share * served[0] + (1 - share) * served[1]
    found = bound(objective, 2, *FEW, "adapters[0].count=6")
    assert 0.7 * value.min() <= found <= value.min() * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["latency", "worst_ttft"])
def test_more_gpus_and_less_load_make_a_bound_no_larger(objective: str) -> None:
    values = [bound(objective, gpus) for gpus in (1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.05 * values[2]
    assert bound(objective, 1, "adapters[0].rate=0.01") < values[0]


def test_a_bound_is_at_least_the_latency_of_a_gpu_that_does_nothing() -> None:
    for name in ("latency", "worst_latency"):
        least = relaxation(name, 1).least_ms
        assert bound(name, 1, params=QUICK) >= least * (1 - 1e-5) > 5


@pytest.mark.parametrize("objective", ["latency", "worst_latency"])
def test_what_is_cut_short_is_a_bound_of_its_own(objective: str) -> None:
    one, over = instance().priced("gpus", 1), Deadline.after(0)
    short = latency_bound(one, LATENCY_OBJECTIVES[objective], one.inner, 1e4, over, PARAMS)
    assert short.value is not None
    assert 0 < short.value <= bound(objective, 1, params=QUICK)


@pytest.mark.parametrize("objective", ["latency", "worst_latency"])
def test_a_relaxation_that_was_cut_short_excludes_no_latency(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(_self: FloorRelaxation, pieces: Sequence[Piece], *_: object) -> object:
        nothing = np.array([])
        return HighsSolution(False, False, 0.0, 0.0, nothing, nothing), np.arange(len(pieces))

    monkeypatch.setattr(FloorRelaxation, "solve", cut_short)
    assert bound(objective, 1) == pytest.approx(relaxation(objective, 1).least_ms, rel=1e-5)


def test_gpus_that_share_slots_may_have_few_adapters_at_a_time_or_many() -> None:
    expected = [
        (index, crowded)
        for index, option in enumerate(instance().outer.options)
        for crowded in ([False, True] if option.regime == "shared" else [False])
    ]
    assert [(variant.index, variant.crowded) for variant in relaxation("latency", 1).variants] == expected
    assert any(crowded for _, crowded in expected)


def test_a_mean_latency_is_bounded_whatever_share_gpus_serve() -> None:
    """What a GPU serves weighs its latency; of what is above the least so much less is proven."""
    least = relaxation("latency", 1).least_ms
    exact, some = (
        bound("latency", 1, held=25.0, params=QUICK.model_copy(update={"served_tolerance": share}))
        for share in (0.0, 0.25)
    )
    assert some - least == pytest.approx(0.75 * (exact - least), rel=1e-3)
    assert exact > 1.05 * least


def test_a_plan_below_the_floors_shows_that_they_are_wrong() -> None:
    one = instance().priced("gpus", 1)
    for name in ("latency", "worst_latency"):
        found = latency_bound(one, LATENCY_OBJECTIVES[name], one.inner, 1.0, UNLIMITED, PARAMS)
        assert (found.value, found.why_none) == (None, "the plan is below the floors that were learned")
        none = latency_bound(one, LATENCY_OBJECTIVES[name], one.inner, np.inf, UNLIMITED, PARAMS)
        assert none.why_none == "the twin measured no latency"


def test_where_there_is_no_bound_it_is_said_why() -> None:
    latency = LATENCY_OBJECTIVES["latency"]
    assert not no_bound(instance(), latency)
    assert "share by the inner rows" in no_bound(instance(), LATENCY_OBJECTIVES["balance"])
    paper = no_bound(instance("acceptance=paper"), latency)
    assert paper == "no floors of this latency were learned for H100-64GB"
    wandering = no_bound(instance(name="unpredictable_load"), latency)
    assert wandering.startswith("rates change in the course of time")
    parted = replace(instance(), shares=(0.5,) * len(instance().classes))
    assert "served in parts" in no_bound(parted, latency)
    uncertain = tuple(replace(c, low_share=0.5) for c in instance().classes)
    assert no_bound(replace(instance(), classes=uncertain), latency).startswith("rates are uncertain")
    grouped = replace(instance(), groups=object())  # type: ignore[arg-type]
    assert "groups have no floors" in no_bound(grouped, latency)
