"""A picture of one run of one GPU over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenarios.plots import canvas_of
from scenarios.plots.figures import ALARM, BEST, GREY, gridded, log_axis
from twin.metrics import ttft_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from twin.result import SimulationResult

HEIGHT_INCHES = 2.6
LEAST_TTFT_S = 1e-3


def draw_run(result: SimulationResult, ax: Axes | None = None) -> Figure:
    """Requests that run and wait and the use of the KV cache over time, and how TTFT is distributed.

    Parameters
    ----------
    result
        The run.
    ax
        Axes to draw what runs and waits in, in place of those of a new figure.
    """
    share = f"{result.gpu.served_share:.1%} of the tokens served" if result.gpu.requests else "no request"
    title = f"One GPU, {len(result.names):,} names in {result.max_loras:,} slots: {share}"
    canvas = canvas_of(ax, title, HEIGHT_INCHES, (5, 3), joined=False)
    _draw_queues(canvas.panels[0], result)
    if canvas.own:
        _draw_ttft(canvas.panels[1], result)
    return canvas.finish(["running", "waiting"])


def _draw_queues(axes: Axes, result: SimulationResult) -> None:
    series = result.time_series()
    minutes = series["start_s"].to_numpy() / 60
    axes.plot(minutes, series["running"], color=BEST, label="running")
    axes.plot(minutes, series["waiting"], color=ALARM, linestyle="--", label="waiting")
    axes.set_xlabel("minutes")
    axes.set_ylabel("requests")
    axes.set_ylim(bottom=0)
    axes.spines[["top"]].set_visible(False)
    gridded(axes, "both")
    beside = axes.twinx()
    beside.plot(minutes, 100 * series["kv_use"], color=GREY, linestyle=":")
    beside.set_ylim(0, 105)
    beside.set_ylabel("KV cache in use, percent (dotted)", color=GREY)
    beside.spines[["top"]].set_visible(False)


def _draw_ttft(axes: Axes, result: SimulationResult) -> None:
    """The share of the requests that got their first token within a time."""
    records = result.records
    waits = ttft_s(records, result.frontend_s)
    counted = waits[(records.sent_s >= result.warmup_s) & np.isfinite(waits)]
    if len(counted):
        ordered = np.maximum(np.sort(counted), LEAST_TTFT_S)
        axes.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), color=BEST, where="post")
        log_axis(axes, "x", ordered[0] / 1.2, ordered[-1] * 1.2, most=5)
    axes.set_xlabel("seconds to the first token")
    axes.set_ylabel("percent of the requests")
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
