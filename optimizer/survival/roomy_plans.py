"""Plans with room to spare: contents dealt so that the engines take what a loss brings.

The ranks of the engines are chosen first. An adapter may go, after a loss, to every engine whose slots have
its rank; so with E such engines of which N may be lost, each of the others carries E / (E - N) times its
share. Adapters are dealt by these loads, and each engine gets the slots with which it is least full by them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np

from optimizer.survival.engine_rows import NOTHING
from optimizer.survival.live import LiveRecovery
from optimizer.survival.losses import distinct_losses
from optimizer.survival.params import SurvivalParams
from optimizer.survival.pieces import Catalogue, LoadedGPU, Piece, cut_up, number_with_slot
from optimizer.survival.spare import Spare
from scenarios import UNLIMITED, Deadline, EngineOption, Placement
from twin import TwinJudge


@dataclass(frozen=True)
class RoomyPlan:
    """A plan that may hold after losses.

    Parameters
    ----------
    gpus
        Its GPUs.
    before
        The same with as many slots as were offered, before those that are not needed were taken away.
    strains
        How full the fullest engine is before and after each loss, by the inner rows.
    """

    gpus: tuple[LoadedGPU, ...]
    before: tuple[LoadedGPU, ...]
    strains: tuple[float, ...]

    @property
    def strain(self) -> float:
        """How full the fullest engine is after the worst loss."""
        return max(self.strains)

    @property
    def placement(self) -> Placement:
        """The same as a placement."""
        return Placement(gpus=tuple(gpu.placed() for gpu in self.gpus))


@dataclass(frozen=True, eq=False)
class RoomyPlans:
    """Makes plans with room to spare of what a plan serves.

    Parameters
    ----------
    catalogue
        The adapters and the inner rows.
    judge
        The twin; it is not asked.
    base
        A plan without spare that the twin accepts.
    spare
        What may be lost.
    params
        How many plans are made.
    """

    catalogue: Catalogue
    judge: TwinJudge
    base: tuple[LoadedGPU, ...]
    spare: Spare
    params: SurvivalParams

    def on(self, devices: Sequence[str], deadline: Deadline = UNLIMITED) -> list[RoomyPlan]:
        """The plans on GPUs of these devices that are least full after the worst loss, the best first.

        Last comes the base plan with engines beside it that are all but idle, where it can be had. When the
        deadline is reached those are told that were made by then.
        """
        made = dict[tuple[str, ...], RoomyPlan]()
        compositions, most = list(self._ranks(devices)), self.params.compositions
        if len(compositions) > most:
            compositions = [compositions[int(k)] for k in np.linspace(0, len(compositions) - 1, most)]
        for ranks in compositions:
            if deadline.reached:
                break
            gpus = self._dealt(devices, ranks)
            if gpus is not None:
                made.setdefault(tuple(sorted(repr(gpu.content) for gpu in gpus)), self.fitted(gpus))
        best = sorted(made.values(), key=lambda plan: plan.strain)[: self.params.plans]
        idle = self._with_idle(devices)
        return best if idle is None else [*best, self.fitted(idle)]

    @cached_property
    def _pieces(self) -> list[Piece]:
        """All that is served: first what has the largest rank, and of that the heaviest."""
        everything = list(
            cut_up((piece for gpu in self.base for piece in gpu.pieces), self.params.base_parts)
        )
        weight = {kind: self._weight(kind) for kind in {piece.kind for piece in everything}}
        return sorted(everything, key=lambda p: (-p.kind.rank, -weight[p.kind], p.name))

    def _weight(self, kind: object) -> float:
        sums = self.catalogue.rows.features(kind)[None, :]  # type: ignore[arg-type]
        device = self.base[0].engine.device
        options = self.catalogue.rows.options(device, max(self.catalogue.rows.ranks(device)))
        return NOTHING if options is None else float(options.fills(sums).min())

    def _ranks(self, devices: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """Yield ranks of the slots of all engines, descending, as every adapter finds one after a loss."""
        rows = self.catalogue.rows
        offered = sorted({rank for device in devices for rank in rows.ranks(device)})
        needed = {next(r for r in offered if r >= piece.kind.rank) for piece in self._pieces}
        ranks, n = sorted(needed, reverse=True), len(devices)
        lost = max(self.spare.gpus_lost(self.catalogue.scenario, device) for device in set(devices))
        first = lost + 1  # engines of the largest rank, at least
        cuts = combinations(range(first, n + len(ranks)), len(ranks) - 1) if n >= first else ()
        for cut in cuts:
            # Stars and bars: how many engines have each rank but the first may be none.
            edges = (0, *(c - k for k, c in enumerate(cut)), n)
            numbers = [b - a for a, b in pairwise(edges)]
            if numbers[0] >= first and min(numbers) >= 0:
                yield tuple(rank for rank, number in zip(ranks, numbers, strict=True) for _ in range(number))

    def _dealt(self, devices: Sequence[str], ranks: Sequence[int]) -> tuple[LoadedGPU, ...] | None:
        """All pieces dealt to engines of these ranks, each to the one that is least full with it."""
        rows = self.catalogue.rows
        offers = [rows.options(device, rank) for device, rank in zip(devices, ranks, strict=True)]
        if any(one is None for one in offers):
            return None
        options = [one for one in offers if one is not None]
        alike: dict[tuple[str, int], list[int]] = {}
        for k, engine in enumerate(zip(devices, ranks, strict=True)):
            alike.setdefault(engine, []).append(k)
        sums = np.zeros((len(devices), len(rows.features(self._pieces[0].kind))))
        given: list[list[Piece]] = [[] for _ in devices]
        held: list[set[str]] = [set() for _ in devices]
        for piece in self._pieces:
            added = rows.features(piece.kind) * self._factor(piece.kind.rank, devices, ranks)
            load = np.full(len(devices), np.inf)
            for (_, rank), places in alike.items():
                if rank >= piece.kind.rank:
                    load[places] = options[places[0]].fills(sums[places] + added).min(axis=0)
            taken = [k for k, names in enumerate(held) if piece.name in names and not piece.kind.is_base]
            load[taken] += NOTHING  # a second part of one adapter comes on a GPU last
            place = int(load.argmin())
            held[place].add(piece.name)
            given[place].append(piece)
            sums[place] += added
        if not all(given):
            return None
        engines = [
            one.engines[int(one.fills(s[None, :]).argmin())] for one, s in zip(options, sums, strict=True)
        ]
        return tuple(
            LoadedGPU(k, engine, self.catalogue.joined(pieces))
            for k, (engine, pieces) in enumerate(zip(engines, given, strict=True))
        )

    def _factor(self, rank: int, devices: Sequence[str], ranks: Sequence[int]) -> float:
        """How much more an engine carries of what has a rank, once the engines that may be lost are."""
        able = [device for device, other in zip(devices, ranks, strict=True) if other >= rank]
        lost = max(self.spare.gpus_lost(self.catalogue.scenario, device) for device in set(able))
        return len(able) / max(len(able) - lost, 1)

    def _with_idle(self, devices: Sequence[str]) -> tuple[LoadedGPU, ...] | None:
        """The base plan as it is, with engines beside it that are all but idle, and take whatever is lost.

        Each of these gets the lightest adapter of the GPU that has most, as an engine without any is none.
        """
        more = list((Counter(devices) - Counter(gpu.engine.device for gpu in self.base)).elements())
        if len(more) + len(self.base) != len(devices) or not more:
            return None
        kept = [list(gpu.pieces) for gpu in self.base]
        idle = list[tuple[str, Piece]]()
        for device in more:
            most = max(range(len(kept)), key=lambda k: (len(kept[k]), -k))
            if len(kept[most]) < 2:
                return None
            lightest = min(kept[most], key=lambda piece: self._weight(piece.kind))
            kept[most].remove(lightest)
            idle.append((device, lightest))
        largest = max(len(pieces) for pieces in kept)
        gpus = [replace(gpu, number=k, pieces=tuple(kept[k])) for k, gpu in enumerate(self.base)]
        for device, piece in idle:
            rank = max(gpu.engine.max_lora_rank for gpu in self.base)
            slots = max(min(largest + 1, self._most_slots), self.catalogue.scenario.engine.fewest_slots)
            gpus.append(LoadedGPU(len(gpus), EngineOption(device, slots, rank), (piece,)))
        return tuple(gpus)

    def fitted(self, gpus: tuple[LoadedGPU, ...]) -> RoomyPlan:
        """A plan with as many slots as are needed after losses, and how full it is then."""
        after, strains = self._after_losses(gpus)
        most, fewest = Counter[EngineOption](), self.catalogue.scenario.engine.fewest_slots
        for gpu in gpus:
            most[gpu.engine] = max(most[gpu.engine], after[gpu.number], gpu.adapters)
        fitted = tuple(replace(gpu, engine=gpu.engine.trimmed(most[gpu.engine], fewest)) for gpu in gpus)
        return RoomyPlan(fitted, gpus, strains)

    @property
    def _most_slots(self) -> int:
        """Most slots of an engine that may be chosen."""
        return max(self.catalogue.scenario.engine.slot_choices)

    def with_slots(self, gpus: tuple[LoadedGPU, ...]) -> tuple[LoadedGPU, ...]:
        """GPUs with a slot for every adapter also for what is likely to come after a loss."""

        def raised(gpu: LoadedGPU) -> LoadedGPU:
            lost = self.spare.gpus_lost(self.catalogue.scenario, gpu.engine.device)
            likely = math.ceil(gpu.adapters * len(gpus) / max(len(gpus) - lost, 1)) + 1
            if gpu.adapters > gpu.engine.max_loras:
                return gpu
            slots = max(gpu.engine.max_loras, min(likely, self._most_slots))
            return replace(gpu, engine=replace(gpu.engine, max_loras=slots))

        return tuple(map(raised, gpus))

    def _fill(self, gpu: LoadedGPU) -> float:
        """How full an engine is as it runs."""
        return self.catalogue.rows.fill(gpu.engine, gpu.adapters, self.catalogue.sums(gpu.pieces))

    def _after_losses(self, gpus: tuple[LoadedGPU, ...]) -> tuple[Counter[int], tuple[float, ...]]:
        """Most adapters that each GPU has after a loss, by number, and how full the fullest engine is."""
        live = LiveRecovery(self.catalogue, self.judge, gpus, self.params)
        placement = Placement(gpus=tuple(gpu.placed() for gpu in gpus))
        most, strains = Counter[int](), [max(self._fill(gpu) for gpu in gpus)]
        for lost in distinct_losses(gpus, placement, self.spare, self.catalogue.scenario):
            pieces = live.pieces(lost)
            deal = pieces.best()
            if deal is None:
                return most, (math.inf,)
            strains.append(deal.strain)
            for gpu, more in zip(pieces.left, deal.given, strict=True):
                most[gpu.number] = max(most[gpu.number], gpu.adapters + number_with_slot(more))
        return most, tuple(strains)
