"""The paper's tables and figures, made again beside the published ones.

    python -m benchmarks.paper --quick
    python -m benchmarks.paper --parts fidelity ml --measurements FOLDER
    python -m benchmarks.paper --parts gpus latency traces --minutes 60

Each part is a list of cells. What a cell gave is kept in PART.csv of the folder --out, with a digest of what
it was made of: the same command goes on after the last one, and cells of other inputs are measured anew.
From these rows come the pictures in the folder, and the tables of the page beside it.

fidelity    the twin against measured runs, and what chance does to predictable and unpredictable load
ml          the learned models against twin runs and measured runs
gpus        GPUs over adapters and rates for every placer, by both criteria
latency     the least time between tokens on so many GPUs
traces      plans by the rates of one window of a recording, judged by the next window

Takes an hour and a quarter of the processor with the defaults, and can be cut by --minutes and gone on with
later: fidelity 6 minutes, ml 4, gpus 30, latency 11, traces 14. --quick takes two minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.paper import fidelity, gpus, latency, ml, traces
from benchmarks.paper.page import fill_page, shown_tables
from benchmarks.paper.part import MissingDataError, Part, Settings
from benchmarks.paper.pictures import write_picture
from benchmarks.paper.rows import Clock, RowFile
from benchmarks.paper.text import markdown

PARTS: dict[str, Part] = {module.PART.name: module.PART for module in (fidelity, ml, gpus, latency, traces)}

OUT, QUICK_OUT = Path("docs/paper"), Path("build/paper")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper", description=__doc__, formatter_class=raw
    )
    parser.add_argument(
        "--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), metavar="PART",
        help=f"of {', '.join(PARTS)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few small cells of each part")
    for option, kind, value, text in (
        ("--measurements", Path, Path("measurements"), "folder of the public measurements"),
        ("--traces", Path, Path("traces"), "folder of the public traces"),
        ("--time-limit", float, 20.0, "seconds of the processor for the search of each plan"),
        ("--replications", int, 3, "twin runs per verdict"),
        ("--workers", int, 1, "processes"),
    ):
        parser.add_argument(option, type=kind, default=value, help=f"{text} (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin no cell after so many (default: no limit)")
    out = f"folder of rows and pictures (default: {OUT}; with --quick {QUICK_OUT})"
    parser.add_argument("--out", type=Path, help=out)
    page = "page to fill with the tables (default: that beside the folder, named after it, if there is one)"
    parser.add_argument("--page", type=Path, help=page)
    return parser.parse_args(arguments)


def measured(part: Part, settings: Settings, folder: Path, end: float) -> pd.DataFrame:
    """The rows of a part's cells, those that are there and those that are measured before the end."""
    file, cells = RowFile(folder / f"{part.name}.csv"), list(part.cells(settings))
    for number, cell in enumerate(cells, 1):
        if file.of(cell):
            continue
        if time.monotonic() >= end:
            print(f"{part.name}: the time is over; the same command goes on from here", flush=True)
            break
        clock = Clock()
        rows = part.measure(cell, settings)
        cpu_s, wall_s = clock.read()
        file.keep(cell, rows, cpu_s, wall_s)
        print(f"{part.name} {number}/{len(cells)} {cell}: {cpu_s:.1f} s of the processor", flush=True)
    return pd.DataFrame([row for cell in cells for row in file.of(cell)])


def show(rows: dict[str, pd.DataFrame], folder: Path, page: Path | None) -> None:
    """Draw the pictures, and print the tables or put them into the page."""
    known = {name: frame for name, frame in rows.items() if len(frame)}
    for name, frame in known.items():
        for picture, figure in PARTS[name].draw(frame).items():
            write_picture(figure, folder / f"{picture}.svg")
    tables = shown_tables(known, list(PARTS.values()))
    if page is not None:
        fill_page(page, tables)
        print(f"{page}: {', '.join(tables)}")
        return
    for name, table in tables.items():
        print(f"\n{name}\n{markdown(table)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, draw and show; 2 where data are missing."""
    given = parse(arguments)
    settings = Settings.of(given)
    folder: Path = given.out or (QUICK_OUT if given.quick else OUT)
    beside = folder.with_suffix(".md")
    page = given.page or (beside if beside.exists() else None)
    end = time.monotonic() + 60 * (given.minutes or float("inf"))
    try:
        for name in given.parts:  # what is missing is said before the work
            next(PARTS[name].cells(settings))
        for name in given.parts:
            measured(PARTS[name], settings, folder, end)
    except MissingDataError as error:
        print(f"python -m benchmarks.paper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here")
    show({name: frame for name in PARTS if len(frame := kept(folder, name))}, folder, page)
    return 0


def kept(folder: Path, name: str) -> pd.DataFrame:
    """All rows that a folder has of a part, whenever they were measured."""
    return pd.DataFrame(RowFile(folder / f"{name}.csv").rows)


if __name__ == "__main__":
    sys.exit(main())
