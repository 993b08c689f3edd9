"""Asking before live servers are sent requests."""

from __future__ import annotations

import sys

import typer

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
    typer.Abort
        If the answer is no.
    """
    note(f"lorapack: {what}")
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked whether to send that; give --yes")
    typer.confirm("Send it?", abort=True, err=True)
