"""``lorapack fit``: the regions of a scenario."""

from __future__ import annotations

from typing import Annotated

import typer

from optimizer.cli.options import QuietOption, ScenarioArgument, SetOption, WorkersOption, write_text


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("fit")(fit_command)


def fit_command(
    scenario: ScenarioArgument,
    out: Annotated[str, typer.Option(metavar="FILE|-", help="Where to write the regions as JSON.")] = "-",
    workers: WorkersOption = 2,
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make the linear feasibility regions of SCENARIO's first device from twin runs, anew."""
    import learn
    import scenarios
    import twin
    from optimizer.progress import progress_bar

    chosen = scenarios.read(scenario, overrides=set_ or ())
    device = chosen.devices[0]
    space = learn.space_for(chosen, device, twin.profiles_of(chosen)[device.name])
    with progress_bar(not quiet) as report:
        regions = learn.make_regions(space, workers=workers, progress=report)
    write_text(out, regions.to_json())
