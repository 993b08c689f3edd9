"""A plugin of pytest that runs the compiled loops in plain Python: ``-p tests.mutants.interpreted``.

Slower by far, but a changed line of theirs need not be compiled first. numba's own switch for it does not do:
the loops read fields of records as attributes, and are compiled by classes of our own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parents[2] / "twin"


class _Fields(np.void):
    """A record whose fields are attributes, and plain numbers of Python, as in compiled code."""

    def __getattribute__(self, name: str) -> Any:
        try:
            return np.void.__getitem__(self, name).item()
        except (ValueError, KeyError):  # it is no field, of which some are called as what all arrays have
            return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def _loaded(name: str) -> ModuleType:
    """A module of the twin, loaded before the package whose modules take from it."""
    path = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _give_fields(module: ModuleType) -> None:
    """Let records of a module's layouts be such as have fields."""
    named = {name: value for name, value in vars(module).items() if isinstance(value, np.dtype)}
    vars(module).update({name: np.dtype((_Fields, value)) for name, value in named.items()})


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    return function


def _kept(_sources: str, **_: Any) -> Callable[..., Any]:
    return _as_it_is


def interpret() -> None:
    """Let what is imported from now on run as it is written.

    Raises
    ------
    RuntimeError
        If the package was imported already.
    """
    if "twin" in sys.modules:
        raise RuntimeError("the package twin was imported before the plugin")
    compilation, layouts = _loaded("twin.engine.compilation"), _loaded("twin.engine.layouts")
    replaced = dict.fromkeys(("InnerFunction", "compiled", "apart", "cached"), _as_it_is)
    vars(compilation).update(
        replaced, kept=_kept, is_on_disk=lambda _kernel: True, is_kept=lambda _kernel: False
    )
    plain = layouts.layout_of
    _give_fields(layouts)
    layouts.layout_of = lambda fields: np.dtype((_Fields, plain(fields)))
    _give_fields(importlib.import_module("twin.engine.texts"))


interpret()
