"""Cells and tables as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def percent(value: float | None, digits: int = 1) -> str:
    """A number of percent; empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.{digits}f} %"


def both_smapes(value: float | None) -> str:
    """Usual SMAPE in percent, and half of it, as the paper has it; empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.2f} % ({value / 2:.2f} %)"


def whole(value: float | None) -> str:
    """A number as a whole one; empty where there is none."""
    return "" if value is None or pd.isna(value) else f"{value:,.0f}"


def markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown; a column's name may end in spaces, which tell it from another."""
    heads = [str(name).strip() for name in frame.columns]
    lines = [
        heads,
        ["---"] * len(heads),
        *([str(cell) for cell in row] for row in frame.itertuples(index=False)),
    ]
    return "\n".join(_line(line) for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
