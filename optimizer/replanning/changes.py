"""What a new plan changes in a running placement, adapter by adapter and GPU by GPU."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.replanning.moves import Running
from optimizer.result import Result
from optimizer.rollouts.report import Rollout
from optimizer.search.cut_loop import pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import placed_gpu
from scenarios import PlacedGPU, Placement
from scenarios.base import PlainDir
from scenarios.plots import Stack, draw_stacks
from scenarios.result_view import ResultView
from scenarios.text.formatting import counted
from scenarios.text.tables import Listing, Part, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LISTED = 20
"""Most pairs of GPUs between which a summary lists the moves."""


class Move(PlainDir, BaseModel):
    """An adapter that leaves one running GPU for another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str
    source: int = Field(description="GPU that it leaves.")
    target: int = Field(description="GPU that it goes to.")


class Change(ResultView, PlainDir, BaseModel):
    """A new plan, and what it changes.

    ``plot`` draws which adapters of each GPU stay, come from another one, are new, or leave.

    GPUs keep their numbers; a fresh one gets the smallest number that is free.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    moves: tuple[Move, ...] = ()
    moves_bound: int | None = Field(
        default=None,
        description="No plan of the optimistic (outer) region at this price moves fewer adapters.",
    )
    added: tuple[str, ...] = Field(default=(), description="Adapters that were not running.")
    retired: tuple[str, ...] = Field(default=(), description="Adapters that are not wanted any more.")
    opened: tuple[int, ...] = Field(default=(), description="Fresh GPUs.")
    closed: tuple[int, ...] = Field(default=(), description="GPUs that are given back.")
    rollout: Rollout | None = Field(
        default=None, description="The steps from what runs to the plan; null where nobody asked for them."
    )
    restarted: tuple[int, ...] = Field(
        default=(),
        description="GPUs that go on with other slots, another rank or another number of adapters in CPU "
        "memory, so their engine restarts.",
    )

    @property
    def accepted(self) -> bool:
        """Whether there is a plan and the twin accepted every GPU of it."""
        return self.result.accepted

    def to_json(self) -> str:
        """JSON of everything."""
        unasked = {"rollout"} if self.rollout is None else None
        return json.dumps(self.model_dump(mode="json", exclude=unasked), indent=2, allow_nan=False)

    def parts(self) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        if self.result.placement is None:
            return self.result.parts()
        rollout = [] if self.rollout is None else ["", *self.rollout.parts()]
        return [self._count(), *self._steps(), *rollout, "", *self.result.parts()]

    def _draw(self, ax: Axes | None) -> Figure:
        if self.result.placement is None:
            return draw_stacks(ax, self.result.headline, [], "adapters")
        gpus = sorted({*(gpu.gpu for gpu in self.result.placement.gpus), *self.closed})
        return draw_stacks(ax, self._count(), [self._stack(gpu) for gpu in gpus], "adapters")

    def _stack(self, number: int) -> Stack:
        """What becomes of the adapters of a GPU."""
        placed = self.result.placement.gpus if self.result.placement else ()
        names = next((set(gpu.adapters) for gpu in placed if gpu.gpu == number), set())
        arrived = {move.adapter for move in self.moves if move.target == number}
        left = sum(move.source == number for move in self.moves)
        new = len(names & set(self.added))
        stay = len(names) - new - len(names & arrived)
        parts = {"stay": stay, "come from other GPUs": len(names & arrived), "new": new, "leave": left}
        states = {"opens": self.opened, "closes": self.closed, "restarts": self.restarted}
        words = next((word for word, gpus in states.items() if number in gpus), "")
        return Stack(f"GPU {number}", parts, words=words)

    def _shown(self) -> Iterable[Part]:
        return self.parts()

    def summary(self) -> str:
        """The moves, the GPUs that open, close or restart, and the plan as `solve` shows it."""
        return render(*self.parts())

    def _count(self) -> str:
        """How many adapters move, and at least must."""
        at_least = f" (at least {self.moves_bound:,})" if self.moves_bound is not None else ""
        moves = len(self.moves)
        return (
            f"{counted(moves, 'adapter')} {'moves' if moves == 1 else 'move'}{at_least}, "
            f"{len(self.added):,} new, {len(self.retired):,} retired"
        )

    def _steps(self) -> Iterator[Part]:
        """What happens to GPUs and adapters, one line each."""
        for word, numbers in (("open", self.opened), ("close", self.closed), ("restart", self.restarted)):
            if numbers:
                yield Listing(f"{word} GPU{'s' if len(numbers) > 1 else ''}", [str(n) for n in numbers])
        moved: dict[tuple[int, int], list[str]] = {}
        for move in self.moves:
            moved.setdefault((move.source, move.target), []).append(move.adapter)
        for (source, target), names in sorted(moved.items())[:MOST_LISTED]:
            yield Listing(f"move from GPU {source} to {target}  {counted(len(names), 'adapter')}", names)
        if len(moved) > MOST_LISTED:
            yield f"and between {len(moved) - MOST_LISTED:,} other pairs of GPUs; --json has all moves"
        for word, group in (("new", self.added), ("retired", self.retired)):
            if group:
                yield Listing(f"{word}  {counted(len(group), 'adapter')}", group)

    def __repr__(self) -> str:
        return f"<Change: {counted(len(self.moves), 'move')}; {self.result!r}>"

    def __str__(self) -> str:
        return self.summary()


def running_in(instance: Instance, placement: Placement) -> Running:
    """A running placement as the packing problem sees it: by the classes of the new rates.

    Of the base model every engine has all that it needs, so that no share of its traffic moves.
    """
    pieces = _pieces(instance)
    counts = np.zeros((len(placement.gpus), len(instance.classes)), dtype=np.int64)
    known = np.zeros(len(instance.classes), dtype=np.int64)
    holders: Counter[str] = Counter()
    for g, gpu in enumerate(placement.gpus):
        for name in gpu.adapters:
            if name in pieces:
                counts[g, pieces[name][0]] += 1
                holders[name] += 1
    for name, number in holders.items():
        c, needed = pieces[name]
        known[c] += min(number, needed)
    return Running(counts, tuple(gpu.device for gpu in placement.gpus), known)


def _pieces(instance: Instance) -> dict[str, tuple[int, int]]:
    """Class of each adapter, and in how many pieces it is served."""
    found: dict[str, tuple[int, int]] = {}
    for c, one in enumerate(instance.classes):
        if one.rank == 0:
            continue
        found |= {name: (c, number) for name, number in Counter(one.names).items()}
    return found


class _Dealer:
    """Gives a packing's items names, so that as many adapters as can stay where they are."""

    def __init__(self, instance: Instance, packing: Packing) -> None:
        self.left = [Counter(one.names) for one in instance.classes]
        self.names = [[list[str]() for _ in instance.classes] for _ in packing.bins]
        self.bins = packing.bins

    def deal(self, g: int, candidates: Iterable[str] | None, *, again: bool = False) -> None:
        """Fill a bin from candidates, or from all that are left; ``again``: also a second piece of one."""
        for c in np.flatnonzero(self.bins[g].counts):
            mine, left, wanted = self.names[g][c], self.left[c], int(self.bins[g].counts[c])
            for name in left.copy() if candidates is None else candidates:
                pieces = min(left[name], wanted - len(mine)) if again else 1
                if len(mine) < wanted and left[name] > 0 and (again or name not in mine):
                    mine += [name] * pieces
                    left[name] -= pieces


