"""Finds waves: as much at once as room, GPUs and the twin permit, and detours where nothing goes straight.

A detour is, in this order: an adapter parked on a running engine that has room; a fresh engine in the place
of one that is full; the adapters of an engine that must be started again, dealt to the others until it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from optimizer.rollouts.fleet import Fleet, Names, changed, only_loses
from optimizer.rollouts.flows import Flow
from scenarios import PlacedGPU, Placement

Judge = Callable[[Sequence[PlacedGPU]], Sequence[bool]]
"""Whether each of some GPUs is accepted."""

MOST_TRIES = 48
"""Most detours of a kind that the twin is asked about at a standstill."""

ONE_BY_ONE = 4
"""Up to so many adapters that an engine was to get are put off one by one, of more of them half at once."""


@dataclass(frozen=True)
class Limits:
    """How many GPUs there are.

    Parameters
    ----------
    devices
        Of each device.
    total
        That may run at once.
    """

    devices: Mapping[str, int]
    total: float = math.inf

    def free(self, fleet: Fleet, device: str) -> bool:
        """Whether another engine may run."""
        used = Counter(gpu.device for gpu in fleet.engines.values())
        return len(fleet.engines) < self.total and used[device] < self.devices.get(device, 0)


@dataclass(frozen=True)
class Step:
    """A wave as the planner sees it: the fleet with the engines that start, and after the switch."""

    before: Fleet
    begun: Fleet
    after: Fleet


@dataclass(eq=False)
class Planner:
    """Finds the waves from one placement to another.

    Parameters
    ----------
    new
        The new placement.
    names
        What is known of the adapters.
    limits
        How many GPUs there are.
    judge
        The twin.
    devices_of
        Device of every GPU that has a number.
    """

    new: Placement
    names: Names
    limits: Limits
    judge: Judge
    devices_of: dict[int, str]
    _parked: set[tuple[str, int | None]] = field(default_factory=set)
    _replaced: set[int] = field(default_factory=set)
    _drained: set[int] = field(default_factory=set)

    def waves(self, fleet: Fleet) -> Iterator[Step]:
        """Yield waves until the new placement runs, or nothing goes on."""
        while not fleet.done:
            step = self._straight(fleet) or self._detour(fleet)
            if step is None:
                return
            yield step
            fleet = stopped(step.after)

    def _straight(self, fleet: Fleet) -> Step | None:
        """A wave of flows that go where they are to get to, engines started for them."""
        begun = self._with_starts(fleet)
        step = self._shrunk(fleet, begun, self._fitting(begun))
        if step is not None:
            return step
        singles = [self._shrunk(fleet, begun, {k: begun.home(begun.flows[k])}) for k in self._cheapest(begun)]
        return next((one for one in singles if one is not None), None)

    def _cheapest(self, fleet: Fleet) -> list[int]:
        """Pending flows whose engines run and have room, those of least demand first."""
        ready = [
            k
            for k, flow in enumerate(fleet.flows)
            if fleet.pending(flow)
            and (home := fleet.home(flow)) is not None
            and self._takes(fleet, home, flow, fleet.held(home, self.names))
        ]
        return sorted(ready, key=lambda k: self._demand(fleet.flows[k]))[:MOST_TRIES]

    def _demand(self, flow: Flow) -> float:
        return flow.share * self.names.demand.get(flow.adapter, 0.0)

    def _with_starts(self, fleet: Fleet) -> Fleet:
        """The fleet with the engines that can be started, those first that let others be stopped."""
        while True:
            waiting = [g for g, home in enumerate(fleet.homes) if home is None]
            able = [g for g in waiting if self.limits.free(fleet, self.new.gpus[g].device)]
            if not able:
                return fleet
            fleet = self._started(fleet, max(able, key=lambda g: (self._freed(fleet, g), -g)))

    def _freed(self, fleet: Fleet, goal: int) -> tuple[int, int]:
        """Engines that are empty once a GPU of the new placement runs, and flows that wait for it."""
        up = {g for g, home in enumerate(fleet.homes) if home is not None} | {goal}
        empty = sum(all(f.goal in up or f.goal is None for f in fleet.at(n)) for n in fleet.leaving())
        return empty, sum(flow.goal == goal for flow in fleet.flows)

    def _started(self, fleet: Fleet, goal: int) -> Fleet:
        """The fleet with the engine of a GPU of the new placement, on its own number if that is free."""
        gpu = self.new.gpus[goal]
        number = self._number(
            fleet, gpu, [self.new.gpus[g].gpu for g, h in enumerate(fleet.homes) if h is None]
        )
        self.devices_of[number] = gpu.device
        homes = tuple(number if g == goal else home for g, home in enumerate(fleet.homes))
        room = {**fleet.room, number: room_of(gpu, self.names)}
        return replace(
            fleet,
            engines={**fleet.engines, number: gpu.model_copy(update={"gpu": number})},
            homes=homes,
            room=room,
        )

    def _number(self, fleet: Fleet, gpu: PlacedGPU, wanted: Sequence[int]) -> int:
        """Number of the GPU on which an engine starts: its own, one that was given back, or a fresh one."""
        own = self.devices_of.get(gpu.gpu) == gpu.device and gpu.gpu not in fleet.engines
        if own:
            return gpu.gpu
        free = [n for n, device in self.devices_of.items() if device == gpu.device and n not in fleet.engines]
        kept = [number for number in free if number not in wanted]
        fresh = (number for number in count() if number not in self.devices_of)
        return min(kept or free or [next(fresh)])

    def _fitting(self, fleet: Fleet) -> dict[int, int | None]:
        """Flows that go where they are to get to, as far as there is room, with their engines.

        Those first that leave engines with little room, as others wait for it.
        """
        held = {n: fleet.held(n, self.names) for n in fleet.engines}
        chosen: dict[int, int | None] = {}

        def room(number: int) -> int:
            return fleet.room[number] - len(held[number])

        order = sorted(
            (k for k, flow in enumerate(fleet.flows) if fleet.pending(flow)),
            key=lambda k: math.inf if (at := fleet.flows[k].at) is None else room(at),
        )
        for k in order:
            flow = fleet.flows[k]
            home = fleet.home(flow)
            if flow.goal is None:
                chosen[k] = None
            elif home is not None and self._takes(fleet, home, flow, held[home]):
                chosen[k] = home
                held[home] |= self.names.loaded([flow.adapter])
        return chosen

    def _takes(self, fleet: Fleet, number: int, flow: Flow, held: set[str]) -> bool:
        """Whether an engine that holds some adapters can take another."""
        rank = self.names.ranks.get(flow.adapter, 0)
        if rank == 0 or flow.adapter in held:
            return True
        if self.names.named_at_start or not self.names.loaded(fleet.engines[number].adapters):
            return False  # an engine that was started without adapters takes none
        return len(held) < fleet.room[number] and rank <= fleet.engines[number].max_lora_rank

    def _shrunk(self, fleet: Fleet, begun: Fleet, chosen: Mapping[int, int | None]) -> Step | None:
        """A wave of the chosen flows, without those that the twin does not permit; None if none is left."""
        left = _whole(begun, chosen)
        while left:
            after = begun.moved(left)
            refused = self._refused(begun, after)
            if not refused and self._replicas_kept(begun, after):
                return Step(fleet, _used(fleet, begun, after), _used(fleet, after, after))
            gone = refused or {n for n in left.values() if n is not None}
            if not gone:
                return None
            for number in gone:
                arriving = sorted(
                    (k for k, target in left.items() if target == number),
                    key=lambda k: -self._demand(begun.flows[k]),
                )
                less = len(arriving) - len(arriving) // 2 if len(arriving) > ONE_BY_ONE else 1
                for k in arriving[:less]:
                    del left[k]
            left = _whole(begun, left)
        return None

    def _refused(self, before: Fleet, after: Fleet) -> set[int]:
        """Engines that the twin rejects, if they serve more than before and more than they are to."""
        asked = [n for n in changed(before, after) if not only_loses(before, after, n)]
        gpus = [gpu for n in asked if (gpu := after.placed(n)) is not None]
        accepted = self.judge(gpus) if gpus else ()
        return {n for n, fine in zip(asked, accepted, strict=True) if not (fine or self._wanted(after, n))}

    def _wanted(self, fleet: Fleet, number: int) -> bool:
        """Whether an engine serves what it is to in the end, or less where the twin rejects even that."""
        if number not in fleet.homes:
            return False
        goal = fleet.homes.index(number)
        here = {k for k, flow in enumerate(fleet.flows) if flow.at == number}
        end = {k for k, flow in enumerate(fleet.flows) if flow.goal == goal}
        return here == end or (here < end and not self.judge([self.new.gpus[goal]])[0])

    def _replicas_kept(self, before: Fleet, after: Fleet) -> bool:
        """Whether no adapter is on fewer engines than it must, unless it was before."""
        if not self.names.replicas:
            return True
        were, are = before.routes(), after.routes()
        return all(
            len(are[name]) >= min(least, len(were[name]))
            for name, least in self.names.replicas.items()
            if name in were and name in are
        )

    def _detour(self, fleet: Fleet) -> Step | None:
        """A wave that makes room where nothing goes straight."""
        return self._parking(fleet) or self._replacement(fleet) or self._drain(fleet)

    def _parking(self, fleet: Fleet) -> Step | None:
        """A wave in which one adapter makes room for others on an engine that they wait for."""
        blocked = Counter(
            fleet.home(f) for f in fleet.flows if fleet.pending(f) and fleet.home(f) is not None
        )
        tries = 0
        for number, _ in blocked.most_common():
            assert number is not None
            out = [
                k
                for k, flow in enumerate(fleet.flows)
                if flow.at == number and fleet.pending(flow) and (flow.adapter, flow.goal) not in self._parked
            ]
            for k in sorted(out, key=lambda k: self._demand(fleet.flows[k])):
                for place in self._places(fleet, fleet.flows[k]):
                    tries += 1
                    if tries > MOST_TRIES:
                        return None
                    step = self._shrunk(fleet, fleet, {k: place})
                    if step is not None:
                        self._parked.add((fleet.flows[k].adapter, fleet.flows[k].goal))
                        return step
        return None

    def _places(self, fleet: Fleet, flow: Flow) -> list[int]:
        """Engines that can take a flow beside what they hold: those that go on, the emptiest first."""
        held = {n: fleet.held(n, self.names) for n in fleet.engines}
        able = [n for n in fleet.engines if n != flow.at and self._takes(fleet, n, flow, held[n])]
        return sorted(able, key=lambda n: (n not in fleet.homes, self._load(fleet, n)))

    def _load(self, fleet: Fleet, number: int) -> float:
        return sum(self._demand(flow) for flow in fleet.at(number))

    def _replacement(self, fleet: Fleet) -> Step | None:
        """A wave that starts a fresh engine in the place of one that others wait for, if a GPU is free."""
        blocked = Counter(f.goal for f in fleet.flows if fleet.pending(f) and fleet.home(f) is not None)
        for goal, _ in blocked.most_common():
            assert goal is not None
            if goal in self._replaced or not self.limits.free(fleet, self.new.gpus[goal].device):
                continue
            begun = self._started(fleet, goal)
            chosen = {k: begun.homes[goal] for k, flow in enumerate(begun.flows) if flow.goal == goal}
            step = self._shrunk(fleet, begun, chosen)
            if step is not None:
                self._replaced.add(goal)
                return step
        return None

    def _drain(self, fleet: Fleet) -> Step | None:
        """A wave after which an engine that is to be stopped serves nothing, the least busy one first."""
        for number in sorted(fleet.leaving(), key=lambda n: self._load(fleet, n)):
            if number in self._drained:
                continue
            deal = self._dealt(fleet, number)
            if deal is not None:
                self._drained.add(number)
                return Step(fleet, fleet, fleet.moved(deal))
        return None

    def _dealt(self, fleet: Fleet, number: int) -> dict[int, int | None] | None:
        """Another engine for each flow of one, as far as the twin permits; None if it does not permit all."""
        deal: dict[int, int | None] = {}
        tries = 0
        mine = [k for k, flow in enumerate(fleet.flows) if flow.at == number]
        for k in sorted(mine, key=lambda k: -self._demand(fleet.flows[k])):
            now = fleet.moved(deal)
            for place in self._places(now, fleet.flows[k]):
                tries += 1
                after = fleet.moved({**deal, k: place})
                if (
                    tries <= MOST_TRIES
                    and not self._refused(fleet, after)
                    and self._replicas_kept(fleet, after)
                ):
                    deal[k] = place
                    break
            else:
                return None
        return deal or None


def room_of(gpu: PlacedGPU, names: Names) -> int:
    """Adapters that an engine may hold: ``max_cpu_loras``, or as many as its placement gives it.

    Of more than max_cpu_loras vLLM keeps those that were used last, and reads others from disk again
    (vllm/lora/worker_manager.py, ``LRUCacheWorkerLoRAManager.add_adapter``, 0.32.0).
    """
    return max(gpu.max_cpu_loras or gpu.max_loras, len(names.loaded(gpu.adapters)))


def _whole(fleet: Fleet, chosen: Mapping[int, int | None]) -> dict[int, int | None]:
    """The chosen flows without parts of new adapters that lack others, as all are routed at once."""
    lacking = {f.adapter for k, f in enumerate(fleet.flows) if f.at is None and chosen.get(k) is None}
    return {
        k: place
        for k, place in chosen.items()
        if fleet.flows[k].at is not None or fleet.flows[k].adapter not in lacking
    }


def _used(before: Fleet, fleet: Fleet, after: Fleet) -> Fleet:
    """A fleet without engines that were to start and that serve nothing after the switch."""
    idle = {n for n in fleet.engines if n not in before.engines and not after.at(n)}
    engines = {number: gpu for number, gpu in fleet.engines.items() if number not in idle}
    homes = tuple(None if home in idle else home for home in fleet.homes)
    return replace(fleet, engines=engines, homes=homes)


def stopped(fleet: Fleet) -> Fleet:
    """The fleet once the engines that are not wanted and serve nothing are stopped."""
    idle = {number for number in fleet.leaving() if not fleet.at(number)}
    return replace(fleet, engines={n: gpu for n, gpu in fleet.engines.items() if n not in idle})
