"""What a request log says of the traffic of each adapter, and of all."""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenarios.importers.facts import (
    AdapterFacts,
    ImportOptions,
    Said,
    SourceFacts,
    TotalTraffic,
)
from scenarios.importers.source import Source
from scenarios.importers.traffic.arrival_fits import LEAST_GAPS, ArrivalFit, fit_arrivals
from scenarios.importers.traffic.length_fits import described, fit_lengths
from scenarios.importers.traffic.request_log import RequestLog
from scenarios.importers.traffic.windows import (
    HOUR_S,
    Window,
    choose_window,
    dispersion_of,
    rate_interval,
    span,
)
from scenarios.output import write_whole
from scenarios.text.formatting import counted
from scenarios.traffic.arrivals import MAX_RATE, Arrivals, PoissonArrivals
from scenarios.traffic.lengths import Lengths
from scenarios.traffic.rates import UncertainRate
from scenarios.traffic.recordings import TraceArrivals, TraceColumns

SCALES_S = (1.0, 10.0, 60.0)
"""Seconds of the parts whose counts are compared for a user."""

TRACE_COLUMNS = ("time_s", "adapter", "prompt_tokens", "output_tokens")

LONGEST_NAME = 200
"""Most characters of a name by which a scenario can ask for what was recorded."""

_DAY_S = 86_400.0

_BLOCK = 1_000_000


class _Traffic(NamedTuple):
    """A log, the window that was taken of it, and which of its requests are whose."""

    source: Source
    log: RequestLog
    window: Window
    rows: list[NDArray[np.int32]]
    options: ImportOptions

    @property
    def file(self) -> str:
        return self.source.path.name

    def times(self, name: int) -> NDArray[np.float64]:
        """Instants of a name's requests from the window's beginning."""
        rows, window = self.rows[name], self.window
        inside = rows[np.searchsorted(rows, window.first) : np.searchsorted(rows, window.last)]
        return self.log.time_s[inside] - window.begin_s

    @property
    def when(self) -> str:
        return span(self.log.start_s, self.window.begin_s, self.window.length_s)


def facts_of(source: Source, log: RequestLog, options: ImportOptions) -> SourceFacts:
    """What a log says: rates, lengths and arrival processes by served name, and of all together.

    Parameters
    ----------
    source
        The file.
    log
        Its requests.
    options
        Window, form of the rates, and where a recording is written.

    Raises
    ------
    scenarios.output.OutputFileError
        If the recording cannot be written.
    """
    window = choose_window(log.time_s, options.window)
    order = np.argsort(log.name, kind="stable").astype(np.int32)  # rows are far fewer than 2^31
    ends = np.cumsum(np.bincount(log.name, minlength=len(log.names)))
    rows = np.split(order, ends[:-1])
    traffic = _Traffic(source, log, window, rows, options)
    fits = _fits(traffic)
    adapters = tuple(_adapter(traffic, k, fits[k]) for k in range(len(log.names)))
    lost = [k for k, fit in enumerate(fits) if fit.arrivals is None and fit.enough]
    notes = _recording_notes(traffic, lost)
    return SourceFacts(
        kind=log.source,
        adapters=adapters,
        total=_total(traffic, fits),
        notes=(*_log_notes(traffic), *notes),
    )


def _fits(traffic: _Traffic) -> list[ArrivalFit]:
    times = [traffic.times(k) for k in range(len(traffic.log.names))]
    tested = max(sum(len(one) > LEAST_GAPS for one in times), 1)
    return [fit_arrivals(one, traffic.window.length_s, tested) for one in times]


def _adapter(traffic: _Traffic, name: int, fit: ArrivalFit) -> AdapterFacts:
    log, rows = traffic.log, traffic.rows[name]
    served = log.names[name]
    prompt, output = (_lengths(traffic, values[rows]) for values in (log.prompt, log.output))
    arrivals: Said[Arrivals] | None = None
    notes: tuple[str, ...] = ()
    if fit.arrivals is not None and not isinstance(fit.arrivals, PoissonArrivals):
        arrivals = Said(fit.arrivals, f"{traffic.file}: {fit.told}, one rejects poisson")
    elif fit.arrivals is None and fit.enough:
        if traffic.options.trace_file is None:
            notes = ("its arrivals follow no simple process; name a file for a recording of them",)
        elif len(served) > LONGEST_NAME:
            notes = (
                f"its name is longer than {LONGEST_NAME} characters, so that no recording can be asked for",
            )
        else:
            arrivals = Said(
                TraceArrivals(
                    file=str(traffic.options.trace_file),
                    columns=TraceColumns(
                        time=TRACE_COLUMNS[0],
                        adapter=TRACE_COLUMNS[1],
                        prompt=TRACE_COLUMNS[2],
                        output=TRACE_COLUMNS[3],
                    ),
                    time_unit="s",
                    adapter_name=served,
                ),
                f"{traffic.file}: {fit.told}, so that they are played as recorded",
            )
    return AdapterFacts(
        served_name=served,
        origin=f"{traffic.file}: {len(rows):,} requests",
        rate=_rate(traffic, name),
        prompt=prompt,
        output=output,
        arrivals=arrivals,
        notes=notes,
    )


def _rate(traffic: _Traffic, name: int) -> Said[float | UncertainRate]:
    times, length_s = traffic.times(name), traffic.window.length_s
    count, told = len(times), f"{len(times):,} requests {traffic.when}"
    dispersion = dispersion_of(times, length_s)
    if not count:
        rows, whole = traffic.rows[name], choose_window(traffic.log.time_s, "mean")
        count, length_s = len(rows), whole.length_s
        told = f"none {traffic.when}; {count:,} requests in {whole.told}"
    low, high = rate_interval(count, length_s, dispersion)
    origin = f"{traffic.file}: {told}, 95 % {low:.3g} to {high:.3g}"
    if traffic.options.rates == "interval":
        return Said(UncertainRate(low=_rounded(low), high=min(_rounded(high), MAX_RATE)), origin)
    return Said(min(_rounded(count / length_s), MAX_RATE), origin)


