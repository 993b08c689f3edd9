"""``lorapack validate``, ``simulate`` and ``replay``: the digital twin from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optimizer.cli.options import (
    EXIT_FAILURE,
    JsonOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    WorkersOption,
    emit,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("validate")(validate_command)
    app.command("simulate")(simulate_command)
    app.command("replay")(replay_command)


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

    changes = [*(set_ or ()), *(() if seed is None else (f"seed={seed}",))]
    chosen = scenarios.read(scenario, overrides=changes)
    placed = scenarios.read_placement(placement)
    scenarios.check_placement(placed, chosen)
    report = twin.validate(chosen, placed, workers=workers)
    emit(report.summary(), report.to_json(), json)
    if not report.accepted:
        raise typer.Exit(EXIT_FAILURE)


def simulate_command(
    scenario: ScenarioArgument,
    max_loras: Annotated[int | None, typer.Option(min=1, help="Adapter slots; absent: all adapters.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="Slot rank; absent: the largest.")] = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Simulate one GPU that serves all adapters of SCENARIO, on the first of its devices."""
    import scenarios
    import twin
    from scenarios.engine import padded_rank

    chosen = scenarios.read(scenario, overrides=set_ or ())
    profile = twin.profiles_of(chosen)[chosen.devices[0].name]
    load = twin.GPULoad.from_classes(chosen.classes)
    result = twin.simulate(
        load,
        chosen.workload,
        chosen.engine,
        profile,
        max_loras=max_loras or chosen.engine.max_loras or chosen.n_adapters,
        max_lora_rank=max_lora_rank or padded_rank(max(c.rank for c in chosen.classes)),
        gpu_memory_gib=chosen.devices[0].memory_gib,
        seed=chosen.seed if seed is None else seed,
    )
    emit(result.summary(), result.to_json(), json)


def replay_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recorded schedules (JSON).")],
    out: Annotated[Path, typer.Option(help="Folder for the replayed schedules, under the same names.")],
) -> None:
    """Replay recorded vLLM schedules through the twin's scheduler; same JSON, with the twin's own result."""
    import twin

    for written in twin.replay_files(files, out):
        print(written)
