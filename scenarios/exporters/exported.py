"""What an export makes: files, links, and what could not be said in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    objects
        Objects of Kubernetes that it holds, so that they can be told one from another.
    """

    path: str
    text: str
    executable: bool = False
    objects: tuple[Mapping[str, object], ...] = ()


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
    kind
        The target, and whether these are steps to it; empty where nobody says.
    """

    files: tuple[ExportedFile, ...]
    links: tuple[ExportedLink, ...] = ()
    lost: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    kind: str = ""
