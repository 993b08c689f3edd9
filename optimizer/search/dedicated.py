"""What the twin says of an adapter, or of a part of it, alone on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import twin
from optimizer.search.judging import named
from optimizer.search.params import DEFAULTS, SplittingParams
from scenarios import UNLIMITED, AdapterClass, Deadline, Device, EngineOption, Scenario, padded_rank
from twin import GPUContent, GPUVerdict, TwinJudge


@dataclass(frozen=True)
class DedicatedGPUCheck:
    """Asks the twin about single adapters.

    Parameters
    ----------
    judge
        The twin, which remembers what it was asked.
    deadline
        When to stop asking.
    params
        From how many requests on a verdict is no chance.
    """

    judge: TwinJudge
    deadline: Deadline = UNLIMITED
    params: SplittingParams = DEFAULTS.splitting

    @property
    def scenario(self) -> Scenario:
        """Workload, engine, service levels, seed and replications."""
        return self.judge.scenario

    def verdict(self, members: AdapterClass, share: float = 1.0) -> tuple[str, GPUVerdict]:
        """Device and verdict of a share of one adapter alone; of few requests, of several such adapters.

        The cheapest device that accepts it, or else the cheapest.
        """
        part = replace(members, rate=members.rate * share)
        requests = judged_requests(self.scenario, part.rate)
        return self._first_accepted(
            (replace(part, names=part.names[:number]),) for number in self._doubling(part.count, requests)
        )

    def lightest(self) -> tuple[str, GPUVerdict]:
        """Device and verdict of the lightest adapter alone; of few requests, of several light adapters.

        Without the service levels of single adapters.
        """
        scenario = self.scenario
        lightest = [
            replace(members, levels=None)
            for members in sorted(scenario.classes, key=lambda one: one.tokens_per_s)
        ]
        # More of a hot adapter would not be light.
        most = self.params.min_requests / judged_requests(scenario, 1.0)
        lightest[0] = replace(lightest[0], rate=min(lightest[0].rate, most))
        sizes = self._doubling(scenario.n_adapters, judged_requests(scenario, lightest[0].rate))
        return self._first_accepted(tuple(_first(lightest, number)) for number in sizes)

    def _doubling(self, most: int, requests: float) -> Iterator[int]:
        """1, 2, 4, ... until so many adapters, each of so many requests, have enough of them."""
        number = 1
        while number < most and number * requests < self.params.min_requests:
            yield number
            number *= 2
        yield min(number, most)

    def _first_accepted(self, loads: Iterator[tuple[AdapterClass, ...]]) -> tuple[str, GPUVerdict]:
        said: tuple[str, GPUVerdict] | None = None
        for classes in loads:
            for device in sorted(self.scenario.devices, key=_price):
                verdict = self._ask(device.name, classes)
                said = said or (device.name, verdict)
                if verdict.accepted:
                    return device.name, verdict
        assert said is not None
        return said

    def _ask(self, device: str, classes: tuple[AdapterClass, ...]) -> GPUVerdict:
        slots = min(sum(c.count for c in classes), max(self.scenario.engine.slot_choices))
        rank = slot_rank(self.scenario, max(c.rank for c in classes))
        # At high rates, where these are uncertain: alone on a GPU less is never worse, but for chance.
        held = tuple((c.kind.at(high=True), c.count) for c in classes)
        content = GPUContent(EngineOption(device, slots, rank), held)
        (verdict,) = self.judge([content], self.deadline)
        return named(verdict, verdict.gpu, (name for c in classes for name in c.names))


def judged_requests(scenario: Scenario, rate: float) -> float:
    """Requests of a rate that a run of a verdict has on average."""
    if scenario.acceptance == "paper":
        return rate * scenario.workload.duration_s
    patience_s = scenario.service_levels.patience_s
    return rate * twin.observation_of([scenario.workload.arrivals], rate, patience_s).measure_s


def slot_rank(scenario: Scenario, rank: int) -> int:
    """Least rank of the slots of an engine that holds an adapter of this rank."""
    return scenario.engine.max_lora_rank or padded_rank(rank)


def smallest_accepted(first: int, guess: int, most: int, accepts: Callable[[int], bool]) -> int | None:
    """Smallest number that is accepted, from ``first`` on, if more is never worse; None: not even ``most``.

    ``guess`` is a number that is probably accepted.
    """
    low, high = first - 1, first
    while not accepts(high):
        if high >= most:
            return None
        low, high = high, min(most, guess if high < guess else 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accepts(middle) else (middle, high)
    return high


def loosened(verdict: GPUVerdict) -> str:
    """The service levels that a verdict says are not met, as the scenario file names them."""
    missed = [level for level, margin in verdict.margins.items() if margin is None or margin < 0]
    paths = [level.path for level in (*missed, *(violation.code for violation in verdict.violations))]
    return " and ".join(dict.fromkeys(paths))


def _price(device: Device) -> float:
    """Price of a device, for an order; those without one come last."""
    return math.inf if device.price_per_hour is None else device.price_per_hour


def _first(classes: Sequence[AdapterClass], number: int) -> Iterator[AdapterClass]:
    """The first so many adapters, class by class."""
    before = [0, *accumulate(c.count for c in classes)]
    for members, start in zip(classes, before, strict=False):
        if start < number:
            yield replace(members, names=members.names[: number - start])
