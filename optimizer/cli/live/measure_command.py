"""``lorapack measure``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_NO_PLAN, EXIT_SOLVED
from optimizer.cli.help import register
from optimizer.cli.live.consent import ask_consent
from optimizer.cli.options import ParamsOption, QuietOption, SetOption, params_in
from optimizer.cli.streams import note, say, show
from scenarios.text.formatting import counted

if TYPE_CHECKING:
    from twin.measuring import MeasureParams, Subject


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    example = "http://127.0.0.1:8000 --about server.log --about adapters --device H100-80GB --out measured"
    register(app, "measure", measure_command, example)


def measure_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="A live server of vLLM with LoRA adapters.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to keep what is measured.")],
    about: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SOURCE",
            help="What tells of the server what it does not tell itself: its command line, start-up log, "
            "folders of adapters; whatever `lorapack import` reads (repeatable).",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Base model; absent: as told by the sources.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="The model's config.json, if it is not well known."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Kind of GPU, as in scenarios.")] = None,
    gpu_memory_gib: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", min=0.1, help="Its memory as the engine sees it; absent: the catalogue's."
        ),
    ] = None,
    step_log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the server prints, if it was started with --enable-logging-iteration-details.",
        ),
    ] = None,
    set_: SetOption = None,
    minutes: Annotated[
        float, typer.Option(metavar="MINUTES", min=0.5, max=600, help="How long it takes, about.")
    ] = 15.0,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    params: ParamsOption = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of what is sent.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Send a live server a designed load, and keep what comes back for `lorapack calibrate`.

    Requests one at a time, prompts of several lengths, batches of fixed size, cold adapters, and streams from
    ease to overload. Nothing is sent to any other host. A key is taken from OPENAI_API_KEY. What was broken
    off goes on where it was when it is called again.
    """
    from optimizer.cli.progress_display import progress_shown
    from twin.measuring import About, ask_subject, measure
    from twin.measuring import MeasureParams as Tuning

    tuned = params_in(params, Tuning)
    known = About(about or (), model, config, device, gpu_memory_gib, set_ or ())
    subject = ask_subject(url, known)
    ask_consent(_what(subject, minutes, tuned), yes=yes)
    with progress_shown(not quiet) as progress:
        found = measure(
            subject,
            out,
            config,
            total_s=60 * minutes,
            params=tuned,
            seed=seed,
            step_log=step_log,
            progress=progress,
        )
    show(*found.parts())
    if found.stopped:
        note(f"lorapack: ended early: {found.stopped}; the same command goes on from here")
        raise typer.Exit(EXIT_NO_PLAN)
    words = shlex.join(["lorapack", "calibrate", str(out), "--model", subject.model, "--out", "profile.json"])
    say(f"wrote {out}; next: {words}")
    raise typer.Exit(EXIT_SOLVED)


def _what(subject: Subject, minutes: float, params: MeasureParams) -> str:
    slots = f"{subject.max_loras} slots of rank {subject.max_lora_rank}"
    return (
        f"about {minutes:g} minutes of requests, at most {params.max_requests:,}, up to overload, go to "
        f"{subject.url}: {subject.model} on {subject.device}, vLLM {subject.engine_version}, "
        f"{counted(len(subject.adapters), 'adapter')}, {slots}, {subject.kv_cache_tokens:,} KV tokens"
    )
