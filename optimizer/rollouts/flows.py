"""What has to get from where to where: every adapter's requests as parts that go from engine to engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from scenarios import PlacedGPU, Placement
from scenarios.placement import PlacedAdapter

LEAST_SHARE = 1e-9
"""Smaller parts are what is left over by arithmetic."""


@dataclass(frozen=True)
class Flow:
    """A part of an adapter's requests.

    Parameters
    ----------
    adapter
        The adapter.
    share
        Part of its requests.
    at
        Number of the GPU that runs and serves it now; None: none does, as the adapter is new.
    goal
        Position of the GPU of the new placement that is to serve it; None: none, as it is retired.
    """

    adapter: str
    share: float
    at: int | None
    goal: int | None


def same_engine(old: PlacedGPU, new: PlacedGPU) -> bool:
    """Whether an engine goes on as it is: these are read when vLLM starts (vllm/config/lora.py, 0.32.0)."""

    def started(gpu: PlacedGPU) -> tuple[object, ...]:
        return gpu.device, gpu.max_loras, gpu.max_lora_rank, gpu.max_cpu_loras

    return started(old) == started(new)


def goes_on(
    running: Placement,
    new: Placement,
    goal: int,
    loaded: Callable[[Iterable[str]], set[str]],
    *,
    named_at_start: bool = False,
) -> bool:
    """Whether the engine of a GPU of the new placement runs already.

    Other arguments of the engine, or another release, where both placements state them, mean a restart too;
    and so does the first adapter of an engine that was started without, or the last one of another.

    Parameters
    ----------
    loaded
        Those of some names that are adapters.
    named_at_start
        Whether other adapters, or other sources or served names of them, are another engine.
    """
    gpu = new.gpus[goal]
    old = next((one for one in running.gpus if one.gpu == gpu.gpu), None)
    if old is None or not same_engine(old, gpu):
        return False
    had, has = loaded(old.adapters), loaded(gpu.adapters)
    if bool(had) != bool(has):
        return False
    if named_at_start and (had != has or any(_told(running, name) != _told(new, name) for name in has)):
        return False
    for key in ("engine", "engine_version"):
        before, after = getattr(running, key), getattr(new, key)
        if before is not None and after is not None and _fixed(before) != _fixed(after):
            return False
    return True


def _told(placement: Placement, name: str) -> PlacedAdapter:
    return placement.adapters.get(name, PlacedAdapter())


def _fixed(engine: object) -> object:
    """What an engine is started with beside its slots, which each GPU states."""
    if isinstance(engine, str):
        return engine
    return engine.model_dump(exclude={"max_loras", "max_lora_rank", "max_cpu_loras", "slots"})  # type: ignore[attr-defined]


def flows_between(running: Placement, new: Placement, stay: Sequence[bool]) -> tuple[Flow, ...]:
    """The parts of every adapter; what can stay where it is stays.

    Parameters
    ----------
    stay
        Of each GPU of the new placement whether its engine runs already.
    """
    before, after = _shares(running, by_number=True), _shares(new, by_number=False)
    flows: list[Flow] = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            flows += [Flow(name, share, at, None) for at, share in before[name].items()]
        elif name not in before:
            flows += [Flow(name, share, None, goal) for goal, share in after[name].items()]
        else:
            flows += _parts(name, dict(before[name]), dict(after[name]), new, stay)
    return tuple(flows)


def _shares(placement: Placement, *, by_number: bool) -> dict[str, dict[int, float]]:
    """Shares of each adapter, summing to 1, by number or position of the GPU."""
    found: dict[str, dict[int, float]] = {}
    for k, gpu in enumerate(placement.gpus):
        for name in gpu.adapters:
            found.setdefault(name, {})[gpu.gpu if by_number else k] = gpu.share(name)
    total = {name: sum(shares.values()) for name, shares in found.items()}
    return {name: {k: s / total[name] for k, s in shares.items()} for name, shares in found.items()}


def _parts(
    name: str, left: dict[int, float], wanted: dict[int, float], new: Placement, stay: Sequence[bool]
) -> Iterator[Flow]:
    """The parts of one adapter: those that stay, then those to an engine of the same number, then others."""

    def pairs() -> Iterator[tuple[int, int]]:
        same = [(new.gpus[goal].gpu, goal) for goal in wanted if new.gpus[goal].gpu in left]
        yield from sorted(same, key=lambda pair: not stay[pair[1]])
        yield from ((at, goal) for at in list(left) for goal in list(wanted))

    for at, goal in pairs():
        share = min(left[at], wanted[goal])
        if share > LEAST_SHARE:
            left[at] -= share
            wanted[goal] -= share
            yield Flow(name, share, at, goal)
