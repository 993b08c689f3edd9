"""``lorapack fit``: the linear regions of a scenario, and how good they and the surrogates are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE
from optimizer.cli.help import register
from optimizer.cli.options import (
    AcceptanceOption,
    ParamsOption,
    PlotOption,
    QuietOption,
    ScenarioArgument,
    SetOption,
    WorkersOption,
    load_twin,
    params_in,
    scenario_in,
    with_cluster,
)
from optimizer.cli.outputs import STDOUT, Output, check_outputs, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from learn import Dataset, DesignSpace, LearnParams, Regions
    from scenarios.stopping.progress import Progress

HEADINGS = {
    "max_loras": "slots",
    "max_lora_rank": "rank",
    "false_feasible": "false-feasible",
    "false_infeasible": "false-infeasible",
    "capacity_given_away": "given away",
}
"""Columns of the errors by option, as the command shows them."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    register(app, "fit", fit_command, "mixed_ranks --assess --out regions.json")


@with_cluster
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
            "--assess",
            help="Also fit the surrogates; print their and the regions' errors against other twin runs.",
        ),
    ] = False,
    compositions: Annotated[
        int, typer.Option(metavar="N", min=20, help="Mixes of adapters that the assessment tests on.")
    ] = 240,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV table of measured runs that the assessment tests on too; see docs/calibration.md.",
        ),
    ] = None,
    params: ParamsOption = None,
    workers: WorkersOption = 2,
    acceptance: AcceptanceOption = None,
    set_: SetOption = None,
    plot: PlotOption = None,
    quiet: QuietOption = False,
) -> None:
    """Learn the linear regions of SCENARIO: for each way to run its first device, what fits on one GPU.

    They are made anew from twin runs, which takes minutes, and written as JSON; solve makes and keeps its
    own, so this is for looking at them, or at the effect of --params.

    With --assess it takes longer, and tells how often regions and surrogates err on twin runs of
    another seed: starvation (macro-F1), false-feasible and false-infeasible rates, SMAPE of throughput and
    latencies, time per answer; with --measured also on measured runs.

    Exit code 0: made; 2: a file is wrong; 3: no engine configuration fits the memory of the device.
    """
    import learn
    import optimizer
    import twin
    from learn.measured_evaluation import read_results
    from learn.space import no_option
    from optimizer.cli.progress_display import progress_shown
    from scenarios import sources

    if measured is not None and not assess:
        raise typer.BadParameter("--measured is for the assessment; give --assess too")
    chosen = scenario_in(scenario, set_, acceptance)
    check_outputs({"--out": out, "--plot": plot}, (*sources(scenario, chosen), measured, params))
    learning = params_in(params, optimizer.SolveParams).learning
    if measured is not None:
        read_results(measured)  # what is wrong with it is said before minutes of work, not after
    device = chosen.devices[0]
    space = learn.space_for(chosen, device, twin.profiles_of(chosen)[device.name], learning)
    if not space.options:
        note(f"lorapack: {no_option(space)}")
        raise typer.Exit(EXIT_INFEASIBLE)
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress, chosen)
        dataset, regions = learn.make_regions(
            space,
            params=learning,
            command="lorapack fit",
            overloads=assess,
            workers=workers,
            progress=progress,
        )
        text = (
            _errors(dataset, regions, space, learning, compositions, measured, workers, progress)
            if assess
            else None
        )
    if text is not None and out == STDOUT:
        note(text)
    target = STDOUT if out is None and text is None else out
    count = f"{len(space.options)} ways to run one {device.name}, from {regions.provenance.runs:,} twin runs"
    answer = f"{chosen.name}: linear regions of {count}"
    deliver(
        [answer] if text is None else [answer, "", text],
        text_output(target, regions.to_json),
        Output(plot, regions.plot),
    )


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
    from learn import PLANS
    from learn.design import assessment_plan
    from learn.measured_evaluation import assess_measured, measured_text
    from twin.measured.report import as_text

    surrogates = []
    for done, method in enumerate(learn.METHODS):
        progress("fitting surrogates", done, len(learn.METHODS))
        surrogates.append(learn.fit(dataset, method, params=params))
    progress("fitting surrogates", len(surrogates), len(learn.METHODS))
    plan = assessment_plan(PLANS[space.acceptance], compositions)
    test = learn.sample(space, plan, params=params, workers=workers, progress=progress)
    quality = learn.assess(regions, surrogates, test, space, params)
    by_option = quality.regions[0].by_option.rename(columns=HEADINGS)
    parts = [quality.text(), f"inner region by option, as shares\n{as_text(by_option, 4)}"]
    if measured is not None:
        against_runs = assess_measured(
            measured, surrogates, regions, space, workers=workers, progress=progress
        )
        parts.append(measured_text(against_runs))
    return "\n\n".join(parts)
