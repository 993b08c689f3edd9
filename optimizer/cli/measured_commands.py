"""``lorapack calibrate`` and ``fidelity``: measurements, and what they say of the twin."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.bench_options import bench_engine, refuse_bench_options, with_bench_options
from optimizer.cli.help import register
from optimizer.cli.options import (
    JsonOption,
    ParamsOption,
    PlotOption,
    QuietOption,
    SetOption,
    WorkersOption,
    load_twin,
    params_in,
    with_cluster,
)
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output

if TYPE_CHECKING:
    from twin import BenchFidelity, FidelityReport

FixedSeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Seed of everything random.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    register(app, "calibrate", calibrate_command, "measured --model llama-3.1-8b-instruct --out profile.json")
    register(app, "fidelity", fidelity_command, "runs.csv --out predictions.csv")


@with_cluster
@with_bench_options
def calibrate_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Folders with measurement.yaml and tables; of several the servers differ in slots alone. "
            "With --update also tables of runs and results of vllm bench serve.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the profile, as JSON.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Base model, as the tables name it; with --update absent: the profile's."
        ),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Profile to correct by a few runs, rather than to fit a new one."),
    ] = None,
    set_: SetOption = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Profile to start from, which halves the work; absent: the probes."
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group", metavar="NAME", help="Fit these groups of runs only (repeatable); absent: all."
        ),
    ] = None,
    cross_validate: Annotated[
        bool, typer.Option(help="Also fit without each group and compare with its runs.")
    ] = True,
    params: ParamsOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    seed: FixedSeedOption = 0,
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
    *,
    engine: dict[str, object],
) -> None:
    """Fit an engine profile to the measurements in a folder, or correct one by a few runs.

    From a folder: prints the errors on groups left out of the fit. With --update: fits three factors on the
    profile's step cost (compute, memory, overhead) to results of `vllm bench serve` or rows of a table, one
    or more; what a result does not say is asked for. Which runs to do first, what the tables hold, column by
    column, and where public measurements are: docs/calibration.md.
    """
    if update is not None:
        fitted = {
            "--start": start,
            "--group": groups,
            "--set": set_,
            "--no-cross-validate": not cross_validate,
        }
        _refuse(fitted, "for a fit from a folder, not for --update")
        _update(sources, update, out, model, engine, params, json, plot, seed, workers, quiet)
    else:
        _refuse({"--json": json}, "for --update")
        refuse_bench_options(engine, "they correct a profile: give --update PROFILE")
        if any(source.suffix in (".json", ".csv", ".gz") for source in sources):
            raise typer.BadParameter(
                "a profile is fitted to folders; results and single tables correct one: give --update PROFILE"
            )
        if model is None:
            raise typer.BadParameter("--model is missing: the base model, as the tables name it")
        _fit(sources, model, out, set_, start, groups, cross_validate, params, plot, seed, workers, quiet)


def _refuse(given: Mapping[str, object], what: str) -> None:
    flags = [flag for flag, value in given.items() if value]
    if flags:
        raise typer.BadParameter(f"{', '.join(flags)}: {what}")


def _fit(
    folders: list[Path],
    model: str,
    out: Path,
    set_: list[str] | None,
    start: Path | None,
    groups: list[str] | None,
    cross_validate: bool,
    params: Path | None,
    plot: Path | None,
    seed: int,
    workers: int,
    quiet: bool,
) -> None:
    import twin
    from optimizer.cli.progress_display import progress_shown
    from twin.measured.measurement import files_of

    tuned = params_in(params, twin.CalibrationParams)
    check_outputs({"--out": out, "--plot": plot}, [*chain(*map(files_of, folders)), start, params])
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress)
        profile, quality = twin.calibrate(
            folders,
            model,
            measurement=[twin.read_measurement(folder, set_ or ()) for folder in folders],
            start=None if start is None else twin.read_profile(start),
            groups=groups,
            cross_validate=cross_validate,
            seed=seed,
            workers=workers,
            progress=progress,
            params=tuned,
        )
    deliver(
        [quality.summary],
        Output(out, lambda to: twin.write_profile(profile, to)),
        Output(plot, quality.plot),
    )


def _update(
    sources: list[Path],
    update: Path,
    out: Path,
    model: str | None,
    engine: dict[str, object],
    params: Path | None,
    json: str | None,
    plot: Path | None,
    seed: int,
    workers: int,
    quiet: bool,
) -> None:
    import twin
    from optimizer.cli.progress_display import progress_shown
    from twin.measured.measurement import files_of
    from twin.measured.sources import is_table

    tuned = params_in(params, twin.CalibrationParams)
    outputs = {"--out": out, "--json": json, "--plot": plot}
    check_outputs(outputs, [*chain(*map(files_of, sources)), update, params])
    profile = twin.read_profile(update)
    if all(map(is_table, sources)):
        refuse_bench_options(engine, "a table of runs says it by its columns")
    base = model or profile.model
    runs = twin.read_sources(sources, base, bench_engine(base, engine))
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress)
        report = twin.update_profile(
            profile, runs, seed=seed, workers=workers, progress=progress, params=tuned
        )
    deliver(
        [report.summary],
        Output(out, lambda to: twin.write_profile(report.profile, to)),
        text_output(json, report.to_json),
        Output(plot, report.plot),
    )


@with_cluster
@with_bench_options
def fidelity_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="CSV table of measured runs, a folder with one, or results of vllm bench serve; see "
            "docs/calibration.md.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the predictions, as CSV.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Profile for every run; absent: the shipped one of its model."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Device of the shipped profiles; absent: the only one of each model."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Base model of the results, where the server calls it otherwise."),
    ] = None,
    params: ParamsOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    seed: FixedSeedOption = 0,
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
    *,
    engine: dict[str, object],
) -> None:
    """Simulate measured runs and compare the twin with what was measured.

    FILE is a table of runs, a folder of measurements, or one or more results of `vllm bench serve
    --save-result`, of one engine; what these do not say is asked for. What the table holds, column by column,
    and where public measurements are: docs/calibration.md.
    """
    import twin
    from optimizer.cli.progress_display import progress_shown
    from twin.measured.measurement import files_of
    from twin.measured.sources import is_table

    tuned = params_in(params, twin.CalibrationParams).fidelity  # the file may be that of `calibrate`
    outputs = {"--out": out, "--json": json, "--plot": plot}
    check_outputs(outputs, [*chain(*map(files_of, runs)), profile, params])
    tables = [file for file in runs if is_table(file)]
    if tables and len(runs) > 1:
        raise typer.BadParameter("name one table, or results of `vllm bench serve` alone")
    with progress_shown(not quiet) as progress:
        result: FidelityReport | BenchFidelity
        if tables:
            refuse_bench_options({"model": model, **engine}, "a table of runs says it by its columns")
            load_twin(workers, progress)
            result = twin.fidelity(
                tables[0],
                profile,
                device=device,
                seed=seed,
                workers=workers,
                progress=progress,
                params=tuned,
            )
        else:
            asked = bench_engine(model, engine)
            load_twin(workers, progress)
            result = twin.bench_fidelity(
                runs,
                asked,
                profile,
                device=device,
                seed=seed,
                workers=workers,
                progress=progress,
                params=tuned,
            )
    deliver(
        [result.summary],
        Output(out, result.write_predictions),
        text_output(json, result.to_json),
        Output(plot, result.plot),
    )
