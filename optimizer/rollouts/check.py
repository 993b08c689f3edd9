"""Replays steps one action at a time on a model of engines and routes, and tells what would break.

It knows nothing of how steps are found.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from scenarios import PlacedGPU, Placement
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload, Wave
from scenarios.placement import SHARE_TOLERANCE


@dataclass(eq=False)
class Replay:
    """Engines and routes while steps are taken.

    Parameters
    ----------
    ranks
        Rank of each adapter; 0: the base model, which needs no loading.
    wanted
        Adapters that are to be served to the end.
    most
        GPUs of each device.
    full
        Most adapters that a placement gives an engine of a kind, be it more than max_cpu_loras.
    named_at_start
        Whether an engine holds what it was started with.

    Attributes
    ----------
    limits
        Engines that run, and adapters that each may hold.
    held
        Adapters that each holds.
    routes
        Shares of each adapter by engine.
    """

    ranks: Mapping[str, int]
    wanted: Container[str]
    most: Mapping[str, int]
    full: Mapping[tuple[object, ...], int]
    named_at_start: bool = False
    engines: dict[int, PlacedGPU] = field(default_factory=dict)
    held: dict[int, set[str]] = field(default_factory=dict)
    routes: dict[str, dict[int, float]] = field(default_factory=dict)

    def begin(self, running: Placement) -> None:
        """Begin with what runs."""
        for gpu in running.gpus:
            self.engines[gpu.gpu] = gpu
            self.held[gpu.gpu] = {name for name in gpu.adapters if self._is_loaded(name)}
            for name in gpu.adapters:
                self.routes.setdefault(name, {})[gpu.gpu] = gpu.share(name)

    def _is_loaded(self, name: str) -> bool:
        return self.ranks.get(name, 1) > 0

    def wave(self, wave: Wave) -> Iterator[str]:
        """Take a wave's actions; yield what breaks."""
        started = {gpu.gpu: gpu for gpu in wave.engines}
        for action in wave.actions:
            yield from self._take(action, started)
            yield from self._broken()

    def _take(self, action: Action, started: Mapping[int, PlacedGPU]) -> Iterator[str]:
        if isinstance(action, Start):
            if action.gpu in self.engines:
                yield f"an engine starts on GPU {action.gpu}, where one runs"
            engine = started[action.gpu]
            names = engine.adapters if self.named_at_start else ()
            self.engines[action.gpu] = engine
            self.held[action.gpu] = {name for name in names if self._is_loaded(name)}
        elif self.named_at_start and isinstance(action, Load | Unload):
            yield f"{action.do} on GPU {action.gpu}, whose adapters are named at its start"
        elif isinstance(action, Switch):
            if action.shares:
                self.routes[action.adapter] = dict(action.shares)
            else:
                self.routes.pop(action.adapter, None)
                if action.adapter in self.wanted:
                    yield f"{action.adapter} is routed nowhere"
        elif action.gpu not in self.engines:
            yield f"{action.do} on GPU {action.gpu}, where no engine runs"
        elif isinstance(action, Load):
            if action.adapter in self.held[action.gpu]:
                yield f"{action.adapter} is loaded twice into GPU {action.gpu}"
            self.held[action.gpu].add(action.adapter)
            yield from self._full(action)
        elif isinstance(action, Unload):
            if action.adapter not in self.held[action.gpu]:
                yield f"{action.adapter} is unloaded from GPU {action.gpu}, which does not hold it"
            self.held[action.gpu].discard(action.adapter)
        elif isinstance(action, Stop):
            del self.engines[action.gpu], self.held[action.gpu]

    def _full(self, load: Load) -> Iterator[str]:
        gpu, held = self.engines[load.gpu], self.held[load.gpu]
        limit = max(gpu.max_cpu_loras or gpu.max_loras, self.full.get(_engine_of(gpu), 0))
        if len(held) > limit:
            yield f"GPU {load.gpu} holds {len(held)} adapters, above its max_cpu_loras {limit}"
        if self.ranks.get(load.adapter, 0) > gpu.max_lora_rank:
            yield f"{load.adapter} is of a rank above max_lora_rank of GPU {load.gpu}"

    def _broken(self) -> Iterator[str]:
        """What does not hold at this instant."""
        for device, most in self.most.items():
            if sum(gpu.device == device for gpu in self.engines.values()) > most:
                yield f"more than {most} GPUs of {device} run"
        for name, shares in self.routes.items():
            if not math.isclose(sum(shares.values()), 1.0, abs_tol=2 * SHARE_TOLERANCE):
                yield f"the shares of {name} sum to {sum(shares.values())}"
            for number in shares:
                if number not in self.engines:
                    yield f"{name} is routed to GPU {number}, where no engine runs"
                elif self._is_loaded(name) and name not in self.held[number]:
                    yield f"{name} is routed to GPU {number}, which does not hold it"


def broken_rules(
    running: Placement,
    waves: Iterable[Wave],
    final: Placement,
    ranks: Mapping[str, int],
    devices: Mapping[str, int],
    *,
    named_at_start: bool = False,
) -> list[str]:
    """What breaks on the way from one placement to another; nothing if the steps are safe.

    Every adapter that is served before and after has a route at any time, to engines that run and hold it,
    and its shares sum to 1. No engine gets an adapter above its max_lora_rank, or more adapters than its
    max_cpu_loras, unless a placement gives an engine of its kind so many. In the end the final placement
    runs, and nothing else. Where adapters are named at the start of an engine, none is loaded or unloaded.
    """
    wanted = {name for gpu in final.gpus for name in gpu.adapters}
    full: dict[tuple[object, ...], int] = {}
    for gpu in (*running.gpus, *final.gpus):
        adapters = sum(ranks.get(name, 1) > 0 for name in gpu.adapters)
        full[_engine_of(gpu)] = max(full.get(_engine_of(gpu), 0), adapters)
    replay = Replay(ranks, wanted, devices, full, named_at_start)
    replay.begin(running)
    broken = [text for wave in waves for text in replay.wave(wave)]
    ends = {gpu.gpu: gpu for gpu in final.gpus}
    if ends.keys() != replay.engines.keys():
        broken.append(f"GPUs {sorted(replay.engines)} run in the end, not {sorted(ends)}")
    for number, gpu in ends.items():
        runs = replay.engines.get(number)
        if runs and _engine_of(runs) != _engine_of(gpu):
            broken.append(f"GPU {number} is not run as the final placement says")
        here = {n: s[number] for n, s in replay.routes.items() if number in s}
        if here.keys() != set(gpu.adapters) or any(abs(s - gpu.share(n)) > 1e-5 for n, s in here.items()):
            broken.append(f"GPU {number} does not serve what the final placement says")
    return list(dict.fromkeys(broken))


def _engine_of(gpu: PlacedGPU) -> tuple[object, ...]:
    """With what an engine is started."""
    return gpu.device, gpu.max_loras, gpu.max_lora_rank, gpu.max_cpu_loras
