"""Options and exit codes that the commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

P = ParamSpec("P")

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a value: engine.max_model_len=16384 (repeatable)."
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write JSON to a file, or to standard output with -."),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seed; absent: the scenario's.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes; the answer does not depend on it.")]
TimeLimitOption = Annotated[
    float,
    typer.Option(
        min=0.1,
        help="Seconds of search per placer; the best plan so far is kept. Compiling, once after "
        "installation, and regions to learn come on top.",
    ),
]
TotalLimitOption = Annotated[
    float | None,
    typer.Option(min=0.1, help="Seconds for everything, compiling and learning too; absent: no such limit."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def noticing_signals(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose work notices SIGINT and SIGTERM at safe points, and tells what it has by then."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from scenarios.interrupts import ignore_signals, noticed

        with noticed():
            try:
                command(*args, **kwargs)
            finally:
                sys.stdout.flush()
                ignore_signals()

    return run


def write_text(target: str | Path, text: str) -> None:
    """Write a file whole or not at all; ``-`` is standard output.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    if str(target) == "-":
        print(text)
        return
    from scenarios.output import write_whole  # costs time to import, and not every command writes

    write_whole(target, text if text.endswith("\n") else text + "\n")


def emit(text: str, as_json: str, target: str | None) -> None:
    """Print the table, or write the JSON where ``--json`` says (with ``-``, instead of the table)."""
    if target is not None:
        write_text(target, as_json)
    if target != "-":
        print(text)


def note(text: str) -> None:
    """Say something that is not the result, on stderr."""
    print(text, file=sys.stderr)
