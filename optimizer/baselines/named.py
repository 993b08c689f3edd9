"""Placements of others as methods by name, each a rule; the twin only judges what it places.

Those that spread over all GPUs given come twice: at all of them, and, as ``NAME-min``, at the fewest at
which the twin finds every GPU healthy. Where a scenario has several kinds of GPU, the first one is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from optimizer.baselines.assignment import (
    SingleAdapters,
    all_slots,
    assigned,
    single_adapters,
    third_slots,
)
from optimizer.baselines.dlora import dlora_proactive
from optimizer.baselines.loraserve import loraserve
from optimizer.baselines.params import DEFAULTS, BaselineParams
from optimizer.baselines.rules import (
    bin_pack_capped,
    least_adapters,
    least_rate,
    max_backbone,
    random_placement,
)
from optimizer.baselines.saturation import Saturation
from optimizer.baselines.surrogate_oracle import Model, SurrogateOracle, learned_surrogate
from optimizer.packing.heuristics.greedy import GreedyInput, proposed
from scenarios import UNLIMITED, Deadline, Device, LorapackError, Placement, Scenario
from scenarios.stopping.progress import Progress, silent
from twin import EngineProfile

if TYPE_CHECKING:
    from learn import Surrogate


@dataclass(frozen=True)
class Site:
    """What a baseline may know: the adapters, and one kind of GPU.

    Parameters
    ----------
    scenario, device, profile
        The scenario, the kind of GPU, and its engine profile.
    workers, progress
        Processes for what the twin must be asked first, and where progress goes.
    deadline
        When to stop.
    params
        What the rules can be set to.
    surrogate
        The model of the GPU, for rules that ask one.
    """

    scenario: Scenario
    device: Device
    profile: EngineProfile
    workers: int = 1
    progress: Progress = silent
    deadline: Deadline = UNLIMITED
    params: BaselineParams = DEFAULTS
    surrogate: Surrogate | None = None

    @cached_property
    def adapters(self) -> SingleAdapters:
        """The adapters one by one."""
        return single_adapters(self.scenario, self.device.name)

    @cached_property
    def saturation(self) -> Saturation:
        """Largest throughputs of the GPU."""
        return Saturation(self.scenario, self.device, self.profile, self.deadline, self.params)

    @cached_property
    def peak_by_rank(self) -> dict[int, float]:
        """Largest throughput with one adapter, by its rank."""
        return self.saturation.by_rank(self.adapters)


class TooFewGPUsError(LorapackError):
    """A rule has no plan on the GPUs given.

    Parameters
    ----------
    needed
        GPUs that it needs at least.
    adapters
        Most adapters that it gives one.
    """

    def __init__(self, needed: int, adapters: int) -> None:
        super().__init__(f"a GPU has slots for {adapters:,} adapters of the largest rank")
        self.needed = needed


Rule = Callable[[Site, int], Placement | None]
"""Places a site's adapters on at most so many GPUs; None: it has no plan."""

Spread = Literal["opens", "given", "fewest"]
"""Whether a rule opens GPUs as it needs them, spreads over all that are given, or over the fewest healthy."""


@dataclass(frozen=True)
class Baseline:
    """A placement rule with its name.

    Parameters
    ----------
    name, summary
        For menus and messages.
    rule
        The placement.
    spread
        Over how many GPUs.
    model
        Kind of model of the GPU that the rule asks; None: it asks none.
    """

    name: str
    summary: str
    rule: Rule
    spread: Spread
    model: Model | None = None

    @property
    def spreads(self) -> bool:
        """Whether it can only spread adapters over GPUs that are given: none can do nothing else."""
        return False

    def prepared(self, site: Site) -> Site:
        """The site with the model that the rule asks, learned until the site's deadline."""
        if self.model is None:
            return site
        surrogate = learned_surrogate(
            site.scenario,
            site.device,
            site.profile,
            self.model,
            workers=site.workers,
            progress=site.progress,
            deadline=site.deadline,
        )
        return replace(site, surrogate=surrogate)


