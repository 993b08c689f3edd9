"""``lorapack profile``: list, show and derive engine profiles."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.help import Group, register
from optimizer.cli.options import JsonOption
from optimizer.cli.outputs import Output, check_outputs, deliver, text_output

if TYPE_CHECKING:
    from twin import EngineProfile


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        name="lorapack profile",
        cls=Group,
        no_args_is_help=True,
        help="List, show and derive engine profiles.",
    )
    register(group, "list", list_command, "--json -")
    register(group, "show", show_command, "llama-3.1-8b-instruct")
    register(group, "derive", derive_command, "--model Qwen3-8B --device A100-80GB --out qwen3.json")
    app.add_typer(group, name="profile")


def list_command(json: JsonOption = None) -> None:
    """List the profiles that come with lorapack, with what was measured."""
    import twin
    from twin.deriving.text import list_parts

    check_outputs({"--json": json})
    profiles = twin.shipped_profiles()
    kept = {"name", "model", "device", "engine_version", "provenance"}
    values = [profile.model_dump(mode="json", include=kept) for profile in profiles]
    deliver([list_parts(profiles)], text_output(json, lambda: dumps(values, indent=2)))


def show_command(
    profile: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Model of a shipped profile, or the file of one.")
    ],
    json: JsonOption = None,
) -> None:
    """Show a profile in full: where it is from, its memory, every term and load, and how sure each is."""
    from twin.deriving.text import profile_parts

    check_outputs({"--json": json}, [profile])
    chosen = _named(profile)
    deliver([profile_parts(chosen)], text_output(json, lambda: chosen.model_dump_json(indent=2)))


def derive_command(
    model: Annotated[
        str, typer.Option(metavar="NAME|CONFIG.json|DIR", help="A known model, or its config.json or folder.")
    ],
    device: Annotated[str, typer.Option(metavar="NAME", help="A GPU of `lorapack devices`.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Profile to write.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|FILE",
            help="Measured profile to scale; absent: the nearest shipped one.",
        ),
    ] = None,
    tensor_parallel_size: Annotated[int, typer.Option(metavar="N", min=1, help="GPUs of an engine.")] = 1,
) -> None:
    """Scale a measured profile to another model or GPU, each term of its cost by what it is made of.

    Nothing is measured: the profile says of each term how sure it is, and verdicts that rest on it are told
    so.
    """
    import twin
    from twin.deriving.text import profile_parts

    check_outputs({"--out": out}, [from_, model])
    source = None if from_ is None else _named(from_)
    derived = twin.derive_profile(model, device, source=source, tensor_parallel_size=tensor_parallel_size)
    deliver([profile_parts(derived)], Output(out, lambda to: twin.write_profile(derived, to)))


def _named(name: str) -> EngineProfile:
    """The profile of a file, or the shipped one of a name or a model.

    Raises
    ------
    ProfileError
        If the file cannot be read.
    UnknownProfileError
        If there is neither a file nor a shipped profile of the name.
    """
    import twin

    for profile in twin.shipped_profiles():
        if name.lower() == profile.name:
            return profile
    if name.endswith(".json") or Path(name).exists():
        return twin.read_profile(name)
    return twin.find_profile(name, None)
