"""``lorapack validate``, ``simulate``, ``replay``, ``calibrate`` and ``fidelity``: the digital twin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.exits import EXIT_FAILURE, EXIT_SOLVED
from optimizer.cli.options import (
    JsonOption,
    ParamsOption,
    QuietOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    WorkersOption,
    params_in,
)
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output
from optimizer.cli.streams import say


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("validate")(validate_command)
    app.command("simulate")(simulate_command)
    app.command("replay")(replay_command)
    app.command("calibrate")(calibrate_command)
    app.command("fidelity")(fidelity_command)


def validate_command(
    scenario: ScenarioArgument,
    placement: Annotated[Path, typer.Argument(help="A placement, or what `solve --json` wrote.")],
    seed: SeedOption = None,
    workers: WorkersOption = 2,
    set_: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Let the twin judge every GPU of a placement. Exit code 1 if one is rejected."""
    import scenarios
    import twin
    from scenarios.files import sources

    changes = [*(set_ or ()), *(() if seed is None else (f"seed={seed}",))]
    chosen = scenarios.read(scenario, overrides=changes)
    placed = scenarios.read_placement(placement)
    scenarios.check_placement(placed, chosen)
    check_outputs({"--json": json}, (*sources(scenario, chosen), placement))
    report = twin.validate(chosen, placed, workers=workers)
    code = EXIT_SOLVED if report.accepted else EXIT_FAILURE
    deliver([report.summary], text_output(json, report.to_json), code=code)


def simulate_command(
    scenario: ScenarioArgument,
    max_loras: Annotated[int | None, typer.Option(min=1, help="Adapter slots; absent: all adapters.")] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(help="Slot rank, one of vLLM's; absent: the scenario's, or what suffices.")
    ] = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Simulate one GPU that serves all adapters of SCENARIO, on the first of its devices."""
    import scenarios
    import twin
    from scenarios.engine import MAX_LORA_RANKS, padded_rank
    from scenarios.files import sources
    from scenarios.text.formatting import choice

    if max_lora_rank is not None and max_lora_rank not in MAX_LORA_RANKS:
        raise typer.BadParameter(f"--max-lora-rank is {max_lora_rank}; vLLM takes {choice(MAX_LORA_RANKS)}")
    chosen = scenarios.read(scenario, overrides=set_ or ())
    check_outputs({"--json": json}, sources(scenario, chosen))
    profile = twin.profiles_of(chosen)[chosen.devices[0].name]
    load = twin.GPULoad.from_classes(chosen.classes)
    result = twin.simulate(
        load,
        chosen.workload,
        chosen.engine,
        profile,
        max_loras=max_loras or chosen.engine.max_loras or chosen.n_adapters,
        max_lora_rank=max_lora_rank
        or chosen.engine.max_lora_rank
        or padded_rank(max(c.rank for c in chosen.classes)),
        gpu_memory_gib=chosen.devices[0].memory_gib,
        seed=chosen.seed if seed is None else seed,
    )
    deliver([result.summary], text_output(json, result.to_json))


def replay_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recorded schedules (JSON).")],
    out: Annotated[Path, typer.Option(help="Folder for the replayed schedules, under the same names.")],
) -> None:
    """Replay recorded vLLM schedules through the twin's scheduler; same JSON, with the twin's own result."""
    import twin

    for written in twin.replay_files(files, out):
        say(str(written))


def calibrate_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="measurement.yaml (see --set) and tables of measurements."),
    ],
    model: Annotated[str, typer.Option(help="Base model, as the tables name it.")],
    out: Annotated[Path, typer.Option(metavar="PROFILE.json", help="Where to write the profile.")],
    set_: SetOption = None,
    start: Annotated[
        Path | None, typer.Option(help="Profile to start from, which halves the work; absent: the probes.")
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", help="Fit these groups of runs only (repeatable); absent: all."),
    ] = None,
    cross_validate: Annotated[
        bool, typer.Option(help="Also fit without each group and compare with its runs.")
    ] = True,
    params: ParamsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
) -> None:
    """Fit an engine profile to the measurements in FOLDER; print its errors on groups left out of the fit."""
    import twin
    from optimizer.cli.progress_display import progress_shown

    tuned = params_in(params, twin.CalibrationParams)
    check_outputs({"--out": out}, [*folder.glob("*"), start, params])
    with progress_shown(not quiet) as report:
        profile, quality = twin.calibrate(
            folder,
            model,
            measurement=twin.read_measurement(folder, set_ or ()),
            start=None if start is None else twin.read_profile(start),
            groups=groups,
            cross_validate=cross_validate,
            seed=seed,
            workers=workers,
            progress=report,
            params=tuned,
        )
    deliver([quality.summary], Output(out, lambda to: twin.write_profile(profile, to)))


def fidelity_command(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.csv", help="Table of measured serving runs.")],
    out: Annotated[Path, typer.Option(metavar="OUT.csv", help="Where to write the predictions.")],
    profile: Annotated[
        Path | None, typer.Option(help="Profile for every row; absent: the shipped one of its model.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the shipped profiles; absent: the only one of each model.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    workers: WorkersOption = 2,
    quiet: QuietOption = False,
) -> None:
    """Simulate every run of RUNS.csv and compare the twin with what was measured."""
    import twin
    from optimizer.cli.progress_display import progress_shown

    check_outputs({"--out": out}, [runs, profile])
    with progress_shown(not quiet) as report:
        result = twin.fidelity(
            runs,
            profile,
            device=device,
            seed=seed,
            workers=workers,
            progress=lambda done, total: report("runs simulated", done, total),
        )
    deliver([result.summary], Output(out, result.write_predictions))
