"""A fleet on its way: which engines run, and which part of which adapter each of them serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from optimizer.rollouts.flows import LEAST_SHARE, Flow
from scenarios import PlacedGPU


@dataclass(frozen=True)
class Names:
    """What is known of the adapters.

    Parameters
    ----------
    ranks
        Rank of each adapter of the scenario; 0: the base model, which every engine has.
    demand
        Tokens that each asks for in a second; those that are retired are not known.
    replicas
        Least number of engines of those that must be served by several.
    named_at_start
        Whether an engine knows its adapters from its start, and none is loaded while it runs.
    """

    ranks: Mapping[str, int]
    demand: Mapping[str, float]
    replicas: Mapping[str, int]
    named_at_start: bool = False

    def loaded(self, names: Iterable[str]) -> set[str]:
        """Those of some names that are adapters, which must be loaded."""
        return {name for name in names if self.ranks.get(name, 1) > 0}


@dataclass(frozen=True)
class Fleet:
    """Engines that run, and what they serve.

    Parameters
    ----------
    engines
        How each engine is run, by number; its adapters are those for which it was started.
    flows
        The parts of the adapters.
    homes
        Number of the engine of each GPU of the new placement; None: it does not run yet.
    room
        Adapters that each engine may hold.
    """

    engines: Mapping[int, PlacedGPU]
    flows: tuple[Flow, ...]
    homes: tuple[int | None, ...]
    room: Mapping[int, int]

    def home(self, flow: Flow) -> int | None:
        """Number of the engine that a flow is to get to, where that runs."""
        return None if flow.goal is None else self.homes[flow.goal]

    def pending(self, flow: Flow) -> bool:
        """Whether a flow is not yet where it is to get to."""
        return flow.at != self.home(flow) or (flow.goal is not None and flow.at is None)

    @property
    def done(self) -> bool:
        """Whether the new placement runs, and nothing else."""
        wanted = set(self.homes)
        return not any(map(self.pending, self.flows)) and wanted == set(self.engines)

    def at(self, number: int) -> list[Flow]:
        """The flows that an engine serves."""
        return [flow for flow in self.flows if flow.at == number]

    def leaving(self) -> list[int]:
        """Engines that run and are not of the new placement."""
        return [number for number in self.engines if number not in self.homes]

    def moved(self, targets: Mapping[int, int | None]) -> Fleet:
        """The fleet with some flows, by position, at other engines; those that are retired are gone."""
        flows = tuple(
            replace(flow, at=targets[k]) if k in targets else flow for k, flow in enumerate(self.flows)
        )
        return replace(self, flows=tuple(f for f in flows if f.at is not None or f.goal is not None))

    def shares(self, number: int) -> dict[str, float]:
        """What an engine serves of each adapter."""
        found = Counter[str]()
        for flow in self.flows:
            if flow.at == number:
                found[flow.adapter] += flow.share  # type: ignore[assignment]  # a Counter of fractions
        return {name: share for name, share in found.items() if share > LEAST_SHARE}

    def held(self, number: int, names: Names) -> set[str]:
        """The adapters that an engine holds: what it serves, or what it was started with."""
        return names.loaded(self.engines[number].adapters if names.named_at_start else self.shares(number))

    def routes(self) -> dict[str, dict[int, float]]:
        """Shares of each adapter that is served, by engine."""
        found: dict[str, dict[int, float]] = {}
        for number in self.engines:
            for name, share in self.shares(number).items():
                found.setdefault(name, {})[number] = share
        return found

    def placed(self, number: int) -> PlacedGPU | None:
        """An engine with what it serves; None where that is nothing."""
        shares = self.shares(number)
        if not shares:
            return None
        parts = {name: share for name, share in shares.items() if share < 1 - LEAST_SHARE}
        return self.engines[number].model_copy(update={"adapters": tuple(shares), "shares": parts})


def changed(before: Fleet, after: Fleet) -> list[int]:
    """Engines that serve something after, and other than before."""
    return [number for number in after.engines if after.shares(number) not in ({}, shares_of(before, number))]


def shares_of(fleet: Fleet, number: int) -> dict[str, float]:
    """What an engine serves, nothing where it does not run."""
    return fleet.shares(number) if number in fleet.engines else {}


def only_loses(before: Fleet, after: Fleet, number: int) -> bool:
    """Whether an engine serves nothing that it did not before, and of nothing more."""
    held = shares_of(before, number)
    return all(share <= held.get(name, 0.0) + LEAST_SHARE for name, share in after.shares(number).items())
