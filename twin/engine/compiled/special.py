"""What few runs have: compiled into a loop of its own, so that others need not ask for it in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import overload

from twin.engine.compilation import compiled
from twin.engine.state import Engine, Record, SpecialState, State


def is_special(state: State) -> bool:
    """Whether a run may have what few have; known when the loop is compiled, from the type of its state."""
    return isinstance(state, SpecialState)


@overload(is_special, inline="always")
def _is_special(state: Any) -> Callable[[Any], bool]:
    special = issubclass(state.instance_class, SpecialState)

    def known(state: Any) -> bool:  # noqa: ARG001 - numba wants the same arguments
        return special

    return known


@compiled
def is_caching(engine: Engine, state: State) -> bool:
    """Whether blocks keep their text."""
    return bool(is_special(state) and engine.caching)


@compiled
def keeps_line(engine: Engine, state: State) -> bool:
    """Whether waiting requests stand in a line, rather than in queues by adapter."""
    return bool(is_special(state) and engine.keeps_line)


@compiled
def is_base(state: State, adapter: Record) -> bool:
    """Whether an adapter's record is that of the base model."""
    return bool(is_special(state) and adapter.base)


@compiled
def is_ahead(engine: Engine, state: State) -> bool:
    """Whether steps are scheduled while the ones before them run."""
    return bool(is_special(state) and engine.ahead)


@compiled
def is_over(engine: Engine, state: State, r: int) -> bool:
    """Whether a running request has its last token already, though no step that is scheduled knows of it."""
    return bool(is_ahead(engine, state) and state.extra[r].over)


@compiled
def lingers(engine: Engine, state: State) -> bool:
    """Whether such a request is scheduled once more, for nothing."""
    return bool(is_ahead(engine, state) and engine.after_last)
