"""Pictures of results; the only module of the package that draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scenarios import LorapackError


class PlotError(LorapackError, OSError):
    """A picture cannot be written."""


def draw_comparison(frame: pd.DataFrame, path: Path) -> None:
    """Bars of GPUs per scenario and method; a line marks each bound, hatching what the twin rejected.

    Raises
    ------
    PlotError
        If the file cannot be written or its ending names no format.
    """
    from matplotlib.figure import Figure

    scenarios, methods = list(dict.fromkeys(frame["scenario"])), list(dict.fromkeys(frame["method"]))
    figure = Figure(figsize=(max(6.0, 1.2 * len(scenarios) * len(methods)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for column, method in enumerate(methods):
        rows = frame[frame["method"] == method].set_index("scenario").reindex(scenarios)
        x = np.arange(len(scenarios)) + (column - (len(methods) - 1) / 2) * width
        gpus = rows["gpus"].astype(float)
        hatches = ["" if accepted is True else "//" for accepted in rows["accepted"]]
        bars = axes.bar(x, gpus.fillna(0), width * 0.92, label=method, hatch=hatches)
        axes.bar_label(bars, labels=["–" if g != g else f"{g:.0f}" for g in gpus], padding=2)
        for left, bound in zip(x, rows["bound"].astype(float), strict=True):
            if bound == bound:
                axes.hlines(bound, left - width / 2, left + width / 2, colors="black", linewidth=1.6)
    axes.set_xticks(np.arange(len(scenarios)), scenarios)
    axes.set_ylabel("GPUs (black line: proven bound)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(methods), loc="upper left", bbox_to_anchor=(0, 1.12))
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise PlotError(f"{path} cannot be drawn: {error}; use a .png, .svg or .pdf file") from error
