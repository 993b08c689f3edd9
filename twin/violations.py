"""What a GPU is held to, and the sentences on what it misses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, computed_field

from scenarios import AdapterSLO, ServiceLevelObjectives
from scenarios.base import PlainDir
from twin.memory.plan import FAILURES

NAMED = 3
"""Adapters that a sentence names."""


class Criterion(StrEnum):
    """What a GPU is held to: its service levels, the rank of its slots, and that its engine starts.

    Parameters
    ----------
    metric
        What is measured: a service level without its unit, an argument of the engine, or a start-up failure.
    statistic
        Which figure of a latency; None where the metric is no latency.
    """

    metric: str
    statistic: str | None

    LATE_SHARE = "late_share"
    CLASS_LATE_SHARE = "class_late_share"
    ADAPTER_LATE_SHARE = "adapter_late_share"
    HOUR_LATE_SHARE = "hour_late_share"
    GROWTH = "growth"
    SERVED_SHARE = "served_share"
    ADAPTER_SERVED_SHARE = "adapter_served_share"
    ITL_MEAN = "itl", "mean"
    ITL_P50 = "itl", "p50"
    ITL_P90 = "itl", "p90"
    ITL_P95 = "itl", "p95"
    ITL_P99 = "itl", "p99"
    TTFT_MEAN = "ttft", "mean"
    TTFT_P50 = "ttft", "p50"
    TTFT_P90 = "ttft", "p90"
    TTFT_P95 = "ttft", "p95"
    TTFT_P99 = "ttft", "p99"
    TPOT_MEAN = "tpot", "mean"
    TPOT_P50 = "tpot", "p50"
    TPOT_P90 = "tpot", "p90"
    TPOT_P95 = "tpot", "p95"
    TPOT_P99 = "tpot", "p99"
    E2E_MEAN = "e2e", "mean"
    E2E_P50 = "e2e", "p50"
    E2E_P90 = "e2e", "p90"
    E2E_P95 = "e2e", "p95"
    E2E_P99 = "e2e", "p99"
    MAX_LORA_RANK = "max_lora_rank"
    OOM_CUDA = "oom_cuda"
    NO_KV_MEMORY = "no_kv_memory"
    KV_BELOW_MAX_MODEL_LEN = "kv_below_max_model_len"

    def __new__(cls, metric: str, statistic: str | None = None) -> Self:
        """A member whose value is the metric and, of a latency, the statistic."""
        value = metric if statistic is None else f"{metric}_{statistic}"
        member = str.__new__(cls, value)
        member._value_, member.metric, member.statistic = value, metric, statistic
        return member

    @property
    def path(self) -> str:
        """Where a scenario file sets how much is asked for."""
        if self is Criterion.GROWTH:
            return "headroom"
        if self.value.endswith("late_share"):
            return "service_levels.late_share"
        level = self.metric if self.statistic is None else f"{self.metric}_ms.{self.statistic}"
        return f"service_levels.{level}"

    @property
    def stops_the_engine(self) -> bool:
        """Whether it is a start-up failure of vLLM's."""
        return self.value in FAILURES

    def limit_ms(self, levels: ServiceLevelObjectives | AdapterSLO) -> float | None:
        """The limit that service levels set on a latency; None where they set none."""
        limit: float | None = getattr(getattr(levels, f"{self.metric}_ms"), self.statistic or "")
        return limit


LATENCIES = tuple(criterion for criterion in Criterion if criterion.statistic is not None)
"""The criteria that are latencies."""


def limits_latencies(levels: ServiceLevelObjectives | AdapterSLO) -> bool:
    """Whether service levels limit a latency."""
    return any(code.limit_ms(levels) is not None for code in LATENCIES)


STARVED = (Criterion.ADAPTER_SERVED_SHARE, Criterion.CLASS_LATE_SHARE, Criterion.ADAPTER_LATE_SHARE)
"""The criteria by which single adapters are served too little or too late."""


class AdapterFigure(BaseModel):
    """One adapter's part in a violation."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the adapter."""
    value: float | None
    """What was measured: a share, a rank, or milliseconds."""
    limit: float
    """What was asked for, in the same unit."""