def dealt(
    instance: Instance, old: Placement, packing: Packing, homes: Sequence[int | None]
) -> list[list[list[str]]]:
    """Names per bin and class; those on the running GPU in whose place a bin is stay there first."""
    dealer = _Dealer(instance, packing)
    for g, home in enumerate(homes):
        if home is not None:
            dealer.deal(g, old.gpus[home].adapters)
    for again in (False, True):
        for g in range(len(packing.bins)):
            dealer.deal(g, None, again=again)
    return dealer.names


def placement_with_names(
    instance: Instance,
    problem: PackingProblem,
    packing: Packing,
    names: Sequence[Sequence[Sequence[str]]],
    numbers: Sequence[int],
) -> Placement:
    """The placement of a packing whose items have names, its GPUs numbered as told."""
    gpus = []
    for number, b, parts in zip(numbers, packing.bins, names, strict=True):
        shares: Counter[str] = Counter()
        for share, part in zip(instance.shares, parts, strict=True):
            for name in part:
                shares[name] += share  # type: ignore[assignment]  # a Counter of fractions
        pattern = pattern_of(problem, b)
        gpus.append(placed_gpu(number, pattern, shares, instance.scenario.base_names))
    return Placement(gpus=tuple(gpus))


def numbers_of(old: Placement, homes: Sequence[int | None]) -> list[int]:
    """Numbers of the GPUs of a new plan: the old one, or the smallest that is free."""
    used = {gpu.gpu for gpu in old.gpus}
    free = (number for number in count() if number not in used)
    return [next(free) if home is None else old.gpus[home].gpu for home in homes]


def moves_between(old: Placement, new: Placement) -> tuple[Move, ...]:
    """Adapters that leave a GPU for another, in the order of the new placement."""
    before, after = _where(old), _where(new)
    moves = []
    for name, targets in after.items():
        sources = before.get(name, [])
        left = [gpu for gpu in sources if gpu not in targets]
        reached = [gpu for gpu in targets if gpu not in sources]
        moves += [Move(adapter=name, source=a, target=b) for a, b in zip(left, reached, strict=False)]
    return tuple(moves)


def _where(placement: Placement) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for gpu in placement.gpus:
        for name in gpu.adapters:
            found.setdefault(name, []).append(gpu.gpu)
    return found


def _engine_of(gpu: PlacedGPU) -> tuple[int | None, ...]:
    """With what a GPU's engine was started."""
    return gpu.max_loras, gpu.max_lora_rank, gpu.max_cpu_loras


def change_between(result: Result, old: Placement, moves_bound: int | None) -> Change:
    """What a result changes in a running placement."""
    assert result.placement is not None
    new = result.placement
    before, after = _where(old), _where(new)
    engine = {gpu.gpu: _engine_of(gpu) for gpu in old.gpus}
    goes_on = [gpu for gpu in new.gpus if gpu.gpu in engine]
    base = result.scenario.base_names
    moves = tuple(move for move in moves_between(old, new) if move.adapter not in base)
    return Change(
        result=result,
        moves=moves,
        moves_bound=None if moves_bound is None else min(moves_bound, len(moves)),
        added=tuple(name for name in after if name not in before),
        retired=tuple(name for name in before if name not in after),
        opened=tuple(gpu.gpu for gpu in new.gpus if gpu.gpu not in engine),
        closed=tuple(sorted(engine.keys() - {gpu.gpu for gpu in new.gpus})),
        restarted=tuple(gpu.gpu for gpu in goes_on if _engine_of(gpu) != engine[gpu.gpu]),
    )
