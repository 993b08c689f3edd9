"""Charts of the page as Vega specifications, made once in Python; the page puts the data in.

Marks are coloured with the page's own custom properties (``var(--...)``), so that light, dark and paper need
no other charts. The data of every chart has the name `ROWS`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt

ROWS = "rows"
HEIGHT = 170

Spec = dict[str, Any]
"""A Vega specification."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_CONFIG: Spec = {
    "background": "transparent",
    "font": _FONT,
    "aria": False,  # the page names each chart as one picture, and has its figures in a table
    "mark": {"aria": False},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink-2)",
        "titleColor": "var(--ink-2)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 4,
        "labelFlush": False,
        "labelOverlap": "greedy",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "symbolType": "stroke",
        "symbolStrokeWidth": 3,
        "symbolSize": 160,
        "offset": 6,
    },
}
_WHOLE = alt.Axis(format=",~r", tickMinStep=1, labelExpr="datum.value % 1 ? '' : datum.label")
"""Of numbers of GPUs: no ticks between whole ones are told, where few GPUs leave room for such."""

_INK, _MARK, _OTHER = "var(--ink-2)", "var(--chart-1)", "var(--chart-2)"


@cache
def charts() -> dict[str, Spec]:
    """All charts of the page, by name, compiled to Vega.

    The rows that each wants: of what goes on over time ``start``, ``end`` (minutes) and a value for each of
    its series; of latencies ``ms`` and ``share``; ``what_if``: ``load``, ``exact``, ``bound``, ``greedy``,
    ``exact_words``, ``greedy_words``, and ``now``, true where the slider is; ``comparison``: ``plan``,
    ``gpus``, ``accepted``, ``words``.
    """
    return {
        "requests": _over_time("requests", ("running", "waiting")),
        "memory": _over_time("share of the KV cache", ("KV cache in use",), share=True),
        "loads": _over_time("loads per minute", ("loads per minute",)),
        "tokens": _over_time("tokens per second", ("offered", "served")),
        "ttft": _latency("time to first token, ms"),
        "itl": _latency("time per output token, ms"),
        "e2e": _latency("time to the last token, ms"),
        "what_if": _what_if(),
        "comparison": _comparison(),
    }


