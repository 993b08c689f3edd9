"""``lorapack check``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.live.check_by_metrics import check_by_metrics
from optimizer.cli.live.check_by_replay import check_by_replay
from optimizer.cli.options import (
    JsonOption,
    ParamsOption,
    PlotOption,
    QuietOption,
    SeedOption,
    TotalLimitOption,
    WorkersOption,
    with_cluster,
)
from optimizer.cli.outputs import check_outputs

APART = 1.0
"""Minutes between two readings of metrics, where none are given."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "check", check_command, "result.json --url 0=http://gpu0:8000 --url 1=http://gpu1:8000")


@with_cluster
def check_command(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What `solve --json` wrote.")],
    url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GPU=URL",
            help="Server of a GPU of the plan, which is sent the scenario's requests: "
            "0=http://127.0.0.1:8000 (repeatable).",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GPU=FILE|URL",
            help="Metrics of a GPU's server, or of a gateway (gateway=...): its address, two saved texts, or "
            "a range query's JSON (repeatable). No request is sent but for the metrics.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0.02,
            max=1440.0,
            help="How long requests are sent; absent: 10, or the scenario's duration if shorter. With "
            "--metrics between the two readings of an address; absent: 1.",
        ),
    ] = None,
    load_factor: Annotated[
        float, typer.Option(metavar="FACTOR", help="How many times the scenario's rates are sent.")
    ] = 1.0,
    seed: SeedOption = None,
    total_limit: TotalLimitOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    params: ParamsOption = None,
    workers: WorkersOption = 2,
    json: JsonOption = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write a row per figure as CSV.")] = None,
    plot: PlotOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compare servers that run with their plan.

    With --url: sends the servers the scenario's requests, shows foretold beside measured figures of each, and
    says what differences suggest. Before that it compares names and arguments of each server with the plan,
    says what is to be sent where, and asks. With --metrics: rates and lengths, queues, KV cache, preemptions
    and adapters in flight, as the servers' metrics say them. A key is taken from OPENAI_API_KEY.

    Exit code 0: as foretold, or as planned. 3: not, or a server lacks an adapter of the plan. 4: cut short,
    or not trusted. 1: metrics could not be read.
    """
    from scenarios import Deadline

    if bool(url) == bool(metrics):
        raise typer.BadParameter("name what is to be compared: --url GPU=URL, or --metrics GPU=FILE|URL")
    if metrics:
        given = {"--seed": seed, "--total-limit": total_limit, "--yes": yes, "--params": params, "--csv": csv}
        _refuse(given | {"--load-factor": load_factor != 1.0})
        apart = APART if minutes is None else minutes
        check_by_metrics(result, metrics, apart, workers=workers, json=json, plot=plot, quiet=quiet)
    check_outputs({"--json": json, "--csv": csv, "--plot": plot}, [result, params])
    check_by_replay(
        result,
        url or (),
        minutes=minutes,
        load_factor=load_factor,
        seed=seed,
        deadline=Deadline.of(total_limit),
        yes=yes,
        params=params,
        json=json,
        csv=csv,
        plot=plot,
        workers=workers,
        quiet=quiet,
    )


def _refuse(given: Mapping[str, object]) -> None:
    """Refuse options of the other way to check."""
    flags = [flag for flag, value in given.items() if value is not None and value is not False]
    if flags:
        raise typer.BadParameter(f"{', '.join(flags)}: for --url, which sends requests; --metrics sends none")
