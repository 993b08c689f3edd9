"""Commands whose help says what a user types: no braces, no Python types."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose usage line and flags are plain."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Names of the options and arguments, without the braces of required ones."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what was typed; a value that an option cannot take is refused in our words."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            _reword(error)
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """Options and arguments; flags and arguments show no type."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose flags are plain."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Options; a flag shows no type."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = _no_type
    return params


def _reword(error: typer.BadParameter) -> None:
    """Put what pydantic says of an option's value into words; older versions of typer do so themselves."""
    from pydantic import ValidationError

    from scenarios.reading.error_messages import about_value

    if isinstance(error.__cause__, ValidationError):
        error.message = about_value(error.__cause__.errors(include_url=False)[0])


def _docstring(function: Callable[..., None]) -> str:
    """A function's docstring, from its source where Python keeps none (``-OO``, PYTHONOPTIMIZE=2)."""
    if function.__doc__ is not None:
        return inspect.cleandoc(function.__doc__)
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    return ast.get_docstring(parsed) or ""  # type: ignore[arg-type]  # a function's source is a definition


def _no_type(ctx: Any) -> None:
    """What stands for an argument's type."""


def register(app: typer.Typer, name: str, function: Callable[..., None], example: str = "") -> None:
    """Add a command to a group; its help is the function's docstring, paragraph by paragraph.

    Parameters
    ----------
    app
        The group.
    name, function
        The command.
    example
        What may be typed after the command's name; empty: the name alone says all.
    """
    paragraphs = _docstring(function).split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    group = app.info.name if isinstance(app.info.name, str) else "lorapack"
    shown = f"Example: {group} {name} {example}" if example else None
    app.command(name, cls=Command, help=text, epilog=shown)(function)
