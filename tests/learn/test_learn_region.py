from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import learn
from learn import Dataset, DesignSpace, FeasibilityRegion, OptionRows, RegionError, Regions, read_regions
from learn.features import ADDITIVE, additive_columns
from learn.region import Domain, Row
from learn.region_store import shipped_regions

K = len(ADDITIVE)
RATE, COUNT = ADDITIVE.index("rate"), ADDITIVE.index("count")


def unit(index: int, value: float) -> tuple[float, ...]:
    return tuple(value if k == index else 0.0 for k in range(K))


OPTION = OptionRows(
    device="GPU",
    max_loras=8,
    max_lora_rank=16,
    regime="resident",
    kv_cache_tokens=1000,
    rows=(
        Row(meaning="work", coefficients=unit(RATE, 0.1), bound=1.0),
        Row(meaning="slots", coefficients=unit(COUNT, 1.0), bound=8.0),
    ),
    domain=Domain(max_adapters=8, min_rate=0.0, max_rate=10.0),
)


def sums(rate: float, count: float) -> np.ndarray:
    return np.array([count if k == COUNT else rate if k == RATE else 0.0 for k in range(K)])


def test_slack_contains_fill_and_tightest_agree() -> None:
    inside, outside = sums(9.0, 3), sums(11.0, 3)
    assert OPTION.contains(inside)
    assert not OPTION.contains(outside)
    np.testing.assert_allclose(OPTION.slack(inside), [0.1, 5.0])
    assert OPTION.fill(outside) == pytest.approx(1.1)
    np.testing.assert_allclose(OPTION.fills(sums(1.0, 8)).argmax(), 1)
    np.testing.assert_array_equal(OPTION.contains(np.stack([inside, outside])), [True, False])


def test_rows_end_at_their_bounds_but_for_rounding() -> None:
    assert OPTION.contains(sums(0.1 + 9.9, 8))
    assert OPTION.contains(sums(10.0 + 1e-12, 8))
    assert not OPTION.contains(sums(10.0001, 8))
    assert not OPTION.contains(sums(1.0, 8.001))


def test_a_gpu_is_inside_when_either_regime_holds() -> None:
    shared = OPTION.model_copy(
        update={"regime": "shared", "rows": (Row(meaning="w", coefficients=unit(RATE, 0.5), bound=1.0),)}
    )
    region = FeasibilityRegion(kind="inner", features=ADDITIVE, options=(OPTION, shared))
    both = np.stack([sums(9.0, 3), sums(1.0, 30), sums(9.0, 30)])
    np.testing.assert_array_equal(region.contains(8, 16, both), [True, True, False])
    np.testing.assert_allclose(region.fill(8, 16, both), [0.9, 0.5, 3.75])


def options(*slots: int, rank: int = 16) -> tuple[OptionRows, ...]:
    """Options of resident and of shared adapters, with a row of the work and one of the slots."""
    work = Row(meaning="work", coefficients=unit(RATE, 0.1), bound=1.0)
    return tuple(
        OPTION.model_copy(
            update={
                "max_loras": n,
                "max_lora_rank": rank,
                "regime": regime,
                "rows": (work, Row(meaning="slots", coefficients=unit(COUNT, 1.0), bound=float(n))),
            }
        )
        for n in slots
        for regime in ("resident", "shared")
    )


def counted(region: FeasibilityRegion) -> list[tuple[int, int, float]]:
    """Slots, rank and most adapters of the resident options."""
    return [(o.max_loras, o.max_lora_rank, o.rows[1].bound) for o in region.options if o.regime == "resident"]