class AdapterLatency(PlainDir, BaseModel):
    """A latency that service levels of single adapters limit, of alike ones on a GPU."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    code: Criterion
    """Which latency is limited."""
    value: float | None
    """What was measured over their requests in ms, of the worst run under *paper*; null: none completed."""
    limit: float
    """What was asked for, in ms."""
    adapter: str
    """One of them."""
    size: int
    """How many they are."""

    @property
    def margin(self) -> float | None:
        """How far it is from its limit, as a share of that; negative where it is missed."""
        return None if self.value is None else 1.0 - self.value / self.limit

    def renamed(self, names: Mapping[str, str]) -> AdapterLatency:
        """The same of adapters of other names."""
        return self.model_copy(update={"adapter": names[self.adapter]})


class Violation(BaseModel):
    """A criterion that a GPU misses, by how much, and by which adapters."""

    # What is computed from the fields is written into JSON and ignored when that is read again.
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    code: Criterion
    """What is missed."""
    value: float | None = None
    """The worst that was measured: a share, a rank, requests/h, or ms; null where there was nothing."""
    limit: float | None = None
    """What was asked for, in the same unit; null for an engine that does not start."""
    adapters: tuple[AdapterFigure, ...] = ()
    """The adapters that it is about, the worst first; empty: all of the GPU."""
    patience_s: float | None = None
    """Seconds that a request may wait, where the share of those that wait longer is too large."""
    hour: int | None = None
    """Hour of the arrivals' period, from 0, where it is about one."""
    in_flight_share: float | None = None
    """Share of the tokens in flight at the end, where they alone make a served share too small."""
    remedy: str = ""
    """What would let the engine start."""

    @computed_field(description="What is measured.")  # type: ignore[prop-decorator]  # mypy/issues/14461
    @property
    def metric(self) -> str:
        """What is measured."""
        return self.code.metric

    @computed_field(description="Which figure of a latency: mean, p50, p90, p95 or p99.")  # type: ignore[prop-decorator]
    @property
    def statistic(self) -> str | None:
        """Which figure of a latency."""
        return self.code.statistic

    @property
    def sentence(self) -> str:
        """The violation in words."""
        match self.code:
            case Criterion.SERVED_SHARE:
                return self._served()
            case Criterion.GROWTH:
                return (
                    f"unfinished requests become {_number(self.value)} more every hour, above the "
                    f"{_number(self.limit)} that chance explains: the load is more than the GPU can do"
                )
            case Criterion.LATE_SHARE | Criterion.HOUR_LATE_SHARE:
                hour = "" if self.hour is None else f"in hour {self.hour + 1} of the arrivals' period, "
                return f"{hour}{_percent_up(self.value)} of the requests {self._waiting()}"
            case Criterion.CLASS_LATE_SHARE | Criterion.ADAPTER_LATE_SHARE:
                names = _listed([f'"{a.name}" ({_percent_up(a.value)})' for a in self.adapters])
                return f"requests of {names} {self._waiting()}"
            case Criterion.ADAPTER_SERVED_SHARE:
                return self._starved()
            case Criterion.MAX_LORA_RANK:
                ranks = [f'"{adapter.name}" (rank {adapter.value:g})' for adapter in self.adapters]
                return f"max_lora_rank {self.limit:g} is too small for {_listed(ranks)}"
            case code if code.stops_the_engine:
                return f"the engine does not start: {FAILURES[code.value]}; {self.remedy}"
            case _:
                return self._late()

    def _waiting(self) -> str:
        waited = f"wait longer than {self.patience_s:g} s for the first token"
        return f"{waited}, where {_percent(self.limit)} may"

    def _served(self) -> str:
        said = f"serves {_percent(self.value)} of the offered tokens, below {_percent(self.limit)}"
        if self.in_flight_share is None:
            return said
        return (
            f"{said}, as {_percent(self.in_flight_share)} are in flight at the end, which count as unserved "
            "(a longer workload.duration_s has fewer, in share)"
        )

    def _starved(self) -> str:
        names = [f'"{adapter.name}" ({_percent(adapter.value)})' for adapter in self.adapters]
        limits = " or ".join(
            _percent(limit) for limit in sorted({adapter.limit for adapter in self.adapters})
        )
        verb = "get" if len(names) > 1 else "gets"
        return f"{_listed(names)} {verb} less than {limits} of the tokens asked for"

    def _late(self) -> str:
        names = _listed([f'"{adapter.name}"' for adapter in self.adapters])
        latency = f"{self.statistic} {self.metric.upper()}" + (f" of {names}" if names else "")
        if self.value is None:
            return f"no request completed, so {latency} cannot meet {self.limit:,.10g} ms"
        # Rounded up, so that what is above a limit never looks like it.
        value = math.ceil(self.value * 10 - 1e-9) / 10
        return f"{latency} is {value:,.10g} ms, above {self.limit:,.10g} ms"

    def renamed(self, names: Mapping[str, str]) -> Violation:
        """The same of adapters of other names."""
        adapters = tuple(a.model_copy(update={"name": names[a.name]}) for a in self.adapters)
        return self.model_copy(update={"adapters": adapters})


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent_up(share: float | None) -> str:
    """A share in percent, rounded up, so that what is above a limit never looks like it."""
    return "" if share is None else f"{math.ceil(share * 1000 - 1e-9) / 10:g} %"


def _percent(share: float | None) -> str:
    """A share in percent, rounded down, so that what is below a limit never looks like it."""
    return "" if share is None else f"{math.floor(share * 1000 + 1e-9) / 10:g} %"
