from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import learn
from learn import Dataset, DesignSpace, FeasibilityRegion, OptionRows
from learn.assessment import given_away, macro_f1, region_quality, surrogate_quality
from learn.features import ADDITIVE
from learn.region import Domain, Row

MEASURED = Path(__file__).parents[3] / "shared/measurements/serving_runs.csv"


def region_of(space: DesignSpace, factor: float, row: np.ndarray | None = None) -> FeasibilityRegion:
    """One row for every option: on the rate alone, unless given."""
    coefficients = np.array([1.0 if name == "rate" else 0.0 for name in ADDITIVE]) if row is None else row
    return FeasibilityRegion(
        kind="inner",
        features=ADDITIVE,
        options=tuple(
            OptionRows(
                device=space.device,
                max_loras=o.max_loras,
                max_lora_rank=o.max_lora_rank,
                regime="shared",
                kv_cache_tokens=o.kv_cache_tokens,
                rows=(Row(meaning="rate", coefficients=tuple(factor * coefficients), bound=1.0),),
                domain=Domain(max_adapters=1280, min_rate=0.0, max_rate=1e9),
            )
            for o in space.options
        ),
    )


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.random(200) < 0.3, rng.random(200) < 0.4
    assert macro_f1(truth, said) == pytest.approx(f1_score(truth, said, average="macro"))


def test_a_region_of_everything_lets_all_starved_runs_in(dataset: Dataset, space: DesignSpace) -> None:
    quality = region_quality(region_of(space, 1e-9), dataset, space)
    for rates in (quality.scattered, quality.near):
        assert (rates.false_feasible, rates.false_infeasible) == (1.0, 0.0)
    assert quality.scattered.runs + quality.near.runs == len(dataset)
    assert quality.scattered.starved + quality.near.starved == dataset.starved.sum()


def test_a_region_of_nothing_keeps_all_accepted_runs_out(dataset: Dataset, space: DesignSpace) -> None:
    quality = region_quality(region_of(space, 1e9), dataset, space)
    for rates in (quality.scattered, quality.near):
        assert (rates.false_feasible, rates.false_infeasible) == (0.0, 1.0)


def test_capacity_given_away_is_how_much_further_the_load_goes(dataset: Dataset, space: DesignSpace) -> None:
    found, half = (given_away(region_of(space, k), dataset, space)["given_away"] for k in (0.1, 0.2))
    near = (1 + found > 1 / 8) & (1 + half < 8)  # it looks no further than a factor of 16
    assert near.sum() > 20
    np.testing.assert_allclose((1 + half[near]) / (1 + found[near]), 2.0, rtol=1e-3)


def test_assessing_gives_the_figures_of_each(dataset: Dataset, space: DesignSpace) -> None:
    regions, tree = learn.linearize(dataset, space), learn.fit(dataset, "tree")
    found = learn.assess(regions, [tree], dataset, space)
    assert [r.kind for r in found.regions] == ["inner", "outer"]
    inner, outer = found.regions
    assert inner.scattered.false_feasible <= outer.scattered.false_feasible
    assert inner.capacity_given_away > outer.capacity_given_away
    assert set(inner.by_option["regime"]) == {"resident", "shared"}
    (quality,) = found.surrogates
    assert quality.macro_f1 > 0.8
    assert quality.ms_alone > 1e-3 * quality.us_per_candidate  # a batch shares what a call costs
    assert 0 < quality.smape["throughput_tok_per_s"] < quality.smape["ttft_ms"]
    text = found.text()
    for heading in ("false-feasible", "capacity given away, mean over options", "below it", "at boundary"):
        assert heading in text
    (row,) = [line.split() for line in text.splitlines() if line.split()[:1] == ["tree"]]
    assert row[1] == f"{quality.macro_f1:.4f}"
    assert max(map(len, text.splitlines())) <= 100
    assert (str(found), repr(found)) == (text, "<Assessment: of 2 regions, and surrogates tree>")


def test_values_of_learning_show_on_one_line(dataset: Dataset, space: DesignSpace) -> None:
    regions, tree = learn.linearize(dataset, space), learn.fit(dataset, "tree")
    prediction = tree.predict(dataset.features, outside="allow")
    options = {(o.max_loras, o.max_lora_rank) for o in regions.latency}
    assert repr(dataset) == f"<Dataset: {len(dataset):,} twin runs>"
    assert repr(regions) == str(regions)
    assert repr(regions).startswith(f"<Regions: {space.device}, {len(options)} options, from ")
    assert repr(regions.inner) == f"<FeasibilityRegion: inner, {len(options)} options>"
    assert repr(tree) == f"<Surrogate: tree, fitted to {len(dataset):,} twin runs>"
    assert repr(prediction).startswith(f"<Prediction: {len(dataset):,} candidates, ")


def test_a_surrogate_is_judged_on_runs_at_random_loads(dataset: Dataset) -> None:
    tree = learn.fit(dataset, "tree")
    alone = surrogate_quality(tree, dataset)
    scattered = dataset.where(dataset.scattered)
    assert alone.macro_f1 == macro_f1(scattered.starved, tree.starved(scattered.features))
