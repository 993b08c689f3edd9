"""``lorapack fit``: the regions of a scenario, and how good they and the surrogates are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE
from optimizer.cli.options import QuietOption, ScenarioArgument, SetOption, WorkersOption
from optimizer.cli.outputs import STDOUT, check_outputs, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from learn import Dataset, DesignSpace, LearnParams, Regions
    from scenarios.stopping.progress import Progress


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("fit")(fit_command)


def fit_command(
    scenario: ScenarioArgument,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Where to write the regions as JSON; standard output by default."
        ),
    ] = None,
    assess: Annotated[
        bool,
        typer.Option(
            "--assess", help="Also fit the surrogates and print errors against twin runs of another seed."
        ),
    ] = False,
    compositions: Annotated[
        int, typer.Option(min=20, help="Mixes of adapters that the assessment tests on.")
    ] = 240,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table of measured serving runs that the assessment tests on too."),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file of parameters of learning, one table per group; see docs/learn.md.",
        ),
    ] = None,
    workers: WorkersOption = 2,
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make the linear feasibility regions of SCENARIO's first device from twin runs, anew.

    With --assess: macro-F1 of starvation, false-feasible and false-infeasible rates, SMAPE of each target
    and inference times, all on twin runs that shaped nothing; and on measured runs with --measured.

    Exit code 0: made; 3: no engine configuration fits the memory of the device.
    """
    import learn
    import scenarios
    import twin
    from learn.measured_evaluation import read_results
    from learn.region_store import PLAN
    from learn.space import no_option
    from optimizer.cli.progress_display import progress_shown
    from scenarios.files import sources

    if measured is not None and not assess:
        raise typer.BadParameter("--measured is for the assessment; give --assess too")
    chosen = scenarios.read(scenario, overrides=set_ or ())
    read = (*sources(scenario, chosen), *(path for path in (measured, params) if path is not None))
    check_outputs({"--out": out}, read)
    learning = learn.LearnParams() if params is None else scenarios.read_params(params, learn.LearnParams)
    if measured is not None:
        read_results(measured)  # what is wrong with it is said before minutes of work, not after
    device = chosen.devices[0]
    space = learn.space_for(chosen, device, twin.profiles_of(chosen)[device.name], learning)
    if not space.options:
        note(f"lorapack: {no_option(space)}")
        raise typer.Exit(EXIT_INFEASIBLE)
    with progress_shown(not quiet) as progress:
        dataset = learn.sample(space, PLAN, params=learning, workers=workers, progress=progress)
        regions = learn.linearize(dataset, space, params=learning, command="lorapack fit")
        text = (
            _errors(dataset, regions, space, learning, compositions, measured, workers, progress)
            if assess
            else None
        )
    if text is not None and out == STDOUT:
        note(text)
    target = STDOUT if out is None and text is None else out
    deliver([] if text is None else [text], text_output(target, regions.to_json))


def _errors(
    dataset: Dataset,
    regions: Regions,
    space: DesignSpace,
    params: LearnParams,
    compositions: int,
    measured: Path | None,
    workers: int,
    progress: Progress,
) -> str:
    """Errors as text."""
    import learn
    from learn.design import assessment_plan
    from learn.measured_evaluation import assess_measured, measured_text
    from learn.region_store import PLAN

    surrogates = [learn.fit(dataset, method, params=params) for method in learn.METHODS]
    plan = assessment_plan(PLAN, compositions)
    test = learn.sample(space, plan, params=params, workers=workers, progress=progress)
    quality = learn.assess(regions, surrogates, test, space, params)
    parts = [quality.text(), "inner region by option:", quality.regions[0].by_option.round(4).to_string()]
    if measured is not None:
        against_runs = assess_measured(measured, surrogates, regions, space, workers=workers)
        parts.append(measured_text(against_runs))
    return "\n\n".join(parts)
