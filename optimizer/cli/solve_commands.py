"""``lorapack solve`` and ``lorapack compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.options import (
    AcceptanceOption,
    ExpectedOption,
    JsonOption,
    LoadFactorOption,
    MeasuredOnlyOption,
    ParamsOption,
    QuietOption,
    RecoveryOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    TimeLimitOption,
    TotalLimitOption,
    WorkersOption,
    noticing_signals,
    params_in,
    scenario_in,
    with_cluster,
)
from optimizer.cli.outputs import Output, check_outputs, deliver, placement_output, text_output
from optimizer.cli.streams import say
from scenarios import Stopped, interrupted
from scenarios.scenario import OBJECTIVES
from scenarios.text.tables import Part

if TYPE_CHECKING:
    from optimizer.result import Result

MethodOption = Annotated[
    str, typer.Option(metavar="METHOD", help="exact, greedy, bfd, ...: `lorapack methods` lists them.")
]
ObjectiveOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(OBJECTIVES)}; several by commas or by repeating it, the most important first. "
        "Absent: the scenario's.",
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Most GPUs; where a latency or balance comes first, that many. Absent: as many as the scenario "
        "has; for a latency or balance, the fewest.",
    ),
]
GapLimitOption = Annotated[
    float,
    typer.Option(
        metavar="SHARE", min=0.0, max=0.99, help="Stop at this gap between plan and bound: 0.05 is 5 %."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    register(
        app,
        "solve",
        noticing_signals(solve_command),
        "mixed_ranks --objective gpus,latency --placement plan.yaml",
    )
    register(
        app,
        "compare",
        noticing_signals(compare_command),
        "mixed_ranks --methods greedy,bfd,exact --csv table.csv",
    )
    register(app, "methods", methods_command)


@with_cluster
def solve_command(
    scenario: ScenarioArgument,
    method: MethodOption = "exact",
    objective: ObjectiveOption = None,
    gpus: GpusOption = None,
    time_limit: TimeLimitOption = 60.0,
    total_limit: TotalLimitOption = None,
    gap_limit: GapLimitOption = 0.0,
    seed: SeedOption = None,
    workers: WorkersOption = 2,
    acceptance: AcceptanceOption = None,
    expected: ExpectedOption = False,
    measured_only: MeasuredOnlyOption = False,
    set_: SetOption = None,
    load_factor: LoadFactorOption = 1.0,
    params: ParamsOption = None,
    json: JsonOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw load and adapters of every GPU to a PNG, SVG or PDF file."),
    ] = None,
    placement: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write which adapter goes where, for `lorapack validate` and `replan`."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say what fills each GPU, why not fewer, what would save, and how much load may grow.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a page for a browser: the plan, its GPUs over time, why not fewer, what if.",
        ),
    ] = None,
    spare: Annotated[
        str | None,
        typer.Option(
            metavar="N|1node",
            help="The fewest GPUs with which the plan still holds after the loss of any 1 or 2 GPUs, or of a "
            "node: 1, 2 or 1node.",
        ),
    ] = None,
    recovery: RecoveryOption = "live",
    quiet: QuietOption = False,
) -> None:
    """Place the adapters of SCENARIO; every GPU of the plan is judged by the digital twin.

    Exit code 0: solved; 3: proven infeasible; 4: stopped without an accepted plan.
    """
    import optimizer
    from optimizer.cli.progress_display import progress_shown
    from scenarios import sources

    chosen, tuned = (
        scenario_in(
            scenario,
            set_,
            acceptance,
            expected=expected,
            measured_only=measured_only,
            load_factor=load_factor,
        ),
        params_in(params, optimizer.SolveParams),
    )
    outputs = {"--json": json, "--plot": plot, "--placement": placement, "--report": report}
    check_outputs(outputs, (*sources(scenario, chosen), params))
    if report is not None:
        import optimizer.reporting.page  # before the work, as its packages may be missing
    with progress_shown(not quiet) as progress:
        result = optimizer.solve(
            chosen,
            method=method,
            objective=names_in(objective),
            gpus=gpus,
            time_limit_s=time_limit,
            total_limit_s=total_limit,
            gap_limit=gap_limit,
            seed=seed,
            workers=workers,
            progress=progress,
            params=tuned,
            spare=spare,
            recovery=recovery,
        )
    explained = explain and not interrupted()  # who interrupts does not want to wait for that
    more = (
        lambda: ["", *result.explain().detail_parts()],
        lambda: _growth_parts(result, workers, quiet=quiet),
    )
    deliver(
        [result.parts, *(more if explained else ())],
        text_output(json, result.to_json),
        placement_output(placement, result.placement),
        Output(plot, result.plot),
        Output(report, lambda file: _write_report(result, file, workers, quiet=quiet)),
        code=exit_code(result),
    )


def _write_report(result: Result, file: str | Path, workers: int, *, quiet: bool) -> None:
    """Write the page about a result; what takes long is left out where the search was interrupted."""
    import optimizer
    from optimizer.cli.progress_display import progress_shown

    with progress_shown(not quiet) as progress:
        made = optimizer.report(result, workers=workers, progress=progress)
    made.write(file)


def _growth_parts(result: Result, workers: int, *, quiet: bool) -> list[Part]:
    """How much more load the GPUs of a plan could have; nothing where that is interrupted."""
    from optimizer.cli.progress_display import progress_shown

    if result.placement is None:
        return []
    try:
        with progress_shown(not quiet) as progress:
            return result.growth(workers=workers, progress=progress).parts()
    except Stopped:
        return []


@with_cluster
def compare_command(
    scenario: Annotated[
        list[str], typer.Argument(metavar="SCENARIO", help="Scenario files, or names of shipped ones.")
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD,METHOD",
            help="What to compare: `lorapack methods` lists them. Absent: greedy, greedy-fill, bfd, exact; "
            "by a latency or balance greedy-lat, spread, bfd, exact.",
        ),
    ] = None,
    objective: ObjectiveOption = None,
    gpus: GpusOption = None,
    time_limit: TimeLimitOption = 60.0,
    total_limit: TotalLimitOption = None,
    gap_limit: GapLimitOption = 0.0,
    seed: SeedOption = None,
    workers: WorkersOption = 2,
    acceptance: AcceptanceOption = None,
    expected: ExpectedOption = False,
    measured_only: MeasuredOnlyOption = False,
    set_: SetOption = None,
    load_factor: LoadFactorOption = 1.0,
    params: ParamsOption = None,
    json: JsonOption = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write one row per plan as CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw GPUs per method to a PNG, SVG or PDF file.")
    ] = None,
    plans: Annotated[
        bool, typer.Option("--plans", help="Show every plan GPU by GPU; absent: where there are two or one.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Solve each SCENARIO with each placer: GPUs, bound, gap, and the twin's verdict on every GPU.

    Exit code 0: every scenario has an accepted plan; 3: one is infeasible; 4: one has no accepted plan.
    """
    import optimizer
    from optimizer.cli.progress_display import progress_shown
    from scenarios import sources

    _check_no_method(scenario)
    chosen = [
        scenario_in(
            name,
            set_,
            acceptance,
            expected=expected,
            measured_only=measured_only,
            load_factor=load_factor,
        )
        for name in scenario
    ]
    read = [file for name, one in zip(scenario, chosen, strict=True) for file in sources(name, one)]
    tuned = params_in(params, optimizer.SolveParams)
    check_outputs({"--csv": csv, "--json": json, "--plot": plot}, (*read, params))
    with progress_shown(not quiet) as progress:
        comparison = optimizer.compare(
            chosen,
            None if methods is None else names_in([methods]) or [],
            objective=names_in(objective),
            gpus=gpus,
            time_limit_s=time_limit,
            total_limit_s=total_limit,
            gap_limit=gap_limit,
            seed=seed,
            workers=workers,
            progress=progress,
            params=tuned,
        )
    deliver(
        [lambda: comparison.parts(plans or None)],
        text_output(json, comparison.to_json),
        text_output(csv, comparison.to_csv),
        Output(plot, comparison.plot),
        code=max(min(exit_code(result) for result in of_one) for of_one in comparison.by_scenario()),
    )


