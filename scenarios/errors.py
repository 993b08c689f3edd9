"""Errors that tell a user what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.text.display import visible

SHOWN_PROBLEMS = 50
"""Most problems of one input that an error's text spells out."""


class LorapackError(Exception):
    """Base of every error that lorapack raises on purpose."""


def cause_of(error: Exception) -> str:
    """Return why something failed, without the number and the path that the system says too."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Parameters
    ----------
    path
        Where, in the input's own terms: ``adapters[3].rank``.
    message
        What is wrong, with the value: ``is 128, above engine.max_lora_rank 64``.
    remedy
        What the user can do: ``raise it or drop adapter "fr-legal"``.
    line
        Line in the file, counted from 1; None where the input was no file.
    """

    path: str
    message: str
    remedy: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return visible(f"{where}{self.path} {self.message}" + (f"; {self.remedy}" if self.remedy else ""))


class InputError(LorapackError, ValueError):
    """What was given is wrong; holds every problem found at once."""

    def __init__(self, problems: Sequence[Problem], text: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(text or "\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:
        return type(self), (self.problems,)


class ScenarioError(InputError):
    """A scenario, a placement or another input file is wrong."""

    def __init__(self, problems: Sequence[Problem], source: str = "scenario") -> None:
        self.source = source
        shown = [f"  {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        hidden = len(problems) - len(shown)
        if hidden:
            shown.append(f"  ... and {hidden:,} more")
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        super().__init__(problems, "\n".join([f"{visible(source)}: {count}", *shown]))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[object, ...]]:
        return type(self), (self.problems, self.source)
