"""What a measurement left, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scenarios.text.formatting import counted, listed
from scenarios.text.tables import Column, Part, item, render, table
from twin.measuring.outcome import Outcome
from twin.measuring.subject import Subject
from twin.measuring.tables import MOST_BUNCHED

LATE_CLIENT_S = 0.1
"""Seconds by which the client may be late in sending (99th percentile) for its figures to be trusted."""


@dataclass(frozen=True)
class Measurements:
    """What a measurement left.

    Parameters
    ----------
    folder
        Where it is, for `calibrate`.
    subject
        What was measured.
    outcomes
        Figures of the finished stages, in their order.
    stopped
        Why it ended before all stages; empty: it did not.
    """

    folder: Path
    subject: Subject
    outcomes: tuple[Outcome, ...]
    stopped: str

    def __repr__(self) -> str:
        return f"<Measurements: {self.folder}, {counted(len(self.outcomes), 'stage')}>"

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The stages with their figures, as text."""
        return render(*self.parts())

    def parts(self) -> list[Part]:
        """What `summary` says, for `scenarios.text.tables.render`."""
        columns: list[str | Column] = [
            "stage",
            ">requests",
            Column(">failed", 1),
            Column(">s", 2),
            ">tok/s",
            ">ITL ms",
            ">TTFT ms",
        ]
        rows = [
            (
                one.name,
                one.requests,
                sum(one.failures.values()),
                one.seconds,
                one.tokens_per_s,
                one.itl_ms,
                one.ttft_ms,
            )
            for one in self.outcomes
        ]
        late_ms = max((one.lag_ms or 0.0 for one in self.outcomes), default=0.0)
        title = "what was sent, and what came back (ITL mean, TTFT median)"
        lines: list[Part] = [table(columns, rows, title=title)]
        if late_ms > 1e3 * LATE_CLIENT_S:
            lines.append(
                item(
                    f"the client sent up to {late_ms:.0f} ms late: its machine is too busy, and latencies "
                    "are longer than the server's; measure from another one"
                )
            )
        timed = [one for one in self.outcomes if one.kind in ("alone", "batch", "run")]
        bunched = [one.name for one in timed if one.bunched >= MOST_BUNCHED]
        if bunched:
            lines.append(
                item(
                    f"half of the tokens of {listed(bunched, 5)} came together with the one before: the "
                    "host is too busy for its server; no step is taken from there"
                )
            )
        return lines
