"""``lorapack check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.options import (
    JsonOption,
    ParamsOption,
    QuietOption,
    SeedOption,
    TotalLimitOption,
    load_twin,
    noticing_signals,
    params_in,
)
from optimizer.cli.outputs import check_outputs, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from scenarios import Deadline

CODES = {"as_foretold": EXIT_SOLVED, "not_as_foretold": EXIT_INFEASIBLE, "no_answer": EXIT_NO_PLAN}
"""Exit codes of the outcomes."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "check", check_command, "out.json --url 0=http://127.0.0.1:8000 --minutes 5")


def check_command(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What `solve --json` wrote.")],
    url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GPU=URL", help="Server of a GPU of the plan: 0=http://127.0.0.1:8000 (repeatable)."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", help="How long; absent: 10, or the scenario's duration if that is shorter."
        ),
    ] = None,
    load_factor: Annotated[
        float, typer.Option(metavar="FACTOR", help="How many times the scenario's rates are sent.")
    ] = 1.0,
    seed: SeedOption = None,
    total_limit: TotalLimitOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    params: ParamsOption = None,
    json: JsonOption = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write a row per figure as CSV.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Compare the servers of a plan with what the twin foretold of them.

    Sends the servers the scenario's requests, shows foretold beside measured figures of each, and says what
    differences suggest. Before it sends, it compares names and arguments of each server with the plan, says
    what is to be sent where, and asks. A key is read from OPENAI_API_KEY.

    Exit code 0: as foretold. 3: not, or a server lacks an adapter of the plan. 4: cut short, or not trusted.
    """
    if not url:
        raise typer.BadParameter("--url is missing: name the server of a GPU, as 0=http://127.0.0.1:8000")
    from scenarios import Deadline

    check_outputs({"--json": json, "--csv": csv}, [result, params])
    check_by_replay(
        result,
        url,
        minutes=minutes,
        load_factor=load_factor,
        seed=seed,
        deadline=Deadline.of(total_limit),
        yes=yes,
        params=params,
        json=json,
        csv=csv,
        quiet=quiet,
    )


def check_by_replay(
    file: Path,
    urls: Sequence[str],
    *,
    minutes: float | None,
    load_factor: float,
    seed: int | None,
    deadline: Deadline,
    yes: bool,
    params: Path | None,
    json: str | None,
    csv: str | None,
    quiet: bool,
) -> None:
    """Send the scenario's requests, and tell what differs."""
    from optimizer.checking.replay.check import Check
    from optimizer.checking.replay.check_params import CheckParams
    from optimizer.cli.progress_display import progress_shown
    from optimizer.result_file import read_result

    by_gpu, tuned = _by_gpu(urls), params_in(params, CheckParams)
    result = read_result(file)
    with progress_shown(not quiet) as progress:
        load_twin(1, progress, result.scenario)
        planned = Check.of(result, by_gpu, minutes=minutes, load_factor=load_factor, seed=seed, params=tuned)
        servers = planned.ask()

    @noticing_signals
    def send() -> None:
        if any(server.missing for server in servers):
            report = planned.unsent(servers)
        else:
            with progress_shown(not quiet) as progress:
                report = planned.play(servers, deadline, progress)
        code = CODES[report.status]
        deliver([report.parts], text_output(json, report.to_json), text_output(csv, report.to_csv), code=code)

    if not any(server.missing for server in servers):
        _confirm(planned.announcement, yes=yes)
    send()


def _by_gpu(urls: Sequence[str]) -> dict[int, str]:
    """Addresses by the number of the GPU."""
    found: dict[int, str] = {}
    faults = []
    for text in urls:
        number, equals, address = text.partition("=")
        if not equals or not (number.isascii() and number.isdecimal() and len(number) < 9):
            faults.append(f'--url is "{text}"; write it like 0=http://127.0.0.1:8000')
        elif int(number) in found:
            faults.append(f"--url names GPU {int(number)} twice")
        else:
            found[int(number)] = address
    if faults:
        raise typer.BadParameter("; ".join(faults))
    return found


def _confirm(announcement: str, *, yes: bool) -> None:
    """Ask whether to send, unless that was said before."""
    note(f"lorapack: {announcement}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: give --yes to send")
    if not typer.confirm("send?", err=True):
        note("lorapack: nothing was sent")
        raise typer.Exit(EXIT_NO_PLAN)
