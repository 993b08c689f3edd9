"""``lorapack check --metrics``: what servers tell of themselves, beside their plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from optimizer.cli.exits import EXIT_FAILURE, EXIT_INFEASIBLE, EXIT_SOLVED
from optimizer.cli.options import load_twin
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output
from optimizer.cli.streams import note

if TYPE_CHECKING:
    from optimizer import MetricsReading
    from scenarios.stopping.progress import Progress

GATEWAY = "gateway"
"""What stands for the number of a GPU where metrics are of a gateway in front of all."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def check_by_metrics(
    result: Path,
    metrics: list[str],
    minutes: float,
    *,
    workers: int,
    json: str | None,
    plot: Path | None,
    quiet: bool,
) -> NoReturn:
    """Compare what servers' metrics say with the plan; no request is sent."""
    import optimizer
    from optimizer.checking.drift.check_drift import check_gpus
    from optimizer.checking.drift.planned import placement_of
    from optimizer.cli.progress_display import progress_shown

    files, urls = _named(metrics)
    outputs = {"--json": json, "--plot": plot}
    check_outputs(outputs, (result, *(path for paths in files.values() for path in paths)))
    plan = optimizer.read_result(result)
    check_gpus(placement_of(plan), [*files, *urls])
    readings = [optimizer.read_metrics(gpu, *paths) for gpu, paths in files.items()]
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress, plan.scenario)
        asked, failed = _asked(urls, minutes, progress)
        readings += asked
        if not readings:
            raise typer.Exit(EXIT_FAILURE)
        report = optimizer.check_drift(plan, readings, workers=workers, progress=progress)
    code = EXIT_FAILURE if failed else EXIT_SOLVED if report.as_planned else EXIT_INFEASIBLE
    deliver([report.parts], text_output(json, report.to_json), Output(plot, report.plot), code=code)


def _asked(
    urls: dict[int | None, str], minutes: float, progress: Progress
) -> tuple[tuple[MetricsReading, ...], bool]:
    """What servers told, and whether some could not be read, which is told at once."""
    if not urls:
        return (), False
    import optimizer

    watched = optimizer.watch_metrics(urls, 60 * minutes, progress=progress)
    for gpu, failure in watched.failures.items():
        note(f"lorapack: {GATEWAY if gpu is None else f'GPU {gpu}'}: {failure}")
    return watched.readings, bool(watched.failures)


def _named(metrics: list[str]) -> tuple[dict[int | None, list[Path]], dict[int | None, str]]:
    """Files and addresses by GPU; None: a gateway."""
    files: dict[int | None, list[Path]] = {}
    urls: dict[int | None, str] = {}
    for text in metrics:
        key, _, value = text.partition("=")
        if not value or not (key == GATEWAY or re.fullmatch(r"[0-9]{1,9}", key)):
            raise typer.BadParameter(f'--metrics is "{text}"; write GPU=FILE or GPU=URL, as in 0=metrics.txt')
        gpu = None if key == GATEWAY else int(key)
        if not _URL.match(value):
            files.setdefault(gpu, []).append(Path(value))
        elif gpu in urls:
            raise typer.BadParameter(f"--metrics names two addresses for {key}; one is asked twice")
        else:
            urls[gpu] = value
    both = files.keys() & urls.keys()
    if both:
        raise typer.BadParameter(
            f"--metrics names files and an address for {min(both, key=str)}; name files or an address"
        )
    return files, urls
