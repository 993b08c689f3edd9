"""The report as one HTML file that fetches nothing.

All texts from outside are escaped by Jinja2, or stand in a block of packed data, in whose letters no markup
can be written; the page's JavaScript shows them as text. A content security policy allows the scripts of the
page by their hashes, and no request to anywhere.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import vl_convert

from optimizer.reporting.contents import ReportContents
from optimizer.reporting.page import headlines
from optimizer.reporting.page.charts import charts
from optimizer.reporting.page.tile_view import ORDERS
from optimizer.reporting.page.views import COLUMNS, plan_views, table_rows
from scenarios.text.display import visible_lines
from scenarios.text.formatting import counted
from scenarios.text.tables import cell_text

NAMED_WITHOUT_SCRIPT = 2_000
"""Rows of the table of adapters that a browser without JavaScript shows."""

_STYLES = ("style.css", "tiles.css", "print.css")
_SCRIPTS = (
    "data.js",
    "tips.js",
    "charts.js",
    "tiles.js",
    "adapters.js",
    "over_time.js",
    "what_if.js",
    "page.js",
)


def render_page(contents: ReportContents) -> str:
    """Render a report as one HTML file.

    Parameters
    ----------
    contents
        What it shows.

    Returns
    -------
    str
        The whole file. Equal contents give equal files, of the same versions of the libraries.
    """
    shown = ReportContents.model_validate(_visible(contents.model_dump()))
    plans = plan_views(shown.plans)
    data = {
        "plans": [view.data() for view in plans],
        "charts": charts(),
        "columns": COLUMNS,
        "orders": {name: largest for name, (_, largest) in ORDERS.items()},
    }
    vega, script = _vega_embed(), _script()
    page = _environment().get_template("page.html")
    return page.render(
        contents=shown,
        plans=plans,
        columns=COLUMNS,
        orders=ORDERS,
        rows=lambda view: table_rows(view.plan.adapters, NAMED_WITHOUT_SCRIPT),
        style=_joined(_STYLES),
        data=_packed(json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))),
        vega=_packed(vega),
        script=script,
        policy=_policy((vega, script)),
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("optimizer.reporting.page", "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        figure=cell_text,
        percent=lambda value, digits=0: "–" if value is None else f"{value:.{digits}%}",
        counted=counted,
        money=headlines.money,
        short=headlines.short,
        sentence=headlines.sentence,
    )
    environment.globals.update(proof=headlines.proof, beside_greedy=headlines.beside_greedy)
    return environment


def _visible(value: Any) -> Any:
    """The value with all that a browser would obey or hide in its texts made visible."""
    if isinstance(value, str):
        return visible_lines(value)
    if isinstance(value, dict):
        return {_visible(key): _visible(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_visible(one) for one in value]
    return value


def _packed(text: str) -> str:
    """A text gzipped, in base64: shorter, and in letters that end no element. Equal texts give equal ones."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _vega_embed() -> str:
    """The JavaScript that draws Vega's charts, with all that it needs."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


@cache
def _script() -> str:
    return f'(async () => {{\n"use strict";\n{_joined(_SCRIPTS)}}})();\n'


def _joined(names: tuple[str, ...]) -> str:
    folder = files("optimizer.reporting.page") / "templates"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _policy(scripts: tuple[str, ...]) -> str:
    """Only these scripts run, and nothing is fetched; ``unsafe-eval``, as Vega compiles expressions."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed} 'unsafe-eval'; img-src data:"
