"""``lorapack memory``: how many adapters fit, and does it start."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from optimizer.cli.exits import EXIT_INFEASIBLE, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.options import JsonOption, SetOption
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "memory", memory_command, "--model Llama-3.1-8B-Instruct --device A100-80GB --max-loras 32")


def memory_command(
    model: Annotated[
        str, typer.Option(metavar="NAME|CONFIG.json|DIR", help="A known model, or its config.json or folder.")
    ],
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="A GPU of `lorapack devices`; absent: all of them.")
    ] = None,
    gpu_memory_gib: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, help="Memory of a GPU, as the engine sees it."),
    ] = None,
    engine_version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Release of vLLM; absent: the newest known.")
    ] = None,
    max_loras: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Adapter slots; 0: no LoRA; absent: vLLM's, 1.")
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(metavar="RANK", min=1, help="Rank of the slots; absent: vLLM's, 16.")
    ] = None,
    startup_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Log of a start of your own server, whose parts are taken."),
    ] = None,
    host_memory_gib: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, help="Memory of the host, which keeps adapters too."),
    ] = None,
    set_: SetOption = None,
    json: JsonOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw where the memory goes: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """How many adapters fit on a GPU, and whether the engine starts; without a device, on all GPUs.

    Nothing needs to be measured. What is not given is vLLM's default for the release, GPU and model.

    Exit code 0: it starts (on some GPU); 3: it does not; 2: a name, file or argument is wrong.
    """
    import twin
    from scenarios.plots import write_figure
    from scenarios.text.tables import render
    from twin.plots import draw_memory
    from twin.startup.text import answer_parts, survey_parts

    check_outputs({"--json": json, "--plot": plot}, [startup_log])
    arguments = engine_arguments(set_ or ())
    common: dict[str, Any] = {
        "engine_version": engine_version,
        "max_loras": max_loras,
        "max_lora_rank": max_lora_rank,
        "arguments": arguments,
    }
    if device is None and gpu_memory_gib is None and startup_log is None:
        surveyed = twin.survey_memory(model, **common)
        answers = [one.answer for one in surveyed]
        text = render(*survey_parts(surveyed))
        values: Any = [one.to_dict() for one in surveyed]
    else:
        answer = twin.ask_memory(
            model,
            device=device,
            gpu_memory_gib=gpu_memory_gib,
            startup_log=startup_log,
            host_memory_gib=host_memory_gib,
            **common,
        )
        answers, text, values = [answer], render(*answer_parts(answer)), answer.to_dict()
    picture = Output(plot, lambda to: write_figure(draw_memory(answers), to))
    starts = any(answer.starts for answer in answers)
    deliver(
        [text],
        text_output(json, lambda: dumps(values, indent=2)),
        picture,
        code=EXIT_SOLVED if starts else EXIT_INFEASIBLE,
    )


def engine_arguments(changes: Sequence[str]) -> dict[str, Any]:
    """Arguments of the engine in ``engine.KEY=VALUE``; unknown keys and wrong values are told by the engine.

    Raises
    ------
    BadParameter
        If one names anything but the engine.
    ScenarioError
        If one cannot be read.
    """
    from scenarios.reading.overrides import apply

    for change in changes:
        if not change.startswith("engine."):
            raise typer.BadParameter(f'"{change}" is none of engine.KEY=VALUE', param_hint="--set")
        if change.partition("=")[0].strip() in ("engine.max_loras", "engine.max_lora_rank"):
            raise typer.BadParameter(f'"{change}" has a flag of its own', param_hint="--set")
    values = apply({"engine": {}}, changes, "--set")
    assert isinstance(values, dict)
    return dict(values["engine"])
