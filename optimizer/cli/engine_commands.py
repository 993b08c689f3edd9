"""``lorapack validate``, ``simulate`` and ``replay``: the digital twin."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_FAILURE, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.options import (
    AcceptanceOption,
    ExpectedOption,
    JsonOption,
    MeasuredOnlyOption,
    PlotOption,
    QuietOption,
    RecoveryOption,
    ScenarioArgument,
    SeedOption,
    SetOption,
    WorkersOption,
    load_twin,
    scenario_in,
    with_cluster,
)
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output

if TYPE_CHECKING:
    from optimizer.survival.report import Survival
    from scenarios import Scenario
    from twin import GPULoad, GPUVerdict, SimulationResult, ValidationReport


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    register(app, "validate", validate_command, "mixed_ranks plan.yaml --set replications=5")
    register(app, "simulate", simulate_command, "paper_mixed_32 --max-loras 16")
    register(app, "replay", replay_command, "schedule.json --out replayed")


@with_cluster
def validate_command(
    scenario: ScenarioArgument,
    placement: Annotated[
        Path, typer.Argument(metavar="PLACEMENT", help="A placement, or what `solve --json` wrote.")
    ],
    seed: SeedOption = None,
    workers: WorkersOption = 2,
    acceptance: AcceptanceOption = None,
    expected: ExpectedOption = False,
    measured_only: MeasuredOnlyOption = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="Also find how many times its load each GPU could have.")
    ] = False,
    spare: Annotated[
        str | None,
        typer.Option(
            metavar="N|1node",
            help="Also say whether it holds after the loss of 1 or 2 GPUs, or of a node.",
        ),
    ] = None,
    recovery: RecoveryOption = "live",
    set_: SetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    quiet: QuietOption = False,
) -> None:
    """Let the twin judge every GPU of PLACEMENT: a table of figures, and why GPUs are rejected.

    Exit code 0: accepted; 1: a GPU is rejected, or the plan does not hold after a loss that was asked for;
    2: a file is wrong.
    """
    import optimizer
    import scenarios
    import twin
    from optimizer.cli.progress_display import progress_shown
    from scenarios import sources

    changes = [*(set_ or ()), *(() if seed is None else (f"seed={seed}",))]
    if scenarios.swapped(scenario, placement):
        raise typer.BadParameter(f"SCENARIO and PLACEMENT are swapped: validate {placement} {scenario}")
    chosen = scenario_in(
        scenario,
        changes,
        acceptance,
        expected=expected,
        measured_only=measured_only,
        told_in_answer=True,
    )
    placed = scenarios.read_placement(placement)
    scenarios.check_placement(placed, chosen, str(placement))
    placed = scenarios.as_started(placed, chosen)
    check_outputs({"--json": json, "--plot": plot}, (*sources(scenario, chosen), placement))
    with progress_shown(not quiet) as progress:
        load_twin(workers, progress, chosen)
        report = twin.validate(chosen, placed, growth=growth, workers=workers, progress=progress)
        survival = None
        if spare is not None:
            survival = optimizer.survives(
                chosen, placed, spare, recovery=recovery, workers=workers, progress=progress
            )
    held = report.accepted and (survival is None or survival.holds)
    answers = [report.summary(placed, chosen), *([] if survival is None else ["", survival.summary()])]
    deliver(
        answers,
        text_output(json, lambda: _validation_json(report, survival)),
        Output(plot, report.plot),
        code=EXIT_SOLVED if held else EXIT_FAILURE,
    )


def _validation_json(report: ValidationReport, survival: Survival | None) -> str:
    """The verdicts, and what becomes of the plan after losses where that was asked, as JSON text."""
    asked = {} if survival is None else {"survival": survival.model_dump(mode="json")}
    return dumps(report.to_dict() | asked, indent=2, allow_nan=False)


def simulate_command(
    scenario: ScenarioArgument,
    max_loras: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Adapter slots; absent: the scenario's, or one per adapter."),
    ] = None,
    max_lora_rank: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Rank of every slot, one of vLLM's; absent: the scenario's, or the smallest that suffices.",
        ),
    ] = None,
    seed: SeedOption = None,
    acceptance: AcceptanceOption = None,
    expected: ExpectedOption = False,
    measured_only: MeasuredOnlyOption = False,
    set_: SetOption = None,
    json: JsonOption = None,
    plot: PlotOption = None,
    quiet: QuietOption = False,
) -> None:
    """Simulate one GPU, the first device of SCENARIO, that serves all of its adapters, once.

    The figures are of one run of workload.duration_s, at the high rates where they are uncertain. Whether
    the GPU is accepted is said by the scenario's criterion: sustained judges by runs of its own, paper by
    this one.

    Exit code 0, whether it is accepted or not; 1: the engine does not start; 2: a file or a value is wrong.
    """
    import twin
    from optimizer.cli.progress_display import progress_shown
    from scenarios import MAX_LORA_RANKS, criterion_in_words, sources
    from scenarios.text.formatting import choice
    from twin.simulate import engine_as_started

    if max_lora_rank is not None and max_lora_rank not in MAX_LORA_RANKS:
        raise typer.BadParameter(f"--max-lora-rank is {max_lora_rank}; vLLM takes {choice(MAX_LORA_RANKS)}")
    changes = [*(set_ or ()), *(() if seed is None else (f"seed={seed}",))]
    chosen = scenario_in(scenario, changes, acceptance, expected=expected, measured_only=measured_only)
    check_outputs({"--json": json, "--plot": plot}, sources(scenario, chosen))
    device, load = chosen.devices[0], twin.GPULoad.from_classes(chosen.classes)
    started = engine_as_started(chosen.engine, load.n_adapters, max_loras)
    chosen = chosen.model_copy(update={"engine": started})
    with progress_shown(not quiet) as progress:
        load_twin(1, progress, chosen)
        progress("simulating one GPU", 0, 1)
        result = twin.simulate(
            load,
            chosen.workload,
            chosen.engine,
            twin.profiles_of(chosen)[device.name],
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            gpu_memory_gib=device.memory_gib,
            seed=chosen.seed,
        )
        verdict = _verdict(chosen, load, result)
        progress("simulating one GPU", 1, 1)
    said = "in this run" if chosen.acceptance == "paper" else "by longer runs of its own"
    said += ", all uncertain rates being high" if chosen.uncertain else ""
    title = f"{chosen.name}, one {device.name}: {'accepted' if verdict.accepted else 'REJECTED'} {said}"
    judged = [title, criterion_in_words(chosen, one_run=True), *verdict.reasons]
    deliver(
        [judged, lambda: ["", result.summary()]],
        text_output(json, result.to_json),
        Output(plot, result.plot),
    )


def _verdict(chosen: Scenario, load: GPULoad, result: SimulationResult) -> GPUVerdict:
    """The verdict on the GPU that was simulated; under *paper* on this run alone."""
    from scenarios import EngineOption
    from twin import GPUContent, TwinJudge, profiles_of
    from twin.service_levels import replication_of, verdict_on

    if chosen.acceptance == "paper":
        return verdict_on(load, [replication_of(result, load)], chosen.service_levels)
    option = EngineOption(chosen.devices[0].name, result.max_loras, result.max_lora_rank)
    content = GPUContent(option, tuple((one.kind.at(high=True), one.count) for one in chosen.classes))
    (verdict,) = TwinJudge(chosen, profiles_of(chosen))([content])
    return verdict.of(0, {f"{k}": name for k, name in enumerate(load.names)})


def replay_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Recorded schedules, .json or .json.gz; see docs/twin.md."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where to write the replayed schedules, as NAME.json each."),
    ],
    quiet: QuietOption = False,
) -> None:
    """Replay recorded schedules through the twin's scheduler; say whether it decides as the recorded one did.

    Exit code 0: every schedule with a recorded result agrees with it; 1: one differs; 2: a file is wrong.
    """
    import twin
    from optimizer.cli.progress_display import progress_shown

    with progress_shown(not quiet) as progress:
        load_twin(1, progress)
        replayed = twin.replay_files(files, out, progress=progress)
    code = EXIT_FAILURE if any(schedule.difference for schedule in replayed) else EXIT_SOLVED
    deliver(["\n".join(map(str, replayed))], code=code)
