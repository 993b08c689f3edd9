from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import learn
from learn import (
    METHODS,
    Dataset,
    LearnParams,
    OutsideDomainError,
    OutsideDomainWarning,
    Surrogate,
    SurrogateError,
)
from learn.assessment import macro_f1
from learn.estimators import INPUTS
from learn.params import SurrogateParams
from learn.surrogate import within

NAMES = [feature.name for feature in learn.FEATURES]
"""Columns of features."""


@pytest.fixture(scope="module", params=METHODS)
def surrogate(request: pytest.FixtureRequest, dataset: Dataset) -> Surrogate:
    return learn.fit(dataset, request.param)


@pytest.fixture(scope="module")
def tree(dataset: Dataset) -> Surrogate:
    return learn.fit(dataset, "tree")


def test_every_method_knows_the_runs_that_it_was_fitted_to(surrogate: Surrogate, dataset: Dataset) -> None:
    said = surrogate.predict(dataset.features)
    assert macro_f1(dataset.starved, said.starved) > 0.85
    known = np.isfinite(dataset.target("itl_ms"))
    off = np.abs(np.log(said.itl_ms / dataset.target("itl_ms")))[known]
    assert np.median(off) < 0.2
    served = said.throughput_tok_per_s / dataset.target("throughput_tok_per_s")
    assert np.median(np.abs(np.log(served))) < 0.05
    assert np.abs(said.worst_served_share - dataset.target("worst_served_share")).mean() < 0.1


def test_predictions_keep_to_what_can_be(surrogate: Surrogate, dataset: Dataset) -> None:
    said = surrogate.predict(dataset.features)
    for share in (said.served_share, said.worst_served_share):
        assert ((share >= 0) & (share <= 1)).all()
    assert (said.itl_ms > 0).all()
    assert (said.ttft_ms > 0).all()
    assert said.inside.all()
    np.testing.assert_array_equal(said.starved, surrogate.starved(dataset.features))


def test_a_seed_of_numpy_can_be_saved(dataset: Dataset, tmp_path: Path) -> None:
    learn.fit(dataset, "tree", seed=np.int64(3)).save(tmp_path / "s.json")  # type: ignore[arg-type]
    assert learn.read_surrogate(tmp_path / "s.json").seed == 3


def test_a_surrogate_survives_its_files_exactly(
    surrogate: Surrogate, dataset: Dataset, tmp_path: Path
) -> None:
    surrogate.save(tmp_path / "s.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "s.json"]
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["method"] == surrogate.method
    again = learn.read_surrogate(tmp_path / "s.json")
    for name in ("itl_ms", "ttft_ms", "throughput_tok_per_s", "worst_served_share", "starved"):
        before, after = (getattr(s.predict(dataset.features), name) for s in (surrogate, again))
        np.testing.assert_array_equal(before, after)


def test_a_surrogate_of_other_parameters_survives_its_files(dataset: Dataset, tmp_path: Path) -> None:
    small = learn.fit(dataset, "tree", params=LearnParams(surrogate=SurrogateParams(max_rules=4)))
    assert small.rules().count("class:") == 4
    small.save(tmp_path / "s.json")
    assert learn.read_surrogate(tmp_path / "s.json").rules() == small.rules()


def test_a_wider_tolerance_calls_more_inside(dataset: Dataset) -> None:
    wide = learn.fit(dataset, "tree", params=LearnParams(surrogate=SurrogateParams(tolerance=0.2)))
    one = dataset.features[:1].copy()
    one[0, NAMES.index("max_loras")] = 1.1 * wide.high[NAMES.index("max_loras")]
    assert wide.inside(one).all()


# --- damaged files ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tree: Surrogate, tmp_path: Path) -> Path:
    tree.save(tmp_path / "s.json")
    return tmp_path / "s.json"


def test_a_recipe_does_not_take_the_name_of_its_dataset(tree: Surrogate, tmp_path: Path) -> None:
    with pytest.raises(SurrogateError, match=r"model.csv: the dataset takes that name; name a .json file"):
        tree.save(tmp_path / "model.csv")
    assert not list(tmp_path.iterdir())


def test_another_dataset_than_the_saved_one_is_refused(saved: Path, dataset: Dataset) -> None:
    data = saved.with_suffix(".csv")
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    truncated, swapped = lines[:-1], [*lines[:2], lines[3], lines[2], *lines[4:]]
    changed = [*lines[:-1], lines[-1].replace("0", "1", 1)]
    for wrong in (truncated, swapped, changed, []):
        data.write_text("".join(wrong), encoding="utf-8")
        with pytest.raises(SurrogateError, match=rf"s.csv is not the dataset of {len(dataset)} runs"):
            learn.read_surrogate(saved)
    data.unlink()
    with pytest.raises(SurrogateError, match="fit it again"):
        learn.read_surrogate(saved)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", -1, "seed is -1; give a whole number"),
        ("seed", "1", "seed is '1'; give a whole number"),
        ("method", "nope", "'nope' is unknown; choose one of"),
        ("format", 1, "format 1 is unknown"),
        ("sha256", None, "not the dataset"),
    ],
)
def test_a_recipe_with_a_wrong_value_is_refused(name: str, value: object, message: str, saved: Path) -> None:
    recipe = json.loads(saved.read_text(encoding="utf-8")) | {name: value}
    saved.write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.raises(SurrogateError, match=f"{message}.*fit it again"):
        learn.read_surrogate(saved)


