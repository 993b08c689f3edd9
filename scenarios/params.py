"""Parameters of algorithms: frozen groups of numbers with ranges, from Python or a TOML file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, ValidationError

from scenarios.base import FrozenModel
from scenarios.errors import Problem, ScenarioError
from scenarios.files import text_of
from scenarios.reading import error_messages
from scenarios.reading.yaml_reader import FILE


class Params(FrozenModel):
    """Base of a group of parameters.

    A field is a number with its range and default, or another group; its docstring says what it does and
    in which unit. Defaults are what every figure in the documentation was measured with.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, validate_default=True)

    def changed(self) -> dict[str, object]:
        """The parameters that differ from their defaults, nested as in a file; empty if none does."""
        changes: dict[str, object] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Params):
                inner = value.changed()
                changes |= {name: inner} if inner else {}
            elif value != info.get_default(call_default_factory=True):
                changes[name] = value
        return changes


P = TypeVar("P", bound=FrozenModel)


def read_params(path: str | os.PathLike[str], kind: type[P]) -> P:
    """Read a group of parameters from a TOML file; what it leaves out stays at its default.

    Parameters
    ----------
    path
        The file: one table per group, as ``[packing.annealing]``.
    kind
        The group at its top, as `optimizer.SolveParams`.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the file, each with path, value and remedy.
    """
    source = str(path)
    try:
        values = tomllib.loads(text_of(Path(path), source))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError([Problem(FILE, f"is no TOML: {error}", "correct it")], source) from error
    return params_from(values, kind, source)


def params_from(values: dict[str, object], kind: type[P], source: str = "params") -> P:
    """A group of parameters from nested values, checked and reported as `read_params` does.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the values.
    """
    try:
        return kind.model_validate(_with_tuples(values), strict=True)
    except ValidationError as error:
        problems = error_messages.problems(error.errors(include_url=False), kind, values)
    raise ScenarioError(problems, source)


def _with_tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
