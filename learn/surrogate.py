"""Surrogates of the twin in scikit-learn: what a GPU does with given adapters, in microseconds.

The paper's three models (random forest, k nearest neighbours, support vectors; arXiv 2602.24044,
section 4), gradient boosting, and a small tree that prints as rules. Each is kept as its dataset and
recipe, and fitted again when read: no pickle, so a file can hold numbers only.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, export_text

from learn.boundary import BoundaryModel, fit_boundary
from learn.dataset import Dataset, read_dataset, write_atomically
from learn.features import ADDITIVE, FEATURES, FloatArray
from scenarios import LorapackError

Method = Literal["forest", "neighbours", "svm", "boosting", "tree"]
METHODS: tuple[Method, ...] = ("forest", "neighbours", "svm", "boosting", "tree")

MAX_RULES = 32
"""Most leaves of the small tree."""

_LATENCIES = ("itl_ms", "ttft_ms")
_SHARES = ("served_share", "worst_served_share")
_NAMES = [f.name for f in FEATURES]
_OFFERED = _NAMES.index("token_rate")
_ENGINE = [_NAMES.index(name) for name in ("max_loras", "max_lora_rank", "kv_cache_tokens")]
FORMAT = 1


class SurrogateError(LorapackError, ValueError):
    """A surrogate cannot be fitted or read."""


class OutsideDomainError(SurrogateError):
    """A candidate lies outside what the surrogate was fitted on."""


class OutsideDomainWarning(UserWarning):
    """A candidate lies outside what the surrogate was fitted on."""


class _Estimator(Protocol):
    def fit(self, x: FloatArray, y: NDArray[Any]) -> Any: ...

    def predict(self, x: FloatArray) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Prediction:
    """What a surrogate says of m candidates; arrays of shape (m,).

    Parameters
    ----------
    throughput_tok_per_s, itl_ms, ttft_ms
        Tokens per second served, and mean latencies.
    served_share, worst_served_share
        Served share of the GPU, and the smallest of its adapters.
    starved
        Whether the GPU starves.
    inside
        Whether the candidate lies inside the sampled domain.
    """

    throughput_tok_per_s: FloatArray
    itl_ms: FloatArray
    ttft_ms: FloatArray
    served_share: FloatArray
    worst_served_share: FloatArray
    starved: NDArray[np.bool_]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Surrogate:
    """Models of every target by one method.

    Parameters
    ----------
    method, seed
        Recipe.
    dataset
        Twin runs that it was fitted on.
    classifier, regressor
        Fitted models of starvation, and of the other targets together.
    boundary
        Linear model of the boundary, which gives the extra input `region_fill`.
    low, high
        Sampled range of every feature, shape (F,).
    """

    method: Method
    seed: int
    dataset: Dataset
    classifier: _Estimator
    regressor: _Estimator
    boundary: BoundaryModel
    low: FloatArray
    high: FloatArray

    def predict(
        self, features: FloatArray, *, outside: Literal["warn", "refuse", "allow"] = "warn"
    ) -> Prediction:
        """Predict candidates.

        Parameters
        ----------
        features
            Shape (m, len(FEATURES)), from `learn.features.candidate_features`.
        outside
            What to do with candidates outside the sampled domain.

        Raises
        ------
        OutsideDomainError
            If a candidate is outside and ``outside`` is "refuse".
        """
        features = np.atleast_2d(features)
        inside = self.inside(features)
        if outside != "allow" and not inside.all():
            message = self._outside(features, inside)
            if outside == "refuse":
                raise OutsideDomainError(message)
            warnings.warn(message, OutsideDomainWarning, stacklevel=2)
        x = _inputs(features, self.boundary)
        itl, ttft, served, worst = np.asarray(self.regressor.predict(x)).T
        served = np.clip(served, 0.0, 1.0)
        return Prediction(
            throughput_tok_per_s=features[:, _OFFERED] * served,
            itl_ms=np.exp(itl),
            ttft_ms=np.exp(ttft),
            served_share=served,
            worst_served_share=np.clip(worst, 0.0, 1.0),
            starved=np.asarray(self.classifier.predict(x) > 0),
            inside=inside,
        )

    def starved(self, features: FloatArray) -> NDArray[np.bool_]:
        """Whether candidates starve, shape (m,); the cheap half of `predict`."""
        return np.asarray(self.classifier.predict(_inputs(np.atleast_2d(features), self.boundary)) > 0)

    def inside(self, features: FloatArray) -> NDArray[np.bool_]:
        """Whether candidates lie within the range of every feature that was sampled, shape (m,)."""
        slack = 1e-9 * (self.high - self.low + np.abs(self.high))
        return np.asarray(((features >= self.low - slack) & (features <= self.high + slack)).all(axis=1))

    def rules(self) -> str:
        """The starvation rules of a small tree as text.

        Raises
        ------
        SurrogateError
            If the method is not "tree".
        """
        if self.method != "tree":
            raise SurrogateError(f'only the method "tree" prints as rules, not "{self.method}"')
        return str(export_text(self.classifier, feature_names=INPUTS, class_names=["healthy", "starved"]))

    def save(self, path: str | Path) -> None:
        """Write the recipe to ``path`` (JSON) and the dataset beside it (CSV)."""
        path = Path(path)
        data = path.with_suffix(".csv")
        self.dataset.save(data)
        recipe = {"format": FORMAT, "method": self.method, "seed": self.seed, "dataset": data.name}
        write_atomically(path, json.dumps(recipe) + "\n")

    def _outside(self, features: FloatArray, inside: NDArray[np.bool_]) -> str:
        first = int(np.argmin(inside))
        off = (features[first] < self.low) | (features[first] > self.high)
        k = int(np.argmax(off))
        return (
            f"{int((~inside).sum())} of {len(inside)} candidates lie outside the sampled domain; the first "
            f"has {FEATURES[k].name} {features[first, k]:g} outside [{self.low[k]:g}, {self.high[k]:g}]; "
            f"sample a wider design or judge it with the twin"
        )


INPUTS = [*_NAMES, "region_fill"]
"""Inputs of the models: the features, and how full the linear region is."""


def _inputs(features: FloatArray, boundary: BoundaryModel) -> FloatArray:
    engine = (features[:, k] for k in _ENGINE)
    return np.column_stack([features, boundary.fill(features[:, : len(ADDITIVE)], *engine)])


def fit(dataset: Dataset, method: Method = "boosting", *, seed: int = 0) -> Surrogate:
    """Fit every target by one method.

    Parameters
    ----------
    dataset
        Twin runs.
    method
        One of `METHODS`.
    seed
        Seed of methods that draw at random.

    Raises
    ------
    SurrogateError
        If the runs are all starved or all healthy.
    """
    if dataset.starved.all() or not dataset.starved.any():
        raise SurrogateError(
            f"all {len(dataset)} runs are {'starved' if dataset.starved.any() else 'healthy'}; sample more"
        )
    features, boundary = dataset.features, fit_boundary(dataset)
    x = _inputs(features, boundary)
    classifier, regressor = _recipe(method, seed)
    latencies = np.stack([dataset.target(name) for name in _LATENCIES], axis=1)
    shares = np.stack([dataset.target(name) for name in _SHARES], axis=1)
    known = (np.isfinite(latencies) & (latencies > 0)).all(axis=1)
    targets = np.hstack([np.log(latencies[known]), shares[known]])
    return Surrogate(
        method=method,
        seed=seed,
        dataset=dataset,
        classifier=classifier().fit(x, dataset.starved.astype(np.int64)),
        regressor=regressor().fit(x[known], targets),
        boundary=boundary,
        low=features.min(axis=0),
        high=features.max(axis=0),
    )


def read_surrogate(path: str | Path) -> Surrogate:
    """Read what `Surrogate.save` wrote and fit it again, to the same numbers.

    Raises
    ------
    SurrogateError
        If the file is missing, damaged or of another form.
    """
    path = Path(path)
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        if recipe["format"] != FORMAT or recipe["method"] not in METHODS:
            raise ValueError(f"format {recipe['format']!r}, method {recipe['method']!r} are unknown")
        method, seed, data = recipe["method"], int(recipe["seed"]), str(recipe["dataset"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SurrogateError(f"{path}: not a surrogate ({error}); fit it again") from error
    return fit(read_dataset(path.parent / data), method, seed=seed)


def select(
    dataset: Dataset, methods: tuple[Method, ...] = METHODS, *, folds: int = 5, seed: int = 0
) -> dict[Method, float]:
    """Cross-validated macro-F1 of starvation by method, best first; folds keep a composition together."""
    splits = list(GroupKFold(folds).split(dataset.sums, groups=dataset.groups))
    x, y = _inputs(dataset.features, fit_boundary(dataset)), dataset.starved.astype(np.int64)
    scores: dict[Method, float] = {}
    for method in methods:
        predicted = np.zeros_like(y)
        for fitted, held in splits:
            predicted[held] = _recipe(method, seed)[0]().fit(x[fitted], y[fitted]).predict(x[held])
        scores[method] = float(f1_score(y, predicted, average="macro"))
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


# --- recipes ---------------------------------------------------------------------------------------


def _recipe(method: Method, seed: int) -> tuple[Callable[[], _Estimator], Callable[[], _Estimator]]:
    """Makers of the classifier and of the regressor of a method."""
    match method:
        case "forest":
            common: dict[str, Any] = {"n_estimators": 50, "min_samples_leaf": 2, "random_state": seed}
            return (
                lambda: RandomForestClassifier(**common),
                lambda: RandomForestRegressor(max_features=0.5, **common),
            )
        case "neighbours":
            near: dict[str, Any] = {"n_neighbors": 5, "weights": "distance"}
            return (
                lambda: _compact(KNeighborsClassifier(**near)),
                lambda: _compact(KNeighborsRegressor(**near)),
            )
        case "svm":
            return (
                lambda: _compact(SVC(C=100.0, gamma=0.05)),
                lambda: _compact(_Separate(lambda: SVR(C=10.0, gamma=0.1, epsilon=0.02))),
            )
        case "boosting":
            boost: dict[str, Any] = {"max_iter": 150, "learning_rate": 0.1, "max_leaf_nodes": 15}
            return (
                lambda: HistGradientBoostingClassifier(random_state=seed, **boost),
                lambda: _Separate(lambda: HistGradientBoostingRegressor(random_state=seed, **boost)),
            )
        case "tree":
            small: dict[str, Any] = {"max_leaf_nodes": MAX_RULES, "min_samples_leaf": 4, "random_state": seed}
            return lambda: DecisionTreeClassifier(**small), lambda: DecisionTreeRegressor(**small)


_COMPACT = ("count", "rate", "token_rate", "rate_concentration", "max_loras", "kv_cache_tokens")
_COMPACT_RAW = ("max_lora_rank", "slot_demand", "slot_pressure", "region_fill", "active_4s")


def _compact(model: _Estimator) -> _Estimator:
    """A model for which distances matter: few inputs, sizes as logarithms, all on one scale."""
    pipeline: _Estimator = make_pipeline(FunctionTransformer(_compacted), StandardScaler(), model)
    return pipeline


def _compacted(x: FloatArray) -> FloatArray:
    logs = np.log(np.maximum(x[:, [INPUTS.index(name) for name in _COMPACT]], 1e-9))
    raw = x[:, [INPUTS.index(name) for name in _COMPACT_RAW]]
    raw[:, -2:] = np.minimum(raw[:, -2:], 1e9)
    return np.hstack([logs, raw, FILL_WEIGHT * np.minimum(raw[:, [3]], 2.0)])


FILL_WEIGHT = 2.0


class _Separate:
    """One model per column of the targets, for methods that know only one target."""

    def __init__(self, make: Callable[[], _Estimator]) -> None:
        self._make = make
        self._models: list[_Estimator] = []

    def fit(self, x: FloatArray, y: NDArray[Any]) -> _Separate:
        """Fit a model to every column of ``y``, shape (n, targets)."""
        self._models = [self._make().fit(x, column) for column in y.T]
        return self

    def predict(self, x: FloatArray) -> NDArray[Any]:
        """Predictions, shape (n, targets)."""
        return np.stack([model.predict(x) for model in self._models], axis=1)
