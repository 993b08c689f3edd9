"""Tables of what was foretold and measured, as they stand in the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from live_engine.foretelling import Compared


def foretold_table(rows: Iterable[Compared]) -> str:
    """A Markdown table: foretold, measured, error, and the spread of the repetitions in brackets."""
    lines = [
        "| run | requests | tok/s | ITL ms | TTFT ms | late % | keeps up |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(table_row, rows)])


def table_row(row: Compared) -> str:
    """The row of one case."""
    cells = [row.case, str(row.requests), *(_pair(row, name) for name in ("throughput", "itl_ms", "ttft_ms"))]
    cells.append(f"{100 * row.told.late_share:.1f} / {100 * row.mean('late_share'):.1f}")
    kept = [one.keeps_up for one in row.seen]
    words = "yes" if all(kept) else "no" if not any(kept) else f"{sum(kept)} of {len(kept)}"
    cells.append(f"{'yes' if row.told.keeps_up else 'no'} / {words}")
    return "| " + " | ".join(cells) + " |"


def _pair(row: Compared, name: str) -> str:
    told, seen = getattr(row.told, name), row.mean(name)
    return f"{told:,.4g} / {seen:,.4g}: {100 * row.error(name):+.1f} % (±{100 * row.spread(name):.1f})"
