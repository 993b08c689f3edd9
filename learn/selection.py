"""Which surrogate tells starvation best: cross-validation that keeps the runs of a composition together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold

from learn.boundary import fit_boundary
from learn.estimators import METHODS, Method, inputs, one_thread, recipe
from learn.features import FloatArray
from learn.steady_state import SteadyState
from learn.storage.dataset import Dataset
from learn.surrogate import SurrogateError, check_mixed, check_recipe


def select(
    dataset: Dataset, methods: Sequence[Method] = METHODS, *, folds: int = 5, seed: int = 0
) -> dict[Method, float]:
    """Cross-validated macro-F1 of starvation by method, best first.

    Folds keep the runs of a composition together. Nothing is learned from those held out, the linear
    boundary that gives the models an input included.

    Parameters
    ----------
    dataset
        Twin runs.
    methods
        Of `METHODS`.
    folds
        Parts that the compositions are dealt into, at least 2.
    seed
        Seed of methods that draw at random.

    Raises
    ------
    SurrogateError
        If there is no such method, the seed is no whole number from 0, there are fewer compositions than
        folds, or the runs outside a fold are all starved or all healthy.
    BoundaryError
        If the runs outside a fold bracket no boundary.
    """
    for method in methods:
        check_recipe(method, seed)
    groups = len(np.unique(dataset.groups))
    if not 2 <= folds <= groups:
        raise SurrogateError(
            f"folds is {folds}; give 2 to {groups}, as many as there are compositions, or sample more"
        )
    said = {method: np.zeros(len(dataset), dtype=np.int64) for method in methods}
    truth = dataset.starved.astype(np.int64)
    for fitted, held in GroupKFold(folds).split(dataset.sums, groups=dataset.groups):
        x = _fold_inputs(dataset, fitted)
        with one_thread():
            for method in methods:
                model = recipe(method, seed)[0]().fit(x[fitted], truth[fitted])
                said[method][held] = model.predict(x[held])
    scores = {method: float(f1_score(truth, said[method], average="macro")) for method in methods}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _fold_inputs(dataset: Dataset, fitted: NDArray[np.int64]) -> FloatArray:
    """Inputs of all runs, from what those of ``fitted`` alone tell."""
    known = dataset.where(np.isin(np.arange(len(dataset)), fitted))
    check_mixed(known)
    return inputs(dataset.features, fit_boundary(known), SteadyState.of(known))