def test_bounds_let_in_a_few_adapters_beyond_slots_where_no_engine_has_more_of_them() -> None:
    """Just beyond the slots a GPU does more than rows let it, and its plan would have had fewer GPUs."""
    region = FeasibilityRegion(
        kind="outer", features=ADDITIVE, options=(*options(8, 16, 64), *options(9, rank=32))
    )
    bounding = region.bounding
    assert counted(bounding) == [(8, 16, 8), (16, 16, 18), (64, 16, 72), (9, 32, 11)]
    assert [o for o in bounding.options if o.regime == "shared"] == [
        o for o in region.options if o.regime == "shared"
    ]
    assert [o.rows[0] for o in bounding.options] == [o.rows[0] for o in region.options]
    assert not region.contains(64, 16, sums(1, 72))
    assert bounding.contains(64, 16, sums(1, 72))
    assert not bounding.contains(64, 16, sums(1, 73))


def test_a_changed_copy_has_bounds_of_its_own() -> None:
    region = FeasibilityRegion(kind="outer", features=ADDITIVE, options=options(8))
    assert counted(region.bounding) == [(8, 16, 9)]
    assert counted(region.model_copy(update={"options": options(64)}).bounding) == [(64, 16, 72)]


def test_an_unknown_option_is_named() -> None:
    region = FeasibilityRegion(kind="inner", features=ADDITIVE, options=(OPTION,))
    with pytest.raises(RegionError, match="no option with 9 slots of rank 16; it has 8x16"):
        region.contains(9, 16, sums(1, 1))


def test_rows_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="not this version's"):
        FeasibilityRegion(kind="inner", features=("count",), options=())
    bad = OPTION.model_copy(update={"rows": (Row(meaning="w", coefficients=(1.0,), bound=1.0),)})
    with pytest.raises(ValueError, match="one coefficient"):
        FeasibilityRegion(kind="inner", features=ADDITIVE, options=(bad,))


# --- regions from the twin -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regions(dataset: Dataset, space: DesignSpace) -> Regions:
    return learn.linearize(dataset, space)


