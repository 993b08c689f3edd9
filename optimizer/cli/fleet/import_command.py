"""``lorapack import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_USAGE
from optimizer.cli.help import register
from optimizer.cli.options import QuietOption, SetOption
from optimizer.cli.outputs import check_outputs
from optimizer.cli.streams import note, note_list, say

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

    What no source says is null in it, and listed on standard error. Nothing is fetched. Exit code 2: a
    source is refused, or --placement is asked for and no source tells of a server with its adapters.
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
    is_told = bool(fleet.placement_text)
    fleet.write(out, placement if is_told else None)
    _tell_import(fleet, out, placement if is_told else None, quiet=quiet)
    if placement is not None and not is_told:
        from scenarios.importers.importing import NO_SERVERS

        note(f"lorapack: {placement} is not written: {NO_SERVERS}")
        raise typer.Exit(EXIT_USAGE)


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


def _on_releases(fleet: ImportedFleet) -> tuple[str, ...]:
    """Releases that run and are none of those whose memory and step times the twin was measured with."""
    if not fleet.releases:
        return ()
    import twin
    from scenarios.importers.model_names import plain_model
    from scenarios.text.formatting import choice

    profiles = [profile for profile in twin.shipped_profiles() if profile.model == plain_model(fleet.model)]
    known = sorted({profile.engine_version for profile in profiles or twin.shipped_profiles()})
    others = [release for release in fleet.releases if release not in known]
    if not others:
        return ()
    return (
        f"vLLM {choice(others, 'and')} runs, and the profiles by which the twin judges are of "
        f"{choice(known, 'and')}: measure your engines, or read plans with that in mind.",
    )


def _tell_import(fleet: ImportedFleet, out: Path, placement: Path | None, *, quiet: bool) -> None:
    """Say what was written, what is missing in it, and what is to be known of the sources."""
    notes = (*_on_releases(fleet), *fleet.notes)
    if not quiet and notes:
        more = len(notes) - MOST_NOTES
        note_list("lorapack: of the sources:", notes[:MOST_NOTES])
        note_list("", (f"and {more:,} more remarks",) if more > 0 else ())
    for file, missing in ((out, fleet.missing), (placement, fleet.placement_missing)):
        if file is not None and missing:
            note_list(f"lorapack: {file} lacks, as no source says it:", missing)
    say(f"wrote {out}{'' if placement is None else f' and {placement}'}")
