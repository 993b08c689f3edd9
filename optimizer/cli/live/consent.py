"""Asking before live servers are sent requests."""

from __future__ import annotations

import sys

import typer

from optimizer.cli.exits import EXIT_NO_PLAN
from optimizer.cli.streams import note


def ask_consent(what: str, *, yes: bool) -> None:
    """Say what is about to be sent, and go on only if that is wanted.

    Parameters
    ----------
    what
        A sentence: what is sent, how much, for how long, and where to.
    yes
        Whether consent was given on the command line.

    Raises
    ------
    typer.BadParameter
        If nobody is there to be asked.
    typer.Exit
        If the answer is no.
    """
    note(f"lorapack: {what}")
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: give --yes to send")
    if not typer.confirm("send?", err=True):
        note("lorapack: nothing was sent")
        raise typer.Exit(EXIT_NO_PLAN)
