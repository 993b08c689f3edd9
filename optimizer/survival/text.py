"""What is said of losses: an answer in a line, and a table of the cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from scenarios import visible
from scenarios.text.formatting import counted
from scenarios.text.tables import Column, Part, marked, table

if TYPE_CHECKING:
    from optimizer.survival.report import LossCase, Survival

SHOWN = 12
"""Cases that the table shows; the rest is counted."""

NAMED = 6
"""GPUs that a cell names."""


def survival_parts(survival: Survival) -> Iterator[Part]:
    """The answer and the table."""
    yield answer(survival)
    if survival.losses:
        columns = (
            Column("lost"),
            Column(">alike", 3),
            Column("holds"),
            Column(">margin", 1),
            Column(">loaded", 2),
            Column(">restarted", 2),
        )
        worst_first = sorted(survival.losses, key=lambda case: (case.accepted, case.recovery == "live"))
        yield table(columns, [_row(case) for case in worst_first[:SHOWN]])
        if len(worst_first) > SHOWN:
            yield f"and {len(worst_first) - SHOWN} more cases; all of them: --json FILE"
    yield from _reasons(survival)
    if any(case.restarted for case in survival.losses):
        yield "how long a restart takes is not known: engine profiles have no start-up time"


def answer(survival: Survival) -> Text:
    """Whether the plan holds, in one line."""
    lost = f"{survival.in_words} ({survival.acceptance})"
    asked = "live" if survival.recovery == "live" else "after a restart"
    if survival.holds:
        how = "with the engines that run" if survival.live else "once engines are started again"
        return Text.assemble("loss of any ", lost, ": ", marked("holds", "good"), f" {how}")
    if not survival.complete and not survival.losses:
        unknown = marked("NOT KNOWN TO HOLD", "close")  # nothing is proven, and no loss was looked at
        found = unknown if survival.bound is None else marked("NO PLAN THAT HOLDS", "bad")
        return Text.assemble("loss of ", lost, ": ", found, f"; {survival.message}")
    if not survival.complete:
        seen = counted(len(survival.losses), "case")
        text = f" in the time ({seen} of them)"
        return Text.assemble("loss of ", lost, ": ", marked("not all cases looked at", "close"), text)
    more = "; it holds once engines are started again" if survival.after_restart else ""
    return Text.assemble("loss of ", lost, ": ", marked("DOES NOT HOLD", "bad"), f" {asked}{more}")


def _row(case: LossCase) -> list[object]:
    how = {"live": "live", "restart": "restart"}.get(case.recovery or "")
    held = marked(how, "good") if case.accepted and how else marked("NO", "bad")
    margin = None if case.worst_margin is None else f"{case.worst_margin:.3f}"
    return [
        _numbers(case.lost),
        len(case.alike),
        held,
        margin,
        case.loaded if case.accepted else None,
        len(case.restarted) if case.accepted else None,
    ]


def _numbers(gpus: tuple[int, ...]) -> str:
    more = f" and {len(gpus) - NAMED} more" if len(gpus) > NAMED else ""
    return f"GPU {', '.join(map(str, gpus[:NAMED]))}{more}"


def _reasons(survival: Survival) -> Iterator[str]:
    """Why losses are not survived, or not by the engines that run: one sentence for each reason."""
    said = dict[str, tuple[int, ...]]()
    for case in survival.losses:
        why = f"{case.why_not_live}; {case.why_not}" if case.why_not else case.why_not_live
        if why:
            said.setdefault(why, case.lost)
    for why, lost in list(said.items())[:SHOWN]:
        yield visible(f"{_numbers(lost)} lost: {why}")