def _lengths(traffic: _Traffic, seen: NDArray[np.int32]) -> Said[Lengths] | None:
    seen = seen[seen > 0]
    lengths = fit_lengths(seen)
    if lengths is None:
        return None
    return Said(lengths, f"{traffic.file}: {len(seen):,} requests, {described(lengths)}")


def _total(traffic: _Traffic, fits: list[ArrivalFit]) -> TotalTraffic:
    log, window = traffic.log, traffic.window
    time_s = log.time_s[window.first : window.last] - window.begin_s
    low, high = rate_interval(len(time_s), window.length_s, dispersion_of(time_s, window.length_s))
    origin = f"{traffic.file}: {len(time_s):,} requests {traffic.when}, 95 % {low:.3g} to {high:.3g}"
    poisson = sum(isinstance(fit.arrivals, PoissonArrivals) for fit in fits)
    few = sum(not fit.enough for fit in fits)
    arrivals: Said[Arrivals] | None = None
    if poisson or few == len(fits):
        told = f"a test does not reject poisson for {poisson:,} of {counted(len(fits), 'name')}"
        told += f", {few:,} have too few requests to tell" if few else ""
        arrivals = Said(PoissonArrivals(), f"{traffic.file}: {told}")
    return TotalTraffic(
        rate=Said(_rounded(len(time_s) / window.length_s), origin),
        prompt=_lengths(traffic, log.prompt),
        output=_lengths(traffic, log.output),
        arrivals=arrivals,
        notes=tuple(_burst_notes(traffic, time_s)),
    )


def _burst_notes(traffic: _Traffic, time_s: NDArray[np.float64]) -> list[str]:
    """How the requests of all come, in words."""
    log, window = traffic.log, traffic.window
    notes = [f"{traffic.file}: {window.told}, {traffic.when}"]
    gaps = np.diff(time_s)
    if len(gaps) >= LEAST_GAPS and gaps.mean() > 0:
        parts = [f"gaps of all requests vary by {gaps.std() / gaps.mean():.3g} times their mean"]
        for scale in SCALES_S:
            bins = int(window.length_s // scale)
            if bins >= 10:
                counts = np.histogram(time_s, bins, (0.0, bins * scale))[0]
                parts.append(f"{counts.var() / counts.mean():.3g} in {scale:g} s")
        notes.append(f"{parts[0]}; variance of counts over their mean: {', '.join(parts[1:])} (1: Poisson)")
    if log.start_s is not None and log.time_s[-1] >= _DAY_S:
        counts = _by_hour(log.start_s, log.time_s)
        peak = int(counts.argmax())
        notes.append(
            f"of a day the hour from {peak:02d}:00 UTC has most requests, {counts[peak] / counts.mean():.3g} "
            f"times the mean; by hour from 00:00: {' '.join(str(int(one)) for one in counts)}"
        )
    return [*notes, *_duration_notes(traffic)]


def _duration_notes(traffic: _Traffic) -> list[str]:
    """How long requests of the window took: no value of a scenario, but what the twin should foretell."""
    log, window = traffic.log, traffic.window
    if log.took_s is None:
        return []
    took = log.took_s[window.first : window.last]
    told = took[~np.isnan(took)].astype(np.float64)
    if not len(told):
        return []
    mean, at_once = told.mean(), told.mean() * len(took) / window.length_s
    half, most = np.quantile(told, (0.5, 0.95))
    return [
        f"{traffic.file}: requests took {mean:.3g} s in the mean, half of them at most {half:.3g}, 95 % at "
        f"most {most:.3g}; {at_once:.3g} were running at once in the mean (what the twin should foretell; no "
        "value of the scenario)"
    ]


def _by_hour(start_s: float, time_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Requests by hour of the day, in parts that take little memory."""
    counts = np.zeros(24, dtype=np.int64)
    for first in range(0, len(time_s), _BLOCK):
        hour = (start_s % _DAY_S + time_s[first : first + _BLOCK]) % _DAY_S // HOUR_S
        counts += np.bincount(hour.astype(np.int8), minlength=24)
    return counts


def _log_notes(traffic: _Traffic) -> tuple[str, ...]:
    return tuple(f"{traffic.file}: {remark}" for remark in traffic.log.remarks)


def _recording_notes(traffic: _Traffic, lost: list[int]) -> tuple[str, ...]:
    """Write the window as a trace if names need it, and say so."""
    if not lost:
        return ()
    names = counted(len(lost), "name")
    if traffic.options.trace_file is None:
        return (f"{traffic.file}: arrivals of {names} follow no simple process, and are left out",)
    path = write_whole(traffic.options.trace_file, _trace(traffic))
    return (f"{path}: requests {traffic.when}, for {names} whose arrivals follow no simple process",)


def _trace(traffic: _Traffic) -> str:
    """Requests of the window that tell both lengths, as a trace: a trace has no others."""
    log, window = traffic.log, traffic.window
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRACE_COLUMNS)
    rows = np.arange(window.first, window.last)
    rows = rows[(log.prompt[rows] > 0) & (log.output[rows] > 0)]
    for row in rows:
        time_s = f"{log.time_s[row] - window.begin_s:.6f}"
        writer.writerow((time_s, log.names[log.name[row]], log.prompt[row], log.output[row]))
    return text.getvalue()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
