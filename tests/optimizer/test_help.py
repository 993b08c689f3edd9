"""Every command's help fits its terminal and speaks in words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from optimizer.cli.commands import app

WORDS = re.compile(r"<[a-z\[\]]+( range)?>|\{")
"""Python types and braces, which nobody types."""


def command_lines() -> Iterator[list[str]]:
    yield []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        yield [name]
        yield from ([name, inner] for inner in getattr(command, "commands", ()))


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("given", list(command_lines()), ids=" ".join)
def test_help(given: list[str], width: int) -> None:
    done = CliRunner().invoke(app, [*given, "--help"], env={"COLUMNS": f"{width}"})
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) == width  # its boxes fill it
    assert not WORDS.search(done.stdout), WORDS.search(done.stdout)
    assert "Usage: " in done.stdout


def test_flags_mean_the_same_everywhere() -> None:
    """Where two commands have a flag of one name, they say the same of it, unless its default differs."""
    shared = {"--set", "--json", "--quiet", "--workers", "--total-limit", "--time-limit", "--params"}
    told: dict[str, set[str]] = {flag: set() for flag in shared}
    for command in get_command(app).commands.values():  # type: ignore[attr-defined]
        for param in command.params:
            for flag in shared & set(param.opts):
                told[flag].add(param.help)
    assert all(len(texts) == 1 for texts in told.values()), told


@pytest.mark.parametrize(
    "given",
    [line for line in command_lines() if line and line not in (["scenarios"], ["profile"])],
    ids=" ".join,
)
def test_help_has_an_example_that_the_command_takes(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = get_command(app)
    for name in given:
        command = command.commands[name]  # type: ignore[attr-defined]
    if command.epilog is None:
        assert given == ["methods"]
        return
    start, typed = command.epilog.split(" lorapack ")
    assert start == "Example:"
    words = shlex.split(typed.split(" > ")[0])
    assert words[: len(given)] == given
    command.make_context("lorapack", words[len(given) :])