def _compiled(chart: alt.Chart | alt.LayerChart, height: int = HEIGHT) -> Spec:
    """The chart as Vega, as wide as the element that it is put into."""
    sized = chart.properties(width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x"))
    spec: Spec = sized.configure(**_CONFIG).to_dict(format="vega")
    return spec


def _over_time(unit: str, series: tuple[str, ...], *, share: bool = False) -> Spec:
    """Lines over minutes; the part of the run under the pointer tells all of them."""
    rows = alt.Chart(alt.NamedData(ROWS))
    axis = alt.Axis(title=unit, format="%" if share else ",.4~r", tickCount=4, minExtent=36)
    scale = alt.Scale(zero=True, nice=True)
    colours = alt.Scale(domain=list(series), range=[_MARK, _OTHER][: len(series)])
    legend = alt.Legend() if len(series) > 1 else None
    lines = (
        rows.transform_fold(list(series), as_=["series", "value"])
        .mark_line(strokeWidth=2, interpolate="step-after", clip=True)
        .encode(
            x=alt.X("start:Q", title="minutes from the start of the run", axis=alt.Axis(grid=False)),
            y=alt.Y("value:Q", axis=axis, scale=scale),
            color=alt.Color("series:N", scale=colours, legend=legend),
            strokeDash=alt.StrokeDash(
                "series:N", scale=alt.Scale(domain=list(series), range=[[1, 0], [4, 4]][: len(series)])
            ),
        )
    )
    figure = ".0%" if share else ",.4~r"
    told = rows.mark_rect(fill=_INK, fillOpacity=0).encode(
        x="start:Q",
        x2="end:Q",
        tooltip=[
            alt.Tooltip("start:Q", title="minute", format=",.1f"),
            *(alt.Tooltip(f"{name}:Q", format=figure) for name in series),
        ],
    )
    return _compiled(lines + told)


def _latency(unit: str) -> Spec:
    """The share of requests that are done within a time."""
    log = alt.Scale(type="log", nice=False)
    x = alt.X(
        "ms:Q", title=f"{unit} (logarithmic)", scale=log, axis=alt.Axis(format=",~r", grid=False, tickCount=5)
    )
    y = alt.Y("share:Q", title="requests within", axis=alt.Axis(format="%", tickCount=4, minExtent=36))
    rows = alt.Chart(alt.NamedData(ROWS)).encode(x=x, y=y)
    told = [alt.Tooltip("share:Q", title="of the requests", format=".1%"), _figure("ms", "within ms")]
    line = rows.mark_line(strokeWidth=2, color=_MARK, interpolate="monotone")
    points = rows.mark_point(size=90, filled=True, color=_MARK, opacity=0).encode(tooltip=told)
    return _compiled(line + points)


def _what_if() -> Spec:
    """GPUs over load, of exact, of the greedy, and between bound and plan where that is open."""
    rows = alt.Chart(alt.NamedData(ROWS))
    x = alt.X(
        "load:Q",
        title="load, times that of the plan",
        axis=alt.Axis(format="~g", grid=False),
        scale=alt.Scale(zero=False, nice=False, padding=8),
    )
    colours = alt.Scale(domain=["exact", "greedy"], range=[_MARK, _OTHER])
    dashes = alt.Scale(domain=["exact", "greedy"], range=[[1, 0], [4, 4]])
    lines = (
        rows.transform_fold(["exact", "greedy"], as_=["series", "gpus"])
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=28, filled=True))
        .encode(
            x=x,
            y=alt.Y("gpus:Q", title="GPUs", axis=_WHOLE, scale=alt.Scale(zero=True)),
            color=alt.Color("series:N", scale=colours),
            strokeDash=alt.StrokeDash("series:N", scale=dashes),
        )
    )
    open_ = rows.mark_bar(color=_MARK, opacity=0.3, size=7).encode(x=x, y="bound:Q", y2="exact:Q")
    now = (
        rows.transform_filter("datum.now")
        .mark_rule(color=_INK, strokeDash=[2, 2], strokeWidth=1.5)
        .encode(x=x)
    )
    told = rows.mark_rule(strokeWidth=14, opacity=0).encode(
        x=x,
        tooltip=[
            _figure("load", "load"),
            alt.Tooltip("exact_words:N", title="exact"),
            alt.Tooltip("greedy_words:N", title="greedy"),
        ],
    )
    return _compiled(open_ + lines + now + told, 280)


def _comparison() -> Spec:
    """GPUs of each plan, and of the greedy beside it."""
    rows = alt.Chart(alt.NamedData(ROWS))
    y = alt.Y("plan:N", title=None, sort=None, axis=alt.Axis(labelLimit=220, ticks=False, domain=False))
    x = alt.X("gpus:Q", title="GPUs", axis=_WHOLE)
    colours = alt.Scale(domain=[True, False], range=[_MARK, "var(--r0)"])
    bars = rows.mark_bar(height={"band": 0.6}).encode(
        y=y, x=x, color=alt.Color("accepted:N", scale=colours, legend=None), tooltip=["plan:N", "words:N"]
    )
    numbers = rows.mark_text(align="left", dx=6, color="var(--ink)", fontSize=13)
    chart = bars + numbers.encode(y=y, x=x, text="words:N")
    spec: Spec = (
        chart.properties(width="container", height=alt.Step(38), autosize=alt.AutoSizeParams(type="fit-x"))
        .configure(**_CONFIG)
        .to_dict(format="vega")
    )
    return spec


def _figure(field: str, title: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=",.4~r")
