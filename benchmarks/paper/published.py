"""What others published: figures with their sources, kept as data."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd


@cache
def published() -> pd.DataFrame:
    """Columns quantity, model, set, adapters, value, unit, source."""
    return pd.read_csv(Path(__file__).with_name("published.csv"))


def published_gpus(quantity: str, model: str, rates: str, adapters: int) -> int | None:
    """GPUs that others need on one workload; None where that is not known."""
    table = published()
    found = table[
        (table["quantity"] == quantity)
        & (table["model"] == model)
        & (table["set"] == rates)
        & (table["adapters"] == adapters)
    ]
    return None if found.empty else int(found["value"].iloc[0])


def published_value(quantity: str) -> float:
    """A figure that is of no single workload."""
    table = published()
    return float(table.loc[table["quantity"] == quantity, "value"].item())
