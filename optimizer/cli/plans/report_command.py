"""``lorapack report``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.options import (
    JsonOption,
    ParamsOption,
    QuietOption,
    TotalLimitOption,
    WorkersOption,
    noticing_signals,
    params_in,
)
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from optimizer.reporting.report import Report

LARGE_BYTES = 3_000_000
"""Size of a page beyond which the command says it."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "report", noticing_signals(report_command), "result.json --out report.html")


def report_command(
    result: Annotated[
        list[Path], typer.Argument(metavar="RESULT", help="What `solve --json` wrote, one file or several.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Where to write the page.")] = None,
    no_what_if: Annotated[
        bool,
        typer.Option(
            "--no-what-if", help="Leave out GPUs at other loads and patiences, which take up to a minute."
        ),
    ] = False,
    total_limit: TotalLimitOption = None,
    workers: WorkersOption = 2,
    params: ParamsOption = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write one page for a browser, which needs no network: what the plans of RESULT are, and why.

    GPUs and cost first; every GPU with its adapters, and over time as the twin runs it again; why not fewer,
    and what would save; GPUs at other loads by the linear model; plans beside each other; and what is needed
    to repeat it. --json writes the same as data.

    Exit code 0: written, also where a limit left something out, which the page says.
    """
    if out is None and json is None:
        raise typer.BadParameter("name where to write: --out FILE.html, or --json FILE for the data")
    check_outputs({"--out": out, "--json": json}, (*result, params))
    if out is not None:
        import optimizer.reporting.page  # before the work, as its packages may be missing
    import optimizer
    from optimizer.cli.progress_display import progress_shown

    tuned = params_in(params, optimizer.ReportParams)
    with progress_shown(not quiet) as progress:
        made = optimizer.report(
            list(result),
            what_if=not no_what_if,
            total_limit_s=total_limit,
            workers=workers,
            progress=progress,
            params=tuned,
        )
    answer = f"{made.headline}" if out is None else f"{made.headline}; the page is {out}"
    deliver([answer], Output(out, partial(_write, made)), text_output(json, made.to_json))


def _write(made: Report, out: str | Path) -> None:
    """Write the page, and say so if it is large: nothing is left out to keep it small."""
    made.write(out)
    size = Path(out).stat().st_size
    if size > LARGE_BYTES:
        note(f"lorapack: {out} has {size / 1e6:.1f} MB; pages of fewer results are smaller")
