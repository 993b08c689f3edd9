"""docs/params.md lists every parameter; `python tests/test_docs_params.py` writes its tables anew."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from optimizer import CheckParams, ReportParams, SolveParams
from scenarios import Params
from scenarios.params import parameter_table
from twin import CalibrationParams
from twin.measuring import MeasureParams

PAGE = Path(__file__).parents[1] / "docs" / "params.md"
KINDS: dict[str, type[Params]] = {
    "solve": SolveParams,
    "calibrate": CalibrationParams,
    "measure": MeasureParams,
    "check": CheckParams,
    "report": ReportParams,
}


def tables(kind: type[Params]) -> str:
    """One table per group."""
    parts = []
    for group, rows in groupby(parameter_table(kind), key=lambda row: row[0].rpartition(".")[0]):
        lines = [f"### `[{group}]`" if group else "### top level", ""]
        lines += ["| parameter | default | range | meaning |", "|---|---|---|---|"]
        for path, default, limits, meaning in rows:
            text = meaning.replace("|", "\\|")
            lines.append(f"| `{path.rpartition('.')[2]}` | {default} | {limits} | {text} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def page_with_tables(page: str) -> str:
    for name, kind in KINDS.items():
        mark = re.compile(rf"(<!-- tables of {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        page = mark.sub(lambda found, kind=kind: f"{found[1]}\n{tables(kind)}\n\n{found[2]}", page)
    return page


def test_the_page_lists_every_parameter() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_tables(page)
    assert page.count("\n| `") > 100


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
