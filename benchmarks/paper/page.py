"""The page of the paper's figures: tables are put between marks, the words around them are people's.

A mark is a line ``<!-- NAME -->``; what follows it up to ``<!-- end -->`` is the table of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.paper.part import Part
from benchmarks.paper.published import published
from benchmarks.paper.rows import CPU, CUT, DIGEST, WALL
from benchmarks.paper.text import markdown
from scenarios import write_whole

_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


class PageError(ValueError):
    """The page lacks a place for a table."""


def shown_tables(rows: Mapping[str, pd.DataFrame], parts: Sequence[Part]) -> dict[str, pd.DataFrame]:
    """All tables of the page by the names of their marks, of the parts that have rows."""
    tables: dict[str, pd.DataFrame] = {}
    for part in parts:
        if part.name in rows:
            tables |= part.tables(rows[part.name])
    return tables | {"effort": effort(rows), "published": claims()}


def effort(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What each part took: cells, and seconds of the processor and of the clock."""
    return pd.DataFrame(
        {
            "part": name,
            "cells": frame[DIGEST].nunique(),
            "searches cut short": int(frame[CUT].eq(True).sum()) if CUT in frame else "",
            "seconds of the processor": f"{frame[CPU].sum():,.0f}",
            "seconds of the clock": f"{frame[WALL].sum():,.0f}",
        }
        for name, frame in rows.items()
    )


def claims() -> pd.DataFrame:
    """Published figures that are of no single workload."""
    table = published()
    table = table[table["model"].isna()]
    return pd.DataFrame(
        {"published": table["quantity"], "value": table["value"].map("{:g}".format), "unit": table["unit"],
         "source": table["source"]}
    )  # fmt: skip


def filled(text: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """A page's text with tables between their marks; places of other tables stay as they are.

    Raises
    ------
    PageError
        If a table has no place.
    """
    places = {name for _, name, _ in _MARKED.findall(text)}
    if lacking := sorted(set(tables) - places):
        raise PageError(
            f"the page has no place for {', '.join(lacking)}; add <!-- {lacking[0]} --> and <!-- end -->"
        )

    def put(place: re.Match[str]) -> str:
        begin, name, end = place.groups()
        return f"{begin}{markdown(tables[name])}\n{end}" if name in tables else place.group()

    return _MARKED.sub(put, text)


def fill_page(path: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Put tables into a page's file.

    Raises
    ------
    PageError
        If a table has no place on it.
    """
    write_whole(path, filled(path.read_text(encoding="utf-8"), tables))
