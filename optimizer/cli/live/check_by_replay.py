"""``lorapack check --url``: the scenario's requests, sent to the servers of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_SOLVED
from optimizer.cli.live.consent import ask_consent
from optimizer.cli.options import load_twin, noticing_signals, params_in
from optimizer.cli.outputs import Output, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from scenarios import Deadline

CODES = {"as_foretold": EXIT_SOLVED, "not_as_foretold": EXIT_INFEASIBLE, "no_answer": EXIT_NO_PLAN}
"""Exit codes of the outcomes."""


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
    plot: Path | None,
    workers: int,
    quiet: bool,
) -> None:
    """Send the scenario's requests, and tell what differs."""
    from optimizer.checking.replay.check import Check
    from optimizer.checking.replay.check_params import CheckParams
    from optimizer.checking.replay.check_text import argument_in_words
    from optimizer.cli.progress_display import progress_shown
    from optimizer.result_file import read_result

    by_gpu, tuned = _by_gpu(urls), params_in(params, CheckParams)
    result = read_result(file)
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress, result.scenario)
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
        deliver(
            [report.parts],
            text_output(json, report.to_json),
            text_output(csv, report.to_csv),
            Output(plot, report.plot),
            code=code,
        )

    if not any(server.missing for server in servers):
        for run, server in zip(planned.runs, servers, strict=True):
            for argument in server.differing:
                note(f"lorapack: GPU {run.gpu.gpu}: {argument_in_words(argument)}")
        ask_consent(planned.announcement, yes=yes)
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
