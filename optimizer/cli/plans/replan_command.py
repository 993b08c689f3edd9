"""``lorapack replan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.options import (
    AcceptanceOption,
    ExpectedOption,
    JsonOption,
    LoadFactorOption,
    MeasuredOnlyOption,
    ParamsOption,
    PlotOption,
    QuietOption,
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
from optimizer.cli.solve_commands import exit_code


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(
        app,
        "replan",
        noticing_signals(replan_command),
        "mixed_ranks --from plan.yaml --set 'adapters[0].rate=1.2'",
    )


@with_cluster
def replan_command(
    scenario: ScenarioArgument,
    from_: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="What is running: a result's JSON, or a placement."),
    ],
    move_price: Annotated[
        float | None,
        typer.Option(
            metavar="PRICE",
            help="Of one move, in GPUs (or in cost): 0.05. Absent: fewest GPUs, then moves.",
        ),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most GPUs; absent: as many as the scenario has.")
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Also find the steps to the new plan, each judged by the twin.")
    ] = False,
    time_limit: TimeLimitOption = 60.0,
    total_limit: TotalLimitOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = 2,
    acceptance: AcceptanceOption = None,
    expected: ExpectedOption = False,
    measured_only: MeasuredOnlyOption = False,
    set_: SetOption = None,
    load_factor: LoadFactorOption = 1.0,
    params: ParamsOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    placement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the new placement.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Place the adapters of SCENARIO, with its new rates, so that the fewest of those that run move.

    Of its objectives only gpus and cost count; moves take the place of the others.

    Exit code 0: solved; 3: proven infeasible; 4: stopped without an accepted plan.
    """
    import optimizer
    import scenarios
    from optimizer.cli.progress_display import progress_shown
    from scenarios import sources

    chosen, running = (
        scenario_in(
            scenario,
            set_,
            acceptance,
            expected=expected,
            measured_only=measured_only,
            load_factor=load_factor,
        ),
        scenarios.read_placement(from_),
    )
    running = scenarios.as_started(running, chosen)
    tuned = params_in(params, optimizer.SolveParams)
    read = (*sources(scenario, chosen), from_, params)
    check_outputs({"--json": json, "--plot": plot, "--placement": placement}, read)
    with progress_shown(not quiet) as progress:
        change = optimizer.replan(
            chosen,
            running,
            move_price=move_price,
            gpus=gpus,
            time_limit_s=time_limit,
            total_limit_s=total_limit,
            seed=seed,
            workers=workers,
            steps=steps,
            progress=progress,
            params=tuned,
        )
    deliver(
        [change.parts],
        text_output(json, change.to_json),
        placement_output(placement, change.result.placement),
        Output(plot, change.plot),
        code=exit_code(change.result),
    )