def test_another_version_of_scikit_learn_is_told(saved: Path) -> None:
    recipe = json.loads(saved.read_text(encoding="utf-8")) | {"scikit_learn": "0.1"}
    saved.write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"saved with scikit-learn 0\.1, .*; save it again"):
        learn.read_surrogate(saved)


# --- outside the domain ----------------------------------------------------------------------------


def test_outside_the_domain_it_warns_or_refuses(dataset: Dataset) -> None:
    tree = learn.fit(dataset, "tree")
    far = dataset.features[:2].copy()
    far[1, NAMES.index("rate")] = 1e6
    with pytest.warns(OutsideDomainWarning, match=r"1 of 2 candidates .* rate 1e\+06 outside"):
        said = tree.predict(far)
    np.testing.assert_array_equal(said.inside, [True, False])
    with pytest.raises(OutsideDomainError, match="judge it with the twin"):
        tree.predict(far, outside="refuse")


def test_starvation_alone_is_asked_of_the_same_domain(tree: Surrogate, dataset: Dataset) -> None:
    far = dataset.features[:1].copy()
    far[0, NAMES.index("rate")] = 1e6
    with pytest.warns(OutsideDomainWarning, match="rate"):
        warned = tree.starved(far)
    with pytest.raises(OutsideDomainError, match="rate"):
        tree.starved(far, outside="refuse")
    np.testing.assert_array_equal(warned, tree.starved(far, outside="allow"))


@pytest.mark.parametrize(
    ("feature", "end", "factor", "inside"),
    [
        ("max_loras", "low", 0.96, True),
        ("max_loras", "low", 0.9, False),
        ("max_loras", "high", 1.04, True),
        ("max_loras", "high", 1.1, False),
        ("rate", "low", 0.9, False),
    ],
)
def test_the_tolerance_is_a_share_of_the_end(
    feature: str, end: str, factor: float, inside: bool, tree: Surrogate, dataset: Dataset
) -> None:
    """Of 8 to 64 slots, 5 % below 8 are fractions of a slot, not three."""
    one, k = dataset.features[:1].copy(), NAMES.index(feature)
    one[0, k] = factor * getattr(tree, end)[k]
    np.testing.assert_array_equal(tree.inside(one), [inside])
    if not inside:
        with pytest.raises(OutsideDomainError, match=f"has {feature} "):
            tree.predict(one, outside="refuse")


def test_the_feature_that_is_named_is_one_beyond_the_tolerance(tree: Surrogate, dataset: Dataset) -> None:
    one = dataset.features[:1].copy()
    one[0, NAMES.index("count")] = 1.01 * tree.high[NAMES.index("count")]
    one[0, NAMES.index("max_loras")] = 1000.0
    with pytest.raises(OutsideDomainError, match=r"has max_loras 1000 outside \[8, 64\]"):
        tree.predict(one, outside="refuse")


def test_where_nothing_but_0_was_sampled_rounding_is_inside() -> None:
    ends = np.zeros(3)
    np.testing.assert_array_equal(within(np.array([0.0, 1e-7, 0.5]), ends, ends), [True, True, False])


def test_what_to_do_outside_is_one_of_three(tree: Surrogate, dataset: Dataset) -> None:
    with pytest.raises(SurrogateError, match=r'outside is \'refused\'; choose .*"warn", "refuse", "allow"'):
        tree.predict(dataset.features, outside="refused")  # type: ignore[arg-type]


