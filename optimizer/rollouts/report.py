"""What is told of steps: their stages, the twin's verdicts, and what they cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, computed_field

from scenarios import Placement, visible
from scenarios.base import PlainDir
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload, Wave
from scenarios.placement import PlacedGPU
from scenarios.plots import Stack, draw_stacks
from scenarios.result_view import ResultView
from scenarios.text.formatting import counted
from scenarios.text.tables import Listing, Part, marked, render
from twin import GPUVerdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_READABLE = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Stage(PlainDir, BaseModel):
    """One wave: what is done, what serves what after its switch, and the twin's verdicts on that."""

    model_config = _READABLE

    actions: tuple[Action, ...]
    """What is done, in this order: start, load, switch, unload, stop."""
    engines: tuple[PlacedGPU, ...]
    """The engines that run meanwhile, with all that they hold at their fullest; their shares mean nothing."""
    placement: Placement
    """What serves what after the switch."""
    verdicts: tuple[GPUVerdict, ...] = ()
    """The twin's verdict on every GPU that serves other than before."""

    @computed_field(description="Whether the twin accepts every GPU that changed.")  # type: ignore[prop-decorator]
    @property
    def accepted(self) -> bool:
        """Whether the twin accepts every GPU that changed."""
        return all(verdict.accepted for verdict in self.verdicts)

    @property
    def wave(self) -> Wave:
        """As an exporter takes it."""
        return Wave(self.actions, self.engines, self.placement)


class Rollout(ResultView, PlainDir, BaseModel):
    """The steps from a running placement to a new one.

    ``plot`` draws how many things of each kind are done in each wave.
    """

    model_config = _READABLE

    stages: tuple[Stage, ...] = ()
    """The waves, in their order; none where nothing changes, or no safe way was found."""
    placement: Placement | None = None
    """What runs in the end: the new placement, under the numbers of the GPUs on which its engines started."""
    renumbered: dict[int, int] = {}
    """Number in the end of each GPU of the new placement that gets another one."""
    peak_gpus: int
    """Most GPUs in use at once."""
    extra_gpus: int = 0
    """How many of them are more than before and more than after."""
    named_at_start: bool = False
    """Whether engines know their adapters from their start alone: others are another engine."""
    criterion: str = ""
    """By what the twin judged."""
    why_not: str = ""
    """Why there are no steps, and what is needed; empty where there are."""

    @computed_field(description="Whether there are steps and the twin accepts every stage.")  # type: ignore[prop-decorator]
    @property
    def accepted(self) -> bool:
        """Whether there are steps and the twin accepts every stage."""
        return not self.why_not and all(stage.accepted for stage in self.stages)

    @computed_field(description="Engines that are started.")  # type: ignore[prop-decorator]
    @property
    def starts(self) -> int:
        """Engines that are started."""
        return self._count(Start)

    @computed_field(description="Adapters that are loaded, once for each engine.")  # type: ignore[prop-decorator]
    @property
    def loads(self) -> int:
        """Adapters that are loaded, once for each engine."""
        return self._count(Load)

    def _count(self, kind: type) -> int:
        return sum(isinstance(action, kind) for stage in self.stages for action in stage.actions)

    def to_json(self) -> str:
        """JSON of everything."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def parts(self) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        if self.why_not:
            return [marked(f"NO SAFE STEPS: {visible(self.why_not)}", "bad")]
        lines: list[Part] = [self._price()]
        for number, stage in enumerate(self.stages, start=1):
            lines += _stage_parts(number, stage)
        lines += [f"GPU {a} of the new placement is GPU {b} in the end" for a, b in self.renumbered.items()]
        return [*lines, "", self.criterion] if self.criterion else lines

    def _price(self) -> str:
        extra = f", {self.extra_gpus:,} of them only on the way" if self.extra_gpus else ""
        loads = (
            "no load, for adapters are named when an engine starts"
            if self.named_at_start
            else counted(self.loads, "load")
        )
        return (
            f"{counted(len(self.stages), 'wave')}: {counted(self.starts, 'engine start')}, "
            f"{loads}, at most {counted(self.peak_gpus, 'GPU')} at once{extra}"
        )

    def _draw(self, ax: Axes | None) -> Figure:
        title = f"NO SAFE STEPS: {self.why_not}" if self.why_not else self._price()
        stacks = [_stack(number, stage) for number, stage in enumerate(self.stages, start=1)]
        return draw_stacks(ax, title, stacks, "steps of a wave; hatched: rejected by the twin")

    def _shown(self) -> Iterable[Part]:
        return self.parts()

    def summary(self) -> str:
        """The waves, what is done in each, and what the twin says of it."""
        return render(*self.parts())

    def __repr__(self) -> str:
        return f"<Rollout: {self.why_not or self._price()}>"

    def __str__(self) -> str:
        return self.summary()


_KINDS: dict[str, type] = {
    "engine starts": Start,
    "adapters loaded": Load,
    "routes switched": Switch,
    "adapters unloaded": Unload,
    "engine stops": Stop,
}


def _stack(number: int, stage: Stage) -> Stack:
    """How many things of each kind a wave does, and how many engines run meanwhile."""
    parts = {
        words: float(sum(isinstance(action, kind) for action in stage.actions))
        for words, kind in _KINDS.items()
    }
    return Stack(f"wave {number}", parts, stage.accepted, words=f"on {counted(len(stage.engines), 'GPU')}")


def _stage_parts(number: int, stage: Stage) -> Iterator[Part]:
    """What is done in a wave, one line for each kind of action and GPU."""
    rejected = [verdict for verdict in stage.verdicts if not verdict.accepted]
    if rejected:
        reason = rejected[0].reasons[0] if rejected[0].reasons else "no reason given"
        yield marked(f"wave {number}: the twin REJECTS GPU {rejected[0].gpu}: {visible(reason)}", "bad")
    else:
        yield marked(f"wave {number}: accepted", "good")
    begun = [str(action.gpu) for action in stage.actions if isinstance(action, Start)]
    if begun:
        yield Listing("  start GPU", begun)
    loads, unloads = Counter[int](), Counter[int]()
    for action in stage.actions:
        if isinstance(action, Load):
            loads[action.gpu] += 1
        elif isinstance(action, Unload):
            unloads[action.gpu] += 1
    if loads:
        yield "  load " + ", ".join(f"{n:,} into GPU {gpu}" for gpu, n in sorted(loads.items()))
    routes = [action.adapter for action in stage.actions if isinstance(action, Switch)]
    if routes:
        yield Listing(f"  switch the routes of {counted(len(routes), 'name')}", routes)
    if unloads:
        yield "  unload " + ", ".join(f"{n:,} from GPU {gpu}" for gpu, n in sorted(unloads.items()))
    gone = [str(action.gpu) for action in stage.actions if isinstance(action, Stop)]
    if gone:
        yield Listing("  stop GPU", gone)
