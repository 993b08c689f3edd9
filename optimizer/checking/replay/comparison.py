"""Foretold beside measured: which figures differ by more than they should.

Both runs are of the very same requests, so what differs is the machine. The twin plays them at what is
expected of the step times and at both ends of it; a figure is as foretold between those ends, and a tolerance
beyond (`CheckParams`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.stats import binom

from optimizer.checking.replay.check_params import CheckParams
from optimizer.checking.replay.check_report import CheckedAdapter, CheckedFigure, Difference
from optimizer.checking.replay.run_figures import RunFigures
from twin import Criterion, Violation

ENOUGH = 300
"""Answers from which on a 99th percentile is judged: three are beyond it."""

MORE_IS_BETTER = frozenset({"throughput_tok_per_s", "served_share"})


@dataclass(frozen=True)
class Comparison:
    """One GPU's run, as the twin foretold it and as it was measured.

    Parameters
    ----------
    foretold
        At what is expected of the step times, and at their quick and their slow end.
    measured
        As the client saw it.
    params
        Tolerances.
    late_limit
        Share of the requests that may be late; None: the criterion knows no patience.
    """

    foretold: tuple[RunFigures, RunFigures, RunFigures]
    measured: RunFigures
    params: CheckParams
    late_limit: float | None

    def figures(self, failed: int) -> Iterator[CheckedFigure]:
        """Every figure of the GPU, of whose requests some failed."""
        for name, value in self.measured.values.items():
            told = [one.values[name] for one in self.foretold]
            if name == "late_share":
                yield self._late(told, self.measured.late, self.measured.due, self.params.chance)
            else:
                yield _compared(name, told, value, *self._tolerance(name))
        share = failed / self.measured.requests if self.measured.requests else None
        yield _judged("failed_share", 0.0, (0.0, self.params.failed_share), share)

    def _tolerance(self, name: str) -> tuple[float | None, float]:
        """Share by which a figure may differ, None: it is not judged, and by how much beside."""
        params, metric = self.params, name.partition("_")[0]
        if name in MORE_IS_BETTER:
            return params.throughput, 0.0
        if "_p99_" in name:
            return (params.p99 if self.measured.completed >= ENOUGH else None), params.slack_ms
        return (params.ttft if metric == "ttft" else params.itl), params.slack_ms

    def _late(self, told: Sequence[float | None], late: int, due: int, chance: float) -> CheckedFigure:
        """A share of late requests: up to the limit, or to what was foretold beyond it, and to chance."""
        measured, known = late / due if due else None, [one for one in told if one is not None]
        if self.late_limit is None or not known:
            return CheckedFigure(name="late_share", foretold=told[0], measured=measured)
        bounds = _by_chance(min(known), max(*known, self.late_limit), due, chance)
        return _judged("late_share", told[0], bounds, measured)

    def missed(self) -> tuple[Violation, ...]:
        """What the measured run misses, beyond chance, and the twin's does not, at no end of it."""
        known = {one.code for run in self.foretold for one in run.violations}
        late, due, limit = self.measured.late, self.measured.due, self.late_limit
        sure = limit is not None and bool(binom.sf(late - 1, due, limit) < self.params.chance)
        return tuple(
            one
            for one in self.measured.violations
            if one.code not in known and (sure or one.code is not Criterion.LATE_SHARE)
        )

    def adapters(
        self, names: Sequence[str], served_names: Sequence[str], failed: Sequence[int]
    ) -> list[CheckedAdapter]:
        """Every adapter that requests came for, those that differ the most first."""
        found = [
            CheckedAdapter(
                adapter=names[k],
                served_name=served_names[k],
                requests=int(self.measured.of_adapters["requests"][k]),
                completed=int(self.measured.of_adapters["completed"][k]),
                failed=failed[k],
                figures=tuple(self._adapter_figures(k)),
            )
            for k in range(len(names))
            if self.measured.of_adapters["requests"][k]
        ]
        return sorted(found, key=_difference, reverse=True)

    def _adapter_figures(self, k: int) -> Iterator[CheckedFigure]:
        def at(run: RunFigures, name: str) -> float | None:
            value = float(run.of_adapters[name][k])
            return None if math.isnan(value) else value

        params, of = self.params, self.measured.of_adapters
        due, measured = int(of["due"][k]), float(of["late_share"][k])
        late = round(measured * due) if due else 0
        # With many adapters one of them is always out of the ordinary.
        chance = params.chance / max(len(of["due"]), 1)
        yield self._late([at(one, "late_share") for one in self.foretold], late, due, chance)
        enough = of["completed"][k] >= params.adapter_requests
        for name, tolerance in (("ttft_mean_ms", params.ttft), ("itl_mean_ms", params.itl)):
            told = [at(one, name) for one in self.foretold]
            share = tolerance if enough else None
            yield _compared(name, told, at(self.measured, name), share, params.slack_ms)


def _compared(
    name: str,
    foretold: Sequence[float | None],
    measured: float | None,
    tolerance: float | None,
    slack: float,
) -> CheckedFigure:
    """A figure that may differ by a share of what was foretold, and by so much beside."""
    known = [one for one in foretold if one is not None]
    if tolerance is None or len(known) < len(foretold):
        return CheckedFigure(name=name, foretold=foretold[0], measured=measured)
    low = max(min(known) / (1 + tolerance) - slack, 0.0)
    high = max(known) * (1 + tolerance) + slack
    return _judged(name, foretold[0], (low, min(high, 1.0) if name.endswith("_share") else high), measured)


def _judged(
    name: str, foretold: float | None, bounds: tuple[float, float], measured: float | None
) -> CheckedFigure:
    low, high = bounds
    return CheckedFigure(
        name=name,
        foretold=foretold,
        low=low,
        high=high,
        measured=measured,
        differs=_side(name, foretold, bounds, measured),
    )


def _side(
    name: str, foretold: float | None, bounds: tuple[float, float], measured: float | None
) -> Difference:
    if measured is None:
        return "" if foretold is None or name == "failed_share" else "worse"
    sides: tuple[Difference, Difference] = ("worse", "better")
    below, above = sides if name in MORE_IS_BETTER else sides[::-1]
    return below if measured < bounds[0] else above if measured > bounds[1] else ""


def _by_chance(low: float, high: float, n: int, chance: float) -> tuple[float, float]:
    """Shares of n requests between which it is chance, where ``low`` to ``high`` of them are expected."""
    if not n:
        return 0.0, 1.0
    least = float(binom.ppf(chance, n, low)) if low > 0 else 0.0
    most = float(binom.isf(chance, n, high)) if high < 1 else float(n)
    return least / n, most / n


def _difference(adapter: CheckedAdapter) -> float:
    """How much an adapter differs: worse figures first, then by ratio and number of requests."""
    size = math.sqrt(adapter.requests)
    logs = [abs(math.log(f.ratio)) for f in adapter.figures if f.ratio is not None and f.ratio > 0]
    worse = sum(figure.differs == "worse" for figure in adapter.figures)
    return worse * 1e6 + size * max(logs, default=0.0) + adapter.failed
