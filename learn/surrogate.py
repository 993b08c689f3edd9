"""Surrogates of the twin in scikit-learn: what a GPU does with given adapters, in microseconds.

The paper's three models (random forest, k nearest neighbours, support vectors; arXiv 2602.24044,
section 4), gradient boosting, extremely randomised trees, and a small tree that prints as rules. Each is
kept as its dataset and recipe, and fitted again when read: no pickle, so a file can hold numbers only.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from sklearn import __version__ as sklearn_version
from sklearn.tree import export_text

from learn.boundaries.boundary import BoundaryModel, fit_boundary
from learn.estimators import INPUTS, METHODS, Estimator, Method, inputs, one_thread, recipe
from learn.features import FEATURES, BoolArray, FloatArray
from learn.params import DEFAULTS, LearnParams
from learn.steady_state import SteadyState
from learn.storage.dataset import POSITIVE, Dataset, dataset_of, write_atomically
from scenarios import LorapackError, params_from
from scenarios.errors import cause_of
from scenarios.reading.syntax.json_text import json_value

_LATENCIES = ("itl_ms", "ttft_ms")
_SHARES = ("served_share", "worst_served_share")

_OFFERED = next(k for k, feature in enumerate(FEATURES) if feature.name == "token_rate")
_STEP = INPUTS.index("step_estimate")

_LEAST = np.array([np.finfo(np.float64).tiny if f.name in POSITIVE else 0.0 for f in FEATURES])
"""Smallest value that a candidate can have of each feature."""

ROUNDING = 1e-5
"""How far beyond an end of what was sampled a feature may lie in any case: where the end is 0, a share of it
is none, and a spread of nothing is seldom 0."""

Outside = Literal["warn", "refuse", "allow"]
"""What to do with candidates outside the sampled domain."""

FORMAT = 3


class SurrogateError(LorapackError, ValueError):
    """A surrogate cannot be fitted or read."""


class OutsideDomainError(SurrogateError):
    """A candidate lies outside what the surrogate was fitted on."""


class OutsideDomainWarning(UserWarning):
    """A candidate lies outside what the surrogate was fitted on."""


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
    starved: BoolArray
    inside: BoolArray

    def __repr__(self) -> str:
        return f"<Prediction: {len(self.starved):,} candidates, {int(self.starved.sum()):,} starved>"


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
    boundary, steady
        Linear model of the boundary and estimate of the steady state, which give the inputs beside the
        features; the regressor learns ITL as its ratio to the estimated step.
    scale
        What the regressor's targets were multiplied by, shape (4,).
    low, high
        Sampled range of every feature, shape (F,).
    params
        What it was fitted with.
    """

    method: Method
    seed: int
    dataset: Dataset
    classifier: Estimator
    regressor: Estimator
    boundary: BoundaryModel
    steady: SteadyState
    scale: FloatArray
    low: FloatArray
    high: FloatArray
    params: LearnParams = DEFAULTS

    def __repr__(self) -> str:
        return f"<Surrogate: {self.method}, fitted to {len(self.dataset):,} twin runs>"

    def predict(self, features: FloatArray, *, outside: Outside = "warn") -> Prediction:
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
        SurrogateError
            If ``outside`` is none of its choices, or the features are not those of candidates: their number,
            or a value that is not finite, negative, or 0 where there must be adapters, load or an engine.
        """
        features = _checked(features)
        inside = self._admitted(features, outside)
        if not len(features):  # of which scikit-learn's models want at least one
            return Prediction(*np.zeros((5, 0)), *np.zeros((2, 0), dtype=np.bool_))
        x = inputs(features, self.boundary, self.steady)
        with one_thread():
            targets = np.asarray(self.regressor.predict(x))
            starved = np.asarray(self.classifier.predict(x) > 0)
        itl, ttft, used, worst = (targets / self.scale).T
        served = np.clip(used / _overload(x), 0.0, 1.0)
        return Prediction(
            throughput_tok_per_s=features[:, _OFFERED] * served,
            itl_ms=np.exp(itl + x[:, _STEP]),
            ttft_ms=np.exp(ttft),
            served_share=served,
            worst_served_share=np.clip(worst, 0.0, 1.0),
            starved=starved,
            inside=inside,
        )

    def starved(self, features: FloatArray, *, outside: Outside = "warn") -> BoolArray:
        """Whether candidates starve, shape (m,); the cheap half of `predict`, with its errors."""
        features = _checked(features)
        self._admitted(features, outside)
        if not len(features):
            return np.zeros(0, dtype=np.bool_)
        x = inputs(features, self.boundary, self.steady)
        with one_thread():
            return np.asarray(self.classifier.predict(x) > 0)

    def _admitted(self, features: FloatArray, outside: Outside) -> BoolArray:
        """Which candidates are inside, shape (m,), after what ``outside`` asks for if one is not."""
        if outside not in get_args(Outside):
            choices = ", ".join(f'"{choice}"' for choice in get_args(Outside))
            raise SurrogateError(f"outside is {outside!r}; choose one of {choices}")
        inside = self.inside(features)
        if outside == "allow" or inside.all():
            return inside
        message = self._outside(features, inside)
        if outside == "refuse":
            raise OutsideDomainError(message)
        warnings.warn(message, OutsideDomainWarning, stacklevel=3)
        return inside

    def inside(self, features: FloatArray) -> BoolArray:
        """Whether candidates lie within the sampled range of every feature, or almost, shape (m,)."""
        return np.asarray(self._within(features).all(axis=1))

    def _within(self, features: FloatArray) -> BoolArray:
        return within(features, self.low, self.high, self.params.surrogate.tolerance)

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
        """Write the recipe to ``path`` (JSON) and the dataset beside it (CSV).

        Raises
        ------
        SurrogateError
            If ``path`` ends in ".csv", as the dataset's does.
        """
        path = Path(path)
        if path.suffix.lower() == ".csv":
            raise SurrogateError(f"{path}: the dataset takes that name; name a .json file for the recipe")
        data, text = path.with_suffix(".csv"), self.dataset.text()
        recipe = {
            "format": FORMAT,
            "method": self.method,
            "seed": self.seed,
            "dataset": data.name,
            "rows": len(self.dataset),
            "sha256": _digest(text.encode()),
            "scikit_learn": sklearn_version,
        }
        changes = self.params.changed()
        write_atomically(data, text)
        write_atomically(path, json.dumps(recipe | ({"params": changes} if changes else {})) + "\n")

    def _outside(self, features: FloatArray, inside: BoolArray) -> str:
        first = int(np.argmin(inside))
        k = int(np.argmin(self._within(features[first])))
        return (
            f"{int((~inside).sum())} of {len(inside)} candidates lie outside the sampled domain; the first "
            f"has {FEATURES[k].name} {features[first, k]:g} outside [{self.low[k]:g}, {self.high[k]:g}]; "
            f"sample a wider design or judge it with the twin"
        )


def within(
    values: FloatArray,
    low: FloatArray,
    high: FloatArray,
    tolerance: float = DEFAULTS.surrogate.tolerance,
) -> BoolArray:
    """Whether values from 0 up lie in a range, or almost, in the shape of the values."""
    low, high = low * (1 - tolerance) - ROUNDING, high * (1 + tolerance) + ROUNDING
    return np.asarray((values >= low) & (values <= high))


def fit(
    dataset: Dataset, method: Method = "extra", *, seed: int = 0, params: LearnParams = DEFAULTS
) -> Surrogate:
    """Fit every target by one method.

    Parameters
    ----------
    dataset
        Twin runs.
    method
        One of `METHODS`.
    seed
        Seed of methods that draw at random.
    params
        How the boundary, which is an input, and the models are fitted.

    Raises
    ------
    SurrogateError
        If there is no such method, the seed is no whole number from 0, or the runs are all starved or all
        healthy.
    """
    _check_recipe(method, seed)
    if dataset.starved.all() or not dataset.starved.any():
        alike = "starved" if dataset.starved.any() else "healthy"
        raise SurrogateError(f"all {len(dataset)} runs are {alike}; sample more")
    features, steady = dataset.features, SteadyState.of(dataset)
    boundary = fit_boundary(dataset, params.boundary)
    x = inputs(features, boundary, steady)
    classifier, regressor = recipe(method, seed, params.surrogate)
    latencies = np.stack([dataset.target(name) for name in _LATENCIES], axis=1)
    shares = np.stack([dataset.target(name) for name in _SHARES], axis=1)
    observed = (np.isfinite(latencies) & (latencies > 0)).all(axis=1)
    shares[:, 0] *= _overload(x)
    targets = np.hstack([np.log(latencies[observed]), shares[observed]])
    targets[:, 0] -= x[observed, _STEP]
    scale = np.array(params.surrogate.weights) / np.maximum(targets.std(axis=0), 1e-9)
    with one_thread():
        classify = classifier().fit(x, dataset.starved.astype(np.int64))
        regress = regressor().fit(x[observed], targets * scale)
    return Surrogate(
        method=method,
        seed=int(seed),
        dataset=dataset,
        classifier=classify,
        regressor=regress,
        boundary=boundary,
        steady=steady,
        scale=scale,
        low=features.min(axis=0),
        high=features.max(axis=0),
        params=params,
    )


def _check_recipe(method: Method, seed: int) -> None:
    """Refuse a method or a seed that there is not."""
    if method not in METHODS:
        raise SurrogateError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise SurrogateError(f"seed is {seed!r}; give a whole number from 0 to {2**32 - 1}")


def _checked(features: FloatArray) -> FloatArray:
    """Features of candidates as an array of shape (m, len(FEATURES)), if they are those of candidates."""
    checked = np.atleast_2d(np.asarray(features, dtype=np.float64))
    if checked.ndim != 2 or checked.shape[1] != len(FEATURES):
        raise SurrogateError(
            f"features of shape {np.shape(features)} are not (candidates, {len(FEATURES)}); "
            f"make them with learn.candidate_features"
        )
    wrong = ~(np.isfinite(checked) & (checked >= _LEAST))
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        need = "above 0" if _LEAST[k] else "0 or more"
        raise SurrogateError(
            f"candidate {row} has {FEATURES[k].name} {checked[row, k]:g}, and it must be finite and {need}; "
            f"give every candidate an engine, and something to serve with a rate and lengths above 0"
        )
    return checked


def _overload(x: FloatArray) -> FloatArray:
    """What a GPU is asked for over what it can do, at least 1, shape (m,).

    Its product with the served share stays near 1 however much is asked for, also beyond the runs.
    """
    return np.maximum(x[:, INPUTS.index("region_fill")], 1.0)


def read_surrogate(path: str | Path) -> Surrogate:
    """Read what `Surrogate.save` wrote and fit it again, to the same numbers.

    It warns where another version of scikit-learn, which may fit otherwise, wrote it.

    Raises
    ------
    SurrogateError
        If a file is missing, damaged or of another form, or the dataset is not the one that was saved.
    """
    path = Path(path)
    try:
        recipe = json_value(path.read_text(encoding="utf-8"))
        if recipe["format"] != FORMAT:
            raise ValueError(f"format {recipe['format']!r} is unknown")
        method, seed, version = recipe["method"], recipe["seed"], str(recipe["scikit_learn"])
        _check_recipe(method, seed)
        params = params_from(recipe.get("params", {}), LearnParams)
        dataset = _saved_dataset(path.parent / str(recipe["dataset"]), recipe)
    except KeyError as error:
        raise SurrogateError(f"{path}: not a surrogate (it has no {error.args[0]}); fit it again") from error
    except TypeError as error:
        raise SurrogateError(f"{path}: not a surrogate (it holds no recipe); fit it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SurrogateError(f"{path}: not a surrogate ({cause_of(error)}); fit it again") from error
    if version != sklearn_version:
        warnings.warn(
            f"{path}: saved with scikit-learn {version}, and {sklearn_version} may fit other numbers; "
            f"save it again",
            stacklevel=2,
        )
    try:
        return fit(dataset, method, seed=seed, params=params)
    except LorapackError as error:
        raise SurrogateError(f"{path}: {error}") from error


def _saved_dataset(path: Path, recipe: Mapping[str, Any]) -> Dataset:
    """The dataset of a recipe, if it is the one that was saved."""
    content = path.read_bytes()
    if _digest(content) != recipe["sha256"]:
        raise ValueError(f"{path} is not the dataset of {recipe['rows']} runs that was saved with it")
    return dataset_of(content.decode("utf-8"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
