"""Tables of what was foretold and measured, as they stand in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def foretold_table(rows: Iterable[Mapping[str, object]]) -> str:
    """A Markdown table: foretold, measured, error, and the spread of the repetitions in brackets."""
    lines = [
        "| run | requests | tok/s | ITL ms | TTFT ms | late % | keeps up |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [str(row["case"]), str(row["requests"])]
        cells += [_pair(row, name) for name in ("throughput", "itl_ms", "ttft_ms")]
        late = [100 * float(str(row[f"late_share_{word}"])) for word in ("foretold", "measured")]
        cells.append(f"{late[0]:.1f} / {late[1]:.1f}")
        seen = row["keeps_up_measured"]
        assert isinstance(seen, list)
        words = "yes" if all(seen) else "no" if not any(seen) else f"{sum(seen)} of {len(seen)}"
        cells.append(f"{'yes' if row['keeps_up_foretold'] else 'no'} / {words}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pair(row: Mapping[str, object], name: str) -> str:
    told, seen, error, spread = (
        float(str(row[f"{name}_{word}"])) for word in ("foretold", "measured", "error", "spread")
    )
    return f"{told:,.4g} / {seen:,.4g}: {100 * error:+.1f} % (±{100 * spread:.1f})"