def test_inside_the_domain_nothing_is_said(dataset: Dataset, recwarn: pytest.WarningsRecorder) -> None:
    learn.fit(dataset, "tree").predict(dataset.features, outside="refuse")
    assert not [w for w in recwarn if issubclass(w.category, OutsideDomainWarning)]


# --- candidates that are none ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "value", "need"),
    [
        ("count", -1.0, "0 or more"),
        ("rate", 0.0, "above 0"),
        ("rate", -2.0, "above 0"),
        ("prompt_mean", np.nan, "above 0"),
        ("kv_cache_tokens", 0.0, "above 0"),
        ("rate_std", -1.0, "0 or more"),
        ("held_20ms", np.inf, "0 or more"),
    ],
)
def test_a_value_that_no_candidate_has_is_refused_by_name(
    feature: str, value: float, need: str, tree: Surrogate, dataset: Dataset
) -> None:
    wrong = dataset.features[:3].copy()
    wrong[1, NAMES.index(feature)] = value
    for ask in (tree.predict, tree.starved):
        with pytest.raises(SurrogateError, match=rf"candidate 1 has {feature} {value:g}, .* {need}; give"):
            ask(wrong)


def test_a_gpu_that_serves_nothing_is_refused(tree: Surrogate) -> None:
    engine = learn.Engines(*(np.array([value]) for value in (8.0, 16.0, 4e5)))
    for rate, count in ((1.0, 0), (0.0, 3)):
        none = learn.candidate_features([rate], [8], [200], [150], [150**2], [[count]], engine)
        for ask in (tree.predict, tree.starved):
            with pytest.raises(SurrogateError, match="something to serve"):
                ask(none)


def test_features_of_another_shape_are_refused(tree: Surrogate, dataset: Dataset) -> None:
    for wrong in (dataset.features[:, :5], np.zeros((2, 3, len(INPUTS))), np.zeros(0)):
        with pytest.raises(SurrogateError, match=re.escape(f"shape {wrong.shape} are not")):
            tree.predict(wrong)


def test_of_no_candidates_nothing_is_said(surrogate: Surrogate, dataset: Dataset) -> None:
    said = surrogate.predict(dataset.features[:0], outside="refuse")
    assert all(value.shape == (0,) for value in vars(said).values())
    assert surrogate.starved(dataset.features[:0]).shape == (0,)


# --- rules -----------------------------------------------------------------------------------------


def test_the_small_tree_prints_few_rules(dataset: Dataset) -> None:
    text = learn.fit(dataset, "tree").rules()
    leaves = re.findall(r"class: (healthy|starved)", text)
    assert 2 <= len(leaves) <= SurrogateParams().max_rules
    assert set(leaves) == {"healthy", "starved"}
    assert set(re.findall(r"[a-z]\w+(?= *(?:<=|>))", text)) <= set(INPUTS)


def test_other_methods_have_no_rules(dataset: Dataset) -> None:
    with pytest.raises(SurrogateError, match='only the method "tree"'):
        learn.fit(dataset, "neighbours").rules()


# --- refusals ------------------------------------------------------------------------


def test_an_unknown_method_is_refused_with_those_there_are(dataset: Dataset) -> None:
    with pytest.raises(SurrogateError, match=r"'nope' is unknown; choose one of extra, forest, .*tree"):
        learn.fit(dataset, "nope")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_a_seed_that_is_none_is_refused(seed: int, dataset: Dataset) -> None:
    with pytest.raises(SurrogateError, match="give a whole number from 0"):
        learn.fit(dataset, "tree", seed=seed)


def test_runs_that_are_all_alike_are_refused(dataset: Dataset) -> None:
    with pytest.raises(SurrogateError, match="runs are healthy"):
        learn.fit(dataset.where(~dataset.starved))


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 9, "method": "tree"}', "\x00"])
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SurrogateError, match="fit it again"):
        learn.read_surrogate(path)


def test_the_seed_decides(dataset: Dataset) -> None:
    one, same, other = (learn.fit(dataset, "forest", seed=seed) for seed in (1, 1, 2))
    x = dataset.features
    np.testing.assert_array_equal(one.predict(x).itl_ms, same.predict(x).itl_ms)
    assert (one.predict(x).itl_ms != other.predict(x).itl_ms).any()
