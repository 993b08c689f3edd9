"""Parameters of algorithms: frozen groups of numbers with ranges, from Python or a TOML file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

from scenarios.base import FrozenModel
from scenarios.reading.parsing import model_from
from scenarios.reading.syntax.toml_text import toml_values
from scenarios.reading.text_files import text_of


class Params(FrozenModel, validate_default=True):
    """Base of a group of parameters.

    A field is a number with its range and default, or another group; its docstring says what it does and
    in which unit. Defaults are what every figure in the documentation was measured with.
    """

    def __repr__(self) -> str:
        """As it may be built again: what is at its default is left out, of which there is much."""
        changed = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.changed())
        return f"{type(self).__name__}({changed})"

    def changed(self) -> dict[str, object]:
        """The parameters that differ from their defaults, nested as in a file; empty if none does."""
        changes: dict[str, object] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Params):
                inner = value.changed()
                changes |= {name: inner} if inner else {}
            elif value != info.get_default(call_default_factory=True):
                changes[name] = self.model_dump(include={name})[name]
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
    return params_from(toml_values(text_of(Path(path), source), source), kind, source)


def params_from(values: dict[str, object], kind: type[P], source: str = "params") -> P:
    """A group of parameters from nested values, checked and reported as `read_params` does.

    Raises
    ------
    ScenarioError
        With everything that is wrong with the values.
    """
    return model_from(kind, values, source)


def parameter_table(kind: type[Params], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Path, default, range and meaning of every parameter of a group and of the groups in it."""
    rows = []
    for name, info in kind.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, Params):
            rows += parameter_table(type(default), f"{prefix}{name}.")
        else:
            limits = " and ".join(_limits(info.metadata, info.annotation))
            rows.append((prefix + name, _shown(default), limits, " ".join((info.description or "").split())))
    return rows


def _limits(metadata: Iterable[object], annotation: object) -> Iterator[str]:
    """Ranges of a field, or of the items of a list."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    for limit in metadata:
        yield from _limits(getattr(limit, "metadata", ()), None)
        for name, word in words.items():
            if hasattr(limit, name):
                yield f"{word} {getattr(limit, name):g}"
    for inner in get_args(annotation):
        yield from _limits(getattr(inner, "__metadata__", ()), getattr(inner, "__origin__", inner))


def _shown(default: object) -> str:
    """A default as a TOML file holds it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Params):
        return f"{{{', '.join(f'{name} = {_shown(value)}' for name, value in default)}}}"
    if isinstance(default, tuple):
        return f"[{', '.join(map(_shown, default))}]"
    return json.dumps(default)
