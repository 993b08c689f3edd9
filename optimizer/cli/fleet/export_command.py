"""``lorapack export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.options import QuietOption, SetOption, WorkersOption, load_twin, scenario_in, with_cluster
from optimizer.cli.streams import say, say_items, show

if TYPE_CHECKING:
    from scenarios import Export, Placement, Scenario


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "export", export_command, "plan.yaml --to vllm --out deploy")


@with_cluster
def export_command(
    plan: Annotated[
        Path, typer.Argument(metavar="RESULT|PLACEMENT", help="What `solve --json` or `--placement` wrote.")
    ],
    to: Annotated[
        str, typer.Option(metavar="TARGET", help="Name of a serving stack; docs/fleet.md has all.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to be written.")],
    scenario: Annotated[
        str | None,
        typer.Option(metavar="SCENARIO", help="For placements that do not tell model and engine."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUNNING",
            help="What runs now: write the steps from there; asks for --scenario.",
        ),
    ] = None,
    set_: SetOption = None,
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
) -> None:
    """Write a plan as files of a serving stack.

    Targets: vllm, systemd, compose, production-stack, aibrix, gie, llm-d, kserve, ray-serve, sglang, nim,
    dynamo; and routing, by which the requests of each adapter reach the GPU that holds it.

    At the end stands what the target cannot express, and what its controller may do otherwise. With --from
    the twin judges every step, and exit code 3 says that no safe order was found.
    """
    import scenarios

    scenarios.find_target(to)
    scenarios.check_folder(out, scenarios.export_kind(to, steps=from_ is not None))
    if from_ is not None and scenario is None:
        raise typer.BadParameter("--from needs --scenario, by whose rates the twin judges every step")
    chosen = None if scenario is None else scenario_in(scenario, None)
    placement = scenarios.exportable(scenarios.read_placement(plan), chosen, set_ or ())
    if from_ is None or chosen is None:
        made = scenarios.export(placement, to)
    else:
        made = _steps(chosen, from_, placement, to, workers=workers, quiet=quiet)
    scenarios.write_export(made, out)
    _tell_export(made, out, quiet=quiet)


def _steps(
    scenario: Scenario, running: Path, new: Placement, to: str, *, workers: int, quiet: bool
) -> Export:
    """The steps from what runs to a plan: a script for plain servers, and a target's files wave by wave."""
    import optimizer
    import scenarios
    from optimizer.cli.progress_display import progress_shown

    stepping = scenarios.find_steps(to)
    before = scenarios.as_started(scenarios.read_placement(running), scenario)
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress, scenario)
        found = optimizer.rollout(
            scenario,
            before,
            new,
            named_at_start=stepping.named_at_start,
            workers=workers,
            progress=progress,
        )
    show(*found.parts())
    if found.why_not or not found.stages:
        raise typer.Exit(EXIT_INFEASIBLE if found.why_not else EXIT_SOLVED)
    return scenarios.export_steps(before, [stage.wave for stage in found.stages], to)


def _tell_export(made: Export, out: Path, *, quiet: bool) -> None:
    """Say what was written, how it is put to work, and what it does not say."""
    files = len(made.files)
    links = f" and {len(made.links):,} links" if made.links else ""
    say(f"wrote {files:,} {'file' if files == 1 else 'files'}{links} to {out}")
    for step in () if quiet else made.next_steps:
        say(f"  {step}")
    say_items("not expressed:", made.lost)
    say_items("mind:", made.cautions)
