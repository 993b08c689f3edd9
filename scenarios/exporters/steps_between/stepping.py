"""How a target's files get a fleet from one state to the next, and what is done with them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scenarios.exporters.deployment import Deployment, Group
from scenarios.exporters.exported import ExportedFile

Part = Literal["1-load", "2-switch", "3-unload"]
"""A step of a wave, by the name of its folder."""

PARTS: tuple[Part, ...] = ("1-load", "2-switch", "3-unload")


@dataclass(frozen=True)
class Change:
    """A step: what the files in its folder are to change.

    Parameters
    ----------
    part
        Which step of its wave it is.
    after
        The deployment that is reached.
    files
        Files in the folder, in the order in which a target lists them, that of deletions aside.
    started, stopped
        Engines that start, and that stop.
    labels
        Labels that pods get which run on, by the name of their group; None: one that they lose.
    deletes
        Whether there is a file of objects to be deleted.
    """

    part: Part
    after: Deployment
    files: tuple[ExportedFile, ...]
    started: tuple[Group, ...]
    stopped: tuple[Group, ...]
    labels: Mapping[str, Mapping[str, str | None]]
    deletes: bool


def ready_commands(change: Change) -> list[str]:
    """Wait for the engines that start, where they have addresses: vLLM and SGLang answer ``/health`` then."""
    return [
        f"until curl --fail --silent http://{group.host}:{group.port}/health; do sleep 5; done"
        for group in change.started
    ]


def route_commands(change: Change) -> list[str]:
    """Put the files of routers where they read them, and make them do so: variables as in `steps_script`."""
    names = shlex.join(file.path for file in change.files)
    return [
        ': "${LORAPACK_ROUTES:?set it to the folder of the files of the router}"',
        ': "${LORAPACK_RELOAD:?set it to what makes the router read them}"',
        f'cp -- {names} "$LORAPACK_ROUTES"/',
        "$LORAPACK_RELOAD",
    ]


@dataclass(frozen=True)
class Stepping:
    """How a target is changed while it serves.

    Parameters
    ----------
    commands
        What is typed in the folder of a step; nothing where steps are no folders.
    named_at_start
        Whether its engines know their adapters from their start alone.
    parts
        Steps of a wave that the target can tell apart: without ``2-switch`` whichever engine holds an adapter
        gets its requests.
    routed_beside
        Whether requests are routed by the files of the target ``routing``, which stand in ``2-switch``.
    rewrites
        Whether one of its files says all engines, and changes those that run.
    cautions
        What is to be watched on the way.
    """

    commands: Callable[[Change], Sequence[str]] = lambda _: ()
    named_at_start: bool = False
    parts: tuple[Part, ...] = PARTS
    routed_beside: bool = False
    rewrites: bool = False
    cautions: tuple[str, ...] = ()