def test_json_round_trip_is_exact(regions: Regions, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(regions.to_json(), encoding="utf-8")
    assert read_regions(path) == regions
    assert json.loads(regions.to_json())["units"]["rate"] == "requests/s"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00", "[" * 100_000])
def test_a_damaged_file_is_refused_with_a_remedy(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RegionError, match="delete the file to make it again") as caught:
        read_regions(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format", 3), "format 3 is not this version's"),
        (("inner.kind", "outer"), "the inner region is of kind outer"),
        (("inner.options.0.rows.0.bound", 0), r"bound is 0; give a number above 0"),
        (("outer.options.0.rows.0.coefficients.1", -0.1), r"coefficients\[1\] is -0.1; give at least 0"),
        (("inner.options.1.max_loras", 777), "different options"),
        (("latency.0.itl_ms.0.coefficients", [1.0]), "a plane has not one coefficient"),
        (("latency", []), "different options"),
    ],
)
def test_regions_that_contradict_themselves_are_refused(
    change: tuple[str, object], message: str, regions: Regions, tmp_path: Path
) -> None:
    path, value = change
    document = json.loads(regions.to_json())
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    (tmp_path / "regions.json").write_text(json.dumps(document))
    with pytest.raises(RegionError, match=message):
        read_regions(tmp_path / "regions.json")


@pytest.mark.parametrize("digest", [True, False])
def test_regions_that_were_edited_are_refused(digest: bool, regions: Regions, tmp_path: Path) -> None:
    document = json.loads(regions.to_json())
    row = document["inner"]["options"][0]["rows"][0]
    row["coefficients"] = [40 * value for value in row["coefficients"]]
    if not digest:
        del document["sha256"]
    (tmp_path / "regions.json").write_text(json.dumps(document))
    with pytest.raises(RegionError, match="its content is not what was written"):
        read_regions(tmp_path / "regions.json")


def test_regions_that_were_laid_out_otherwise_are_the_same(regions: Regions, tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(json.loads(regions.to_json()), indent=4, sort_keys=True))
    assert read_regions(path) == regions


def test_linearizing_again_gives_the_same(regions: Regions, dataset: Dataset, space: DesignSpace) -> None:
    assert learn.linearize(dataset, space).to_json() == regions.to_json()


def test_another_adapter_never_makes_room(regions: Regions) -> None:
    for region in (regions.inner, regions.outer):
        for option in region.options:
            assert (option.coefficients >= 0).all()
            assert (option.bounds > 0).all()


@given(scale=st.floats(1.0, 5.0), rate=st.floats(0.01, 20.0), count=st.integers(1, 100))
def test_more_load_never_enters_the_region(regions: Regions, scale: float, rate: float, count: int) -> None:
    one = additive_columns([rate / count], [200.0], [150.0], [150.0**2])[0] * count
    more = additive_columns([scale * rate / count], [200.0], [150.0], [150.0**2])[0] * count
    for region in (regions.inner, regions.outer):
        if region.contains(8, 16, more):
            assert region.contains(8, 16, one)


def test_the_inner_region_lies_in_the_outer(regions: Regions, dataset: Dataset) -> None:
    keys = dataset.table[["max_loras", "max_lora_rank"]].to_numpy()
    for slots, rank in np.unique(keys, axis=0):
        points = dataset.sums[(keys == (slots, rank)).all(axis=1)]
        inner, outer = (r.fill(slots, rank, points) for r in (regions.inner, regions.outer))
        assert (inner >= outer - 1e-9).all()


@pytest.mark.parametrize("seed", range(5))
def test_shipped_inner_regions_lie_in_the_outer_for_any_mix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = np.round(np.exp(rng.uniform(0, np.log(400), 200)))
    hot = np.round(count * rng.uniform(0, 1, 200))
    rate, skew = np.exp(rng.uniform(np.log(1e-3), np.log(60), 200)), np.exp(rng.uniform(0, 7, 200))
    mixes = hot[:, None] * additive_columns(rate, 250.0, 230.0, 1e5)
    mixes += (count - hot)[:, None] * additive_columns(rate / skew, 250.0, 230.0, 1e5)
    for regions in shipped_regions():
        for slots, rank in {(o.max_loras, o.max_lora_rank) for o in regions.inner.options}:
            edge = mixes / regions.inner.fill(slots, rank, mixes)[:, None]
            assert (regions.outer.fill(slots, rank, edge) <= 1 + 1e-9).all()


def test_most_starved_runs_lie_outside_the_inner_region(regions: Regions, dataset: Dataset) -> None:
    keys = dataset.table[["max_loras", "max_lora_rank"]].to_numpy()
    inside = [
        bool(regions.inner.contains(slots, rank, point))
        for (slots, rank), point in zip(keys, dataset.sums, strict=True)
    ]
    assert np.mean(np.array(inside)[dataset.starved]) < 0.1
    assert np.mean(np.array(inside)[~dataset.starved]) > 0.3


def test_restricted_keeps_the_options_asked_for(regions: Regions) -> None:
    kept = regions.restricted([(64, 16)])
    assert {o.max_loras for o in kept.inner.options} == {64}
    assert {o.max_loras for o in kept.latency} == {64}
    with pytest.raises(RegionError, match="no option with 7 slots"):
        regions.restricted([(7, 16)])
    with pytest.raises(RegionError, match="no latency estimates for 7 slots"):
        regions.option_latency(7, 16)


def test_latency_estimates_grow_and_start_above_an_idle_step(regions: Regions) -> None:
    for latency in regions.latency:
        idle = latency.estimate(np.zeros(K))
        light = additive_columns([0.1], [200.0], [150.0], [150.0**2])[0]
        heavy = additive_columns([10.0], [200.0], [150.0], [150.0**2])[0]
        assert 5 < idle < 100
        assert idle <= latency.estimate(light) <= latency.estimate(heavy)
        assert latency.estimate(light, "ttft_ms") <= latency.estimate(heavy, "ttft_ms")