def _max_backbone(site: Site, _gpus: int, *, half: bool) -> Placement:
    peak = site.saturation.backbone_tok_per_s
    return max_backbone(site.adapters, peak, less_parallel=half)


def _bin_pack(site: Site, _gpus: int) -> Placement:
    return bin_pack_capped(site.adapters, site.params.adapters_per_gpu)


def _random(site: Site, gpus: int, *, every: bool) -> Placement:
    return random_placement(site.adapters, gpus, site.scenario.seed, slots=all_slots if every else None)


def _least_rate(site: Site, gpus: int, *, third: bool) -> Placement:
    return least_rate(site.adapters, gpus, slots=third_slots if third else all_slots)


def _least_adapters(site: Site, gpus: int) -> Placement:
    return least_adapters(site.adapters, gpus)


def _dlora(site: Site, gpus: int) -> Placement:
    most = site.saturation.most_adapters(int(site.adapters.ranks.max()))
    if gpus * most < len(site.adapters):
        raise TooFewGPUsError(-(-len(site.adapters) // most), most)
    peak = min(site.peak_by_rank.values())
    return dlora_proactive(site.adapters, gpus, peak, most_adapters=most, deadline=site.deadline)


def _loraserve(site: Site, gpus: int) -> Placement:
    return loraserve(site.adapters, gpus, site.peak_by_rank)


def _proposed(site: Site, gpus: int) -> Placement | None:
    """The paper's greedy with a model of the GPU learned from twin runs."""
    assert site.surrogate is not None  # `Baseline.prepared` has learned it
    oracle = SurrogateOracle(site.surrogate, site.scenario, site.device, site.profile, site.deadline)
    classes, adapters = site.scenario.classes, site.adapters
    points = site.params.greedy.test_points
    plan = proposed(GreedyInput.of(classes), oracle, fill_points=points, slot_points=points, most_gpus=gpus)
    if plan is None:
        return None
    index = {name: i for i, name in enumerate(adapters.names)}
    queues = [iter(c.names) for c in classes]
    groups = [
        [index[next(queues[c])] for c, n in enumerate(gpu.counts) for _ in range(int(n))] for gpu in plan
    ]
    slots = iter([gpu.option.max_loras for gpu in plan])
    return assigned(adapters, groups, lambda _adapters: next(slots))


_ASKS: tuple[tuple[str, str, Model], ...] = (
    ("proposed", "the paper's greedy with a forest of twin runs", "forest"),
    ("proposed-fast", "the same with a small tree", "tree"),
)

_OPENS: tuple[tuple[str, str, Rule], ...] = (
    ("maxbackbone", "next-fit up to the throughput without LoRA", partial(_max_backbone, half=False)),
    ("maxbackbone-less-parallel", "the same with half the slots", partial(_max_backbone, half=True)),
    ("aibrix-binpack", "AIBrix: ten adapters to a GPU", _bin_pack),
)

_SPREADS: tuple[tuple[str, str, Rule], ...] = (
    ("random", "random GPU, random slots, seeded", partial(_random, every=False)),
    ("random-all", "random GPU, a slot for every adapter", partial(_random, every=True)),
    ("least-rate", "GPU of least rate, a slot for every adapter", partial(_least_rate, third=False)),
    ("least-rate-third", "GPU of least rate, a slot for every third", partial(_least_rate, third=True)),
    ("dlora", "dLoRA's proactive replicas, uniform routing", _dlora),
    ("loraserve", "LoRAServe: GPUs by rank, adapters in fractions", _loraserve),
    ("aibrix-least-adapters", "AIBrix: GPU with the fewest adapters", _least_adapters),
)

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        *(Baseline(name, summary, _proposed, "opens", model) for name, summary, model in _ASKS),
        *(Baseline(name, summary, rule, "opens") for name, summary, rule in _OPENS),
        *(Baseline(name, summary, rule, "given") for name, summary, rule in _SPREADS),
        *(
            Baseline(f"{name}-min", f"{name} on the fewest healthy GPUs", rule, "fewest")
            for name, _, rule in _SPREADS
        ),
    )
}
"""The baselines by name; another one is one line above."""
