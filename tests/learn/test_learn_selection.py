"""Selection of surrogates never learns from the runs that it tests on."""

from __future__ import annotations

import numpy as np
import pytest

import learn
from learn import Dataset, selection
from learn.boundary import BoundaryModel, fit_boundary


def test_selection_orders_methods_by_a_score_that_keeps_mixes_together(dataset: Dataset) -> None:
    scores = learn.select(dataset, ("tree", "neighbours"), folds=4)
    assert set(scores) == {"tree", "neighbours"}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert all(0.5 < score <= 1 for score in scores.values())


def test_selection_never_shows_a_model_runs_of_a_mix_that_it_must_predict(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {tuple(row): int(g) for row, g in zip(dataset.features, dataset.groups, strict=True)}
    predicted: list[int] = []

    class Spy:
        def fit(self, x: np.ndarray, _: np.ndarray) -> Spy:
            self.seen = groups_of(x)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            asked = groups_of(x)
            assert not asked & self.seen
            predicted.extend(asked)
            return np.zeros(len(x))

    def groups_of(x: np.ndarray) -> set[int]:
        return {group[tuple(row)] for row in x[:, : dataset.features.shape[1]]}

    monkeypatch.setattr(selection, "recipe", lambda *_: (Spy, Spy))
    learn.select(dataset, ("tree",), folds=4)
    assert sorted(predicted) == sorted(set(dataset.groups.tolist()))


def test_selection_learns_the_boundary_of_a_fold_without_it(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_from: list[set[int]] = []

    def spy(runs: Dataset) -> BoundaryModel:
        learned_from.append(set(runs.groups.tolist()))
        return fit_boundary(runs)

    monkeypatch.setattr(selection, "fit_boundary", spy)
    learn.select(dataset, ("tree", "neighbours"), folds=4)
    everything = set(dataset.groups.tolist())
    held = [everything - known for known in learned_from]
    assert len(held) == 4
    assert sum(map(len, held)) == len(everything)
    assert set.union(*held) == everything
