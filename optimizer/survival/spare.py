"""How much may be lost, and how what was served there comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from scenarios import Placement, Problem, Scenario, ScenarioError, nodes_of

Recovery = Literal["live", "restart"]
"""How adapters of lost GPUs come back. ``live``: they are loaded into engines that run, whose slots and ranks
stay as they are. ``restart``: engines of the survivors may be started again, with other slots and ranks."""

RECOVERIES: tuple[str, ...] = get_args(Recovery)

MOST_GPUS = 2
"""Most single GPUs whose loss is looked at: their combinations grow with the power of it."""

_SPARE = re.compile(r"(\d+)(node)?")


@dataclass(frozen=True)
class Spare:
    """What may be lost.

    Parameters
    ----------
    number
        How many GPUs, or nodes, are lost at once.
    nodes
        Whether whole nodes are lost.
    """

    number: int
    nodes: bool = False

    @classmethod
    def of(cls, given: object, source: str = "solve") -> Spare:
        """What is meant by 1, 2, ``"1"``, ``"2"`` or ``"1node"``.

        Raises
        ------
        ScenarioError
            If it is none of these.
        """
        match = None if isinstance(given, bool) else _SPARE.fullmatch(str(given).strip())
        if match is not None:
            spare = cls(int(match[1]), match[2] is not None)
            if 1 <= spare.number <= (1 if spare.nodes else MOST_GPUS):
                return spare
        shown = repr(given) if isinstance(given, str) else str(given)
        remedy = f"give 1 to {MOST_GPUS} GPUs, or 1node for all GPUs of a node"
        raise ScenarioError([Problem("spare", f"is {shown}", remedy)], source)

    def __str__(self) -> str:
        return f"{self.number}node" if self.nodes else f"{self.number}"

    @property
    def in_words(self) -> str:
        """What is lost, for people."""
        if self.nodes:
            return "one node"
        return "one GPU" if self.number == 1 else f"{self.number} GPUs"

    def gpus_lost(self, scenario: Scenario, device: str) -> int:
        """Most GPUs of a device that are lost at once, where there are enough."""
        of = next(one for one in scenario.devices if one.name == device)
        return of.gpus_per_node if self.nodes else self.number

    def losses(self, placement: Placement, scenario: Scenario) -> Iterator[tuple[int, ...]]:
        """Yield the numbers of the GPUs that each loss takes, ascending."""
        numbers = sorted(gpu.gpu for gpu in placement.gpus)
        if not self.nodes:
            yield from combinations(numbers, min(self.number, len(numbers)))
            return
        node = nodes_of(placement, scenario)
        for lost in sorted(set(node.values())):
            yield tuple(number for number in numbers if node[number] == lost)


def check_recovery(given: object, source: str = "solve") -> Recovery:
    """The recovery of a name.

    Raises
    ------
    ScenarioError
        If there is none.
    """
    for name in get_args(Recovery):
        if given == name:
            return name  # type: ignore[no-any-return]  # one of the names
    raise ScenarioError([Problem("recovery", f"is {given!r}", f"give {' or '.join(RECOVERIES)}")], source)
