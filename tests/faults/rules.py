"""What must hold after a signal, and after the command was run again."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.faults.commands import REMAINS, Ending, Place, answer_of

LEFT = "lorapack: interrupted\n"
"""What a command says that is left at once."""

STARTING = re.compile(r"Traceback \(most recent call last\):\n.*KeyboardInterrupt\n", re.DOTALL)
"""What Python says of Ctrl-C before it runs the first line of the command."""


@dataclass(frozen=True)
class Whole:
    """An undisturbed run.

    Parameters
    ----------
    command
        Its name.
    ending
        How it ended.
    content
        What it left (`Place.content`).
    answer
        What it wrote (`answer_of`).
    """

    command: str
    ending: Ending
    content: dict[str, bytes]
    answer: Any

    @classmethod
    def of(cls, command: str, place: Place, ending: Ending) -> Whole:
        """What there is after a run that nothing disturbed."""
        return cls(command, ending, place.content(), answer_of(command, place.target.read_bytes()))

    @property
    def settled(self) -> bool:
        """Whether no limit of time had a part in the answer, so that it must come out again."""
        return "time_limit" not in json.dumps(self.answer)


def faults(
    whole: Whole, place: Place, ending: Ending, number: int, sent_s: float, old: bytes | None
) -> Iterator[str]:
    """What is wrong after a signal.

    Parameters
    ----------
    whole
        The same command undisturbed.
    place, ending
        Where it ran, and how it ended.
    number
        The signal.
    sent_s
        Seconds from its start at which it was sent.
    old
        What was in the place of the output before; None: nothing.
    """
    yield from (f"{process} lives on" for process in ending.living)
    written = place.target.read_bytes() if place.target.exists() else None
    new = written if written != old else None
    answer = None
    if new is not None:
        try:
            answer = answer_of(whole.command, new)
        except ValueError as error:
            yield f"half a file: {error}"
            return
    if ending.code == -signal.SIGKILL:
        if number != signal.SIGKILL:
            yield "was killed"
    elif ending.code == -number or STARTING.fullmatch(ending.err):
        if new is not None or ending.out or ending.accepted:
            yield "died of the signal, though it had begun"
    else:
        yield from _said(whole, ending, answer, sent_s)


def _said(whole: Whole, ending: Ending, answer: Any, sent_s: float) -> Iterator[str]:
    """What is wrong with the answer of a command that came to its end by itself."""
    if ending.err == LEFT:
        if (ending.code, ending.out, answer) != (4, "", None):
            yield f"left at once, but with exit code {ending.code} and an answer"
        if any(at < sent_s for at in ending.accepted):
            yield "left at once, though a plan had been accepted"
        return
    if ending.err:
        yield f"said on stderr: {ending.err.strip().splitlines()[-1]}"
    if answer is None:
        yield "wrote no answer"
        return
    if not ending.out:
        yield "said no answer"
    if whole.command == "fit":
        if answer != whole.answer or ending.code != 0:
            yield f"other regions, exit code {ending.code}"
        return
    results = _results(answer)
    cut_short = any(result.stop_reason == "interrupted" for result in results)
    if cut_short and whole.command == "solve" and "interrupted" not in ending.out:
        yield "does not say that it was interrupted"
    yield from _claims(results, _results(whole.answer))
    has_plan = any(result.accepted for result in results)
    if any(at < sent_s for at in ending.accepted) and not has_plan:
        yield "a plan had been accepted, and none is told"
    if ending.code != (0 if has_plan else 4):
        yield f"exit code {ending.code} {'with' if has_plan else 'without'} a plan"


class _Result(NamedTuple):
    """What JSON and CSV both have of a result."""

    status: str
    stop_reason: str
    accepted: bool
    gpus: float
    bound: float


def _results(answer: Any) -> list[_Result]:
    return [
        _Result(
            row["status"],
            row["stop_reason"],
            str(row.get("accepted") or (row.get("validation") or {}).get("accepted")) == "True",
            float(row["gpus"] or 0),
            float(row["bound"] or 0),
        )
        for row in (answer if isinstance(answer, list) else [answer])
    ]


def _claims(results: list[_Result], wholes: list[_Result]) -> Iterator[str]:
    """What interrupted results claim beyond those of the whole search."""
    if len(results) != len(wholes):
        yield f"{len(results)} results of {len(wholes)}"
        return
    for result, whole in zip(results, wholes, strict=True):
        if result.gpus and whole.accepted and not result.accepted:
            yield "the plan is not accepted"
        if result.stop_reason == "proven" and whole.stop_reason != "proven":
            yield "claims a proof"
        if whole.accepted and result.bound > whole.gpus:
            yield f"bound {result.bound:g} is above an accepted plan of {whole.gpus:g} GPUs"
        if result.status == "optimal" and result.gpus != whole.gpus:
            yield f"{result.gpus:g} GPUs are not optimal"


def faults_again(whole: Whole, place: Place, ending: Ending) -> Iterator[str]:
    """What is wrong after the command was run again where a signal had ended it."""
    if (ending.code, ending.err) != (whole.ending.code, whole.ending.err):
        yield f"again: exit code {ending.code}, {ending.err.strip()!r}"
    content = place.content()
    if whole.settled:
        try:
            if answer_of(whole.command, place.target.read_bytes()) != whole.answer:
                yield "again: another answer"
        except (OSError, ValueError) as error:
            yield f"again: no whole answer ({error})"
    yield from (f"again: {path} is left" for path in content if REMAINS in path or path.startswith("tmp/"))
    kept = {path: text for path, text in content.items() if path.startswith("cache/")}
    before = {path: text for path, text in whole.content.items() if path.startswith("cache/")}
    if kept != before and whole.settled:
        differing = sorted(path for path in {*kept, *before} if kept.get(path) != before.get(path))
        yield f"again: the cache differs in {', '.join(differing)}"
    yield from (f"again: {process} lives on" for process in ending.living)
