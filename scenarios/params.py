"""Parameters of algorithms: frozen groups of numbers with ranges, from Python or a TOML file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TypeVar

from scenarios.base import FrozenModel
from scenarios.errors import Problem, ScenarioError
from scenarios.reading.parsing import model_from
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE


class Params(FrozenModel, validate_default=True):
    """Base of a group of parameters.

    A field is a number with its range and default, or another group; its docstring says what it does and
    in which unit. Defaults are what every figure in the documentation was measured with.
    """

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


P = TypeVar("P", bound=Params)


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
    return model_from(kind, values, source)
