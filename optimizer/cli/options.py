"""Options and exit codes that the commands share."""

from __future__ import annotations

from typing import Annotated

import typer

EXIT_SOLVED = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INFEASIBLE = 3
EXIT_NO_PLAN = 4

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
        help="Seconds of search per placer; the best plan so far is kept. Regions to learn come on top.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
