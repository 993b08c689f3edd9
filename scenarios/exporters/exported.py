"""What an export makes: files, links, and what could not be said in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from scenarios.exporters.deployment import Deployment


@dataclass(frozen=True)
class ExportedFile:
    """A file of a deployment.

    Parameters
    ----------
    path
        Below the folder of the export, with ``/``; it is made of names of ours alone.
    text
        What it holds.
    executable
        Whether it is a script to be run.
    """

    path: str
    text: str
    executable: bool = False


@dataclass(frozen=True)
class ExportedLink:
    """A symbolic link of a deployment, to the folder of an adapter.

    Parameters
    ----------
    path
        Below the folder of the export.
    target
        What it names.
    """

    path: str
    target: str


@dataclass(frozen=True)
class Export:
    """A plan in the words of a target.

    Parameters
    ----------
    files, links
        What is to be written.
    lost
        What of the plan the target cannot express, one sentence each.
    cautions
        What its controller, or whoever carries it out, might do otherwise, one sentence each.
    next_steps
        Commands that put it to work, as typed in the folder of the export.
    """

    files: tuple[ExportedFile, ...]
    links: tuple[ExportedLink, ...] = ()
    lost: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


class TargetModule(Protocol):
    """What a module of a target has."""

    NAME: str
    """Name after ``--to``."""
    CHECKED: str
    """Which published version its files were checked against, and where that is."""

    def export(self, deployment: Deployment) -> Export:
        """The files of a deployment."""