def methods_command() -> None:
    """List the placers, and the baselines of others, with what each one does and minimises."""
    import optimizer
    from optimizer.arguments import OBJECTIVES_EXPLAINED, objectives_of
    from scenarios.text.tables import Column, render, table

    rows = [
        (m.name, "yes" if m.exact else "no", objectives_of(m), m.summary)
        for m in optimizer.methods().values()
    ]
    rows += [(b.name, "no", objectives_of(b), b.summary) for b in optimizer.BASELINES.values()]
    columns = ("method", Column("exact", 1), Column("objectives", 2), "what it does")
    say(render(table(columns, rows), OBJECTIVES_EXPLAINED))


def _check_no_method(scenario: list[str]) -> None:
    """Refuse a method among the scenarios, which was meant to follow --methods."""
    import optimizer
    from scenarios import Problem, ScenarioError

    known = {*optimizer.methods(), *optimizer.BASELINES}
    stray = [name for name in scenario if name in known and not Path(name).exists()]
    if stray:
        remedy = "join methods by commas, as --methods greedy,exact"
        raise ScenarioError([Problem(name, "is a method, no scenario", remedy) for name in stray], "compare")


def names_in(given: list[str] | None) -> list[str] | None:
    """Names that were given one by one or separated by commas; None if none was."""
    if given is None:
        return None
    return [name.strip() for part in given for name in part.split(",") if name.strip()]


def exit_code(result: Result) -> int:
    """Exit code of one result: 0 solved, 3 infeasible, 4 no accepted plan, or none that has the spare."""
    if result.status == "infeasible":
        return EXIT_INFEASIBLE
    return EXIT_SOLVED if result.as_asked else EXIT_NO_PLAN
