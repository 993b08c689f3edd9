"""How each surrogate is made: its inputs, and the scikit-learn models of starvation and other targets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import ThreadpoolController

from learn.boundaries.boundary import BoundaryModel
from learn.features import ADDITIVE, FEATURES, VARIANCE, FloatArray
from learn.params import SurrogateParams
from learn.steady_state import ESTIMATES, SteadyState

Method = Literal["extra", "forest", "neighbours", "svm", "boosting", "tree"]
METHODS: tuple[Method, ...] = ("extra", "forest", "neighbours", "svm", "boosting", "tree")

_FEATURES = [f.name for f in FEATURES]
_ENGINE = [_FEATURES.index(name) for name in ("max_loras", "max_lora_rank", "kv_cache_tokens")]
_OWN = [k for k, name in enumerate(_FEATURES) if name != VARIANCE]

INPUTS = [*(_FEATURES[k] for k in _OWN), "region_fill", *ESTIMATES]
"""Inputs of the models: the features, how full the linear region is, and the engine's steady state."""


class Estimator(Protocol):
    """What a recipe makes."""

    def fit(self, x: FloatArray, y: NDArray[Any]) -> Any:
        """Fit to inputs of shape (n, inputs) and targets of shape (n,) or (n, targets)."""
        ...

    def predict(self, x: FloatArray) -> NDArray[Any]:
        """Predict, in the shape of the targets."""
        ...


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """One thread for the models: more wait for each other longer than so few runs take."""
    limit: AbstractContextManager[object] = _threads().limit(limits=1)
    return limit


def inputs(features: FloatArray, boundary: BoundaryModel, steady: SteadyState) -> FloatArray:
    """Inputs of the models, shape (m, len(INPUTS)), from features of shape (m, len(FEATURES))."""
    fill = boundary.fill(features[:, : len(ADDITIVE)], features[:, _ENGINE])
    return np.column_stack([features[:, _OWN], fill, steady.estimate(features)])


def recipe(
    method: Method, seed: int, params: SurrogateParams
) -> tuple[Callable[[], Estimator], Callable[[], Estimator]]:
    """Makers of the classifier and of the regressor of a method."""
    match method:
        case "extra":
            extra = {"n_estimators": 16, "random_state": seed}
            return (
                lambda: ExtraTreesClassifier(min_samples_leaf=3, max_features=1.0, **extra),
                lambda: make_pipeline(
                    _inputs_by(_widened, params), ExtraTreesRegressor(max_features=0.8, **extra)
                ),
            )
        case "forest":
            common = {"n_estimators": 30, "min_samples_leaf": 2, "random_state": seed}
            return (
                lambda: RandomForestClassifier(**common),
                lambda: RandomForestRegressor(max_features=0.5, **common),
            )
        case "neighbours":
            near = {"n_neighbors": 5, "weights": "distance"}
            return (
                lambda: _on_one_scale(KNeighborsClassifier(**near), params),
                lambda: _on_one_scale(KNeighborsRegressor(**near), params),
            )
        case "svm":
            return (
                lambda: _on_one_scale(SVC(C=100.0, gamma=0.03), params),
                lambda: _on_one_scale(MultiOutputRegressor(SVR(C=30.0, gamma=0.03, epsilon=0.05)), params),
            )
        case "boosting":
            boost = {"max_leaf_nodes": 15, "random_state": seed}
            return (
                lambda: HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, **boost),
                lambda: MultiOutputRegressor(
                    HistGradientBoostingRegressor(max_iter=60, learning_rate=0.2, **boost)
                ),
            )
        case "tree":
            small = {"max_leaf_nodes": params.max_rules, "min_samples_leaf": 4, "random_state": seed}
            return lambda: DecisionTreeClassifier(**small), lambda: DecisionTreeRegressor(**small)


_LOGS = (
    "count",
    "rate",
    "token_rate",
    "kv_cache_tokens",
    "max_loras",
    "max_lora_rank",
    "active_1s",
    "active_4s",
    "active_16s",
    "kv_pressure",
    "rate_concentration",
)
"""Inputs that matter by their ratios."""


def _inputs_by(transform: Callable[[FloatArray, float], FloatArray], params: SurrogateParams) -> Any:
    return FunctionTransformer(transform, kw_args={"steepness": params.steepness})


def _on_one_scale(model: Estimator, params: SurrogateParams) -> Estimator:
    """A model for which distances matter: few inputs, all on one scale."""
    pipeline: Estimator = make_pipeline(_inputs_by(_compacted, params), StandardScaler(), model)
    return pipeline


def _compacted(x: FloatArray, steepness: float) -> FloatArray:
    """Sizes as logarithms, and how full the region is, cut where it stops to matter."""
    logs = np.log(np.maximum(x[:, [INPUTS.index(name) for name in _LOGS]], 1e-9))
    full = np.minimum(x[:, INPUTS.index("region_fill")], 2.0)
    side = 1.0 / (1.0 + np.exp(-steepness * (full - 1.0)))
    demand = x[:, INPUTS.index("slot_demand")]
    pressure = np.minimum(x[:, INPUTS.index("slot_pressure")], 3.0)
    estimates = x[:, [INPUTS.index(name) for name in ESTIMATES]]
    return np.column_stack([logs, full, np.minimum(full, 1.0), side, demand, pressure, estimates])


def _widened(x: FloatArray, steepness: float) -> FloatArray:
    """All inputs, and the same once more on scales on which a model is smoother."""
    return np.hstack([x, _compacted(x, steepness)])
