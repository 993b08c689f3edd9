"""``lorapack import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.options import QuietOption, SetOption
from optimizer.cli.outputs import check_outputs
from optimizer.cli.streams import note, say

if TYPE_CHECKING:
    from scenarios import ImportedFleet

MOST_NOTES = 20
"""Most remarks that are printed."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "import", import_command, "adapters requests.csv --set devices=A100-80GB --out fleet.yaml")


def import_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Adapter folders, manifests, command lines, answers of /v1/models, request logs, saved "
            "/metrics, start-up logs; recognised by their content.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The scenario to be written.")],
    placement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what runs where now.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Column or key of a request log: adapter=model, prompt_tokens=usage.prompt_tokens "
            "(repeatable); fields are time, adapter, prompt_tokens, output_tokens, end, status, session.",
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(metavar="NAME", help="Rates of a log's busiest hour (busiest), or of all of it (mean)."),
    ] = "busiest",
    rates: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Rates as one number (mean), or as low and high of their 95 % interval (interval).",
        ),
    ] = "mean",
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Read what files of a running fleet say, as a scenario: each value with where it was said.

    What no source says is null in it, and listed on standard error. Nothing is fetched.
    """
    from scenarios import import_fleet

    check_outputs({"--out": out, "--placement": placement}, sources)
    trace = out.with_name(f"{out.stem}.trace.csv")
    check_outputs({"--out": trace}, sources)
    fleet = import_fleet(
        sources,
        set_ or (),
        columns=_columns(map_ or ()),
        window=window,
        rates=rates,
        name=out.stem,
        trace_file=trace,
    )
    fleet.write(out, placement)
    _tell_import(fleet, out, placement, quiet=quiet)


def _columns(given: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Columns of a log by field.

    Raises
    ------
    typer.BadParameter
        If one is no FIELD=COLUMN.
    """
    from scenarios.importers.facts import LOG_FIELDS
    from scenarios.text.formatting import choice

    columns = {}
    for text in given:
        field, equals, column = text.partition("=")
        if not equals or not column or field not in LOG_FIELDS:
            known = choice(LOG_FIELDS, "and")
            raise typer.BadParameter(
                f"--map {text} is no FIELD=COLUMN; fields are {known}: --map adapter=model"
            )
        columns[field] = column
    return columns


def _tell_import(fleet: ImportedFleet, out: Path, placement: Path | None, *, quiet: bool) -> None:
    """Say what was written, what is missing in it, and what is to be known of the sources."""
    for text in () if quiet else fleet.notes[:MOST_NOTES]:
        note(f"lorapack: {text}")
    if not quiet and len(fleet.notes) > MOST_NOTES:
        note(f"lorapack: and {len(fleet.notes) - MOST_NOTES:,} more remarks")
    for file, missing in ((out, fleet.missing), (placement, fleet.placement_missing)):
        if file is not None and missing:
            note(f"lorapack: {file} lacks, as no source says it:")
            for text in missing:
                note(f"  {text}")
    say(f"wrote {out}{'' if placement is None else f' and {placement}'}")
