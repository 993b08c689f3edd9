"""What is done to a running fleet, one thing after another: the words of steps, whoever finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scenarios.placement import PlacedGPU, Placement


@dataclass(frozen=True)
class Start:
    """Start the engine of a GPU, and wait until it answers; it holds no adapter yet."""

    gpu: int
    do: Literal["start"] = "start"


@dataclass(frozen=True)
class Load:
    """Load an adapter into an engine, and wait until the engine lists it."""

    gpu: int
    adapter: str
    do: Literal["load"] = "load"


@dataclass(frozen=True)
class Switch:
    """Route an adapter's requests so from now on; all switches of a wave are one change of the routes.

    Parameters
    ----------
    shares
        Part of its requests by GPU, summing to 1; empty: it is served no more.
    """

    adapter: str
    shares: Mapping[int, float]
    do: Literal["switch"] = "switch"


@dataclass(frozen=True)
class Unload:
    """Unload an adapter from an engine to which none of its requests are routed."""

    gpu: int
    adapter: str
    do: Literal["unload"] = "unload"


@dataclass(frozen=True)
class Stop:
    """Wait until no request runs on an engine to which nothing is routed, and stop it."""

    gpu: int
    do: Literal["stop"] = "stop"


Action = Start | Load | Switch | Unload | Stop
"""One thing that is done."""


@dataclass(frozen=True)
class Wave:
    """Actions that are done together, in their order: start, load, switch, unload, stop.

    Parameters
    ----------
    actions
        What is done.
    engines
        The engines that run meanwhile, each with all that it holds at its fullest; their shares mean nothing.
    placement
        What serves what after the switch.
    """

    actions: tuple[Action, ...]
    engines: tuple[PlacedGPU, ...]
    placement: Placement
