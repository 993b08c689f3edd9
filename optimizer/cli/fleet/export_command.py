"""``lorapack export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.options import QuietOption, SetOption
from optimizer.cli.streams import say

if TYPE_CHECKING:
    from scenarios import Export


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "export", export_command, "plan.yaml --to vllm --out deploy")


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
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a plan as files of a serving stack.

    Targets: vllm, systemd, compose, production-stack, aibrix, gie, llm-d, kserve, ray-serve, sglang, nim,
    dynamo; and routing, by which the requests of each adapter reach the GPU that holds it.

    At the end stands what the target cannot express, and what its controller may do otherwise.
    """
    import scenarios

    scenarios.find_target(to)
    scenarios.check_folder(out)
    chosen = None if scenario is None else scenarios.read(scenario)
    made = scenarios.export(scenarios.read_placement(plan), to, scenario=chosen, overrides=set_ or ())
    scenarios.write_export(made, out)
    _tell_export(made, out, quiet=quiet)


def _tell_export(made: Export, out: Path, *, quiet: bool) -> None:
    """Say what was written, how it is put to work, and what it does not say."""
    files = len(made.files)
    links = f" and {len(made.links):,} links" if made.links else ""
    say(f"wrote {files:,} {'file' if files == 1 else 'files'}{links} to {out}")
    for step in () if quiet else made.next_steps:
        say(f"  {step}")
    for title, sentences in (("not expressed:", made.lost), ("mind:", made.cautions)):
        if sentences:
            say(title)
        for sentence in sentences:
            say(f"- {sentence}")
