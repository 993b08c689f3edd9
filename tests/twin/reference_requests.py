"""Requests and steps of the slow reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, nan

from tests.twin.reference_blocks import Block

BASE_MODEL = -1
"""In place of the number of an adapter: the model alone, which takes no slot."""


@dataclass(eq=False)
class Request:
    """One request and what became of it."""

    number: int
    arrival: float
    prompt: int
    output: int
    adapter: int
    computed: int = 0
    generated: int = 0
    under_way: int = 0  # tokens that scheduled steps will generate
    blocks: list[Block] = field(default_factory=list)
    named: int = 0  # of its blocks, from the first on
    preemptions: int = 0
    caught_up: bool = False
    sent: float = nan
    first_scheduled: float = nan
    stated: int = 0  # tokens that need not be computed, whatever was before
    cached: int = 0  # tokens found in the cache when it was first scheduled
    first_token: float = nan
    finish: float = nan

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated

    @property
    def last_is_under_way(self) -> bool:
        return self.under_way > 0 and self.generated + self.under_way >= self.output


@dataclass
class Step:
    """What one step computes."""

    scheduled: dict[Request, int] = field(default_factory=dict)
    decodes: list[Request] = field(default_factory=list)
    generating: list[Request] = field(default_factory=list)
    preempted: int = 0
    end: float = -inf

    @property
    def tokens(self) -> int:
        return sum(self.scheduled.values())

    @property
    def adapters(self) -> set[int]:
        return adapters_of(self.scheduled)


def adapters_of(requests: Iterable[Request]) -> set[int]:
    return {r.adapter for r in requests} - {BASE_MODEL}
