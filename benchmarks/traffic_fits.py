"""How often traffic read from logs is that of which the logs were drawn, and what reading them takes.

    python -m benchmarks.traffic_fits [processes] [intervals] [memory] [--logs N] [--log-bytes N]

All logs are simulated, with fixed seeds.

- *processes*: what the fit of `lorapack import` calls the arrivals of an hour, of ``--logs`` logs of each
  process and number of requests.
- *intervals*: how often the nominal 95 % intervals of rates hold the true rate, of ten times as many logs.
- *memory*: seconds and peak memory of reading a log of 200 adapters with ``--log-bytes`` bytes as CSV and as
  JSON lines, each in a process of its own.

Takes about a minute on one core; with --log-bytes 1e9 two minutes more, and 1 GB of the folder of
temporary files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import import_fleet
from scenarios.importers.traffic.arrival_fits import fit_arrivals
from scenarios.importers.traffic.windows import dispersion_of, rate_interval

HOUR_S = 3600.0
SIZES = (300, 1_000, 3_000, 10_000)
"""Mean number of requests of a log."""

CALLED = ("poisson", "gamma", "weibull", "hyperexponential", "on_off", "none")

ADAPTERS = 200
BLOCK = 100_000
"""Rows that are written at once."""

SECONDS_BETWEEN = 0.05
"""Mean gap of the log that is read: 1 GB of CSV are ten days of it."""

FloatArray = NDArray[np.float64]
Draw = Callable[[np.random.Generator, float], FloatArray]


class Process(NamedTuple):
    """A process of arrivals.

    Parameters
    ----------
    name
        In words.
    right
        What the fit calls it.
    draw
        Instants of an hour at a mean rate in 1/s.
    """

    name: str
    right: str
    draw: Draw


def poisson(rng: np.random.Generator, rate: float) -> FloatArray:
    """Instants of a Poisson process."""
    return np.sort(rng.random(rng.poisson(rate * HOUR_S)) * HOUR_S)


def renewal(gaps: Callable[[np.random.Generator, int], FloatArray]) -> Draw:
    """Instants whose gaps are drawn with mean 1, watched from some time on."""

    def draw(rng: np.random.Generator, rate: float) -> FloatArray:
        times = np.cumsum(gaps(rng, int(3 * rate * HOUR_S) + 2_000)) / rate
        begin = 200 / rate
        assert times[-1] > begin + HOUR_S
        return np.asarray(times[(times >= begin) & (times < begin + HOUR_S)] - begin)

    return draw


def gamma(cv: float) -> Draw:
    """Gamma gaps of a coefficient of variation."""
    return renewal(lambda rng, n: rng.gamma(cv**-2, cv**2, n))


def weibull(rng: np.random.Generator, n: int) -> FloatArray:
    """Weibull gaps of shape 0.6, which is a coefficient of variation of 1.76."""
    gaps = rng.weibull(0.6, n)
    return np.asarray(gaps / 1.5045755)  # the gamma function at 1 + 1/0.6


def on_off(on_s: float, off_s: float) -> Draw:
    """Poisson requests that are switched on and off for exponential times."""

    def draw(rng: np.random.Generator, rate: float) -> FloatArray:
        peak = rate * (on_s + off_s) / on_s
        times, now, on = [np.zeros(0)], 0.0, rng.random() < on_s / (on_s + off_s)
        while now < HOUR_S:
            stay = rng.exponential(on_s if on else off_s)
            if on:
                times.append(now + np.sort(rng.random(rng.poisson(peak * stay)) * stay))
            now, on = now + stay, not on
        joined = np.concatenate(times)
        return np.asarray(joined[joined < HOUR_S])

    return draw


PROCESSES = (
    Process("poisson", "poisson", poisson),
    Process("gamma, cv 0.5", "gamma", gamma(0.5)),
    Process("gamma, cv 2", "gamma", gamma(2.0)),
    Process("weibull, cv 1.76", "weibull", renewal(weibull)),
    Process("on 5 s, off 20 s", "on_off", on_off(5, 20)),
    Process("on 200 s, off 400 s", "on_off", on_off(200, 400)),
)


def seeded(process: int, size: int, use: int) -> np.random.Generator:
    """A generator of its own for each row of a table."""
    return np.random.default_rng([process, size, use])


def processes(given: argparse.Namespace) -> str:
    """A table of what logs of each process are called."""
    lines = []
    for k, process in enumerate(PROCESSES):
        for size in SIZES:
            rng, called = seeded(k, size, 0), Counter[str]()
            for _ in range(given.logs):
                fit = fit_arrivals(process.draw(rng, size / HOUR_S), HOUR_S, 1)
                called["few" if not fit.enough else fit.arrivals.process if fit.arrivals else "none"] += 1
            line = {"logs of": process.name, "requests": size, "right": called[process.right]}
            lines.append(line | {name: called[name] for name in CALLED})
    return pd.DataFrame(lines).to_string(index=False)


def intervals(given: argparse.Namespace) -> str:
    """A table of how often intervals hold the rate."""
    lines = []
    for k, process in enumerate(PROCESSES):
        line: dict[str, object] = {"logs of": process.name}
        for size in (30, *SIZES):
            rng, held = seeded(k, size, 1), 0
            for _ in range(10 * given.logs):
                times = process.draw(rng, size / HOUR_S)
                low, high = rate_interval(len(times), HOUR_S, dispersion_of(times, HOUR_S))
                held += low <= size / HOUR_S <= high
            line[f"{size:,} requests"] = held / (10 * given.logs) * 100
        lines.append(line)
    return "% that hold the rate\n" + pd.DataFrame(lines).to_string(index=False, float_format="%.1f")


def memory(given: argparse.Namespace) -> str:
    """A table of seconds and peak memory of reading a log."""
    lines = []
    for form in ("csv", "jsonl"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"requests.{form}")
            rows = write_log(file, int(given.log_bytes))
            command = [sys.executable, "-m", "benchmarks.traffic_fits", "--read", str(file)]
            root = Path(__file__).parents[1]
            told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
            lines.append(
                {"form": form, "MB": file.stat().st_size / 1e6, "requests": rows, **json.loads(told)}
            )
    return pd.DataFrame(lines).to_string(index=False, float_format="%.1f")


def write_log(file: Path, size: int) -> int:
    """Write a log of about so many bytes, and return the number of its requests."""
    rng, rows, now = np.random.default_rng(0), 0, 1_700_000_000.0
    weights = 1 / np.arange(1, ADAPTERS + 1)
    with file.open("w", encoding="ascii") as out:
        if file.suffix == ".csv":
            out.write("time_s,adapter,prompt_tokens,output_tokens,status\n")
        while out.tell() < size:
            time_s = now + np.cumsum(rng.exponential(SECONDS_BETWEEN, BLOCK))
            now = float(time_s[-1])
            adapter = rng.choice(ADAPTERS, BLOCK, p=weights / weights.sum())
            prompt, output = (rng.lognormal(mean, 0.8, BLOCK).astype(int) + 1 for mean in (5.5, 5.0))
            columns = zip(*(one.tolist() for one in (time_s, adapter, prompt, output)), strict=True)
            out.writelines(lines_of(columns, file.suffix == ".csv"))
            rows += BLOCK
    return rows


def lines_of(rows: Iterator[tuple[float, int, int, int]], as_csv: bool) -> Iterator[str]:
    """Lines of a log."""
    for at, adapter, prompt, output in rows:
        if as_csv:
            yield f"{at:.6f},adapter-{adapter},{prompt},{output},200\n"
        else:
            yield (
                f'{{"time_s": {at:.6f}, "adapter": "adapter-{adapter}", "prompt_tokens": {prompt}, '
                f'"output_tokens": {output}, "status": 200}}\n'
            )


def read(file: str) -> None:
    """Read a log, and print seconds and peak memory as JSON."""
    start = time.monotonic()
    import_fleet(file)
    seconds = time.monotonic() - start
    # Not getrusage: after a fork it tells the peak of whoever started this process.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak MiB": peak_kib / 1024}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"processes": processes, "intervals": intervals, "memory": memory}
    parser.add_argument("part", nargs="*", help=f"{', '.join(parts)} (default: all of them)")
    parser.add_argument("--logs", type=int, default=100, help="logs of each kind (default: %(default)s)")
    parser.add_argument(
        "--log-bytes", type=float, default=1e8, help="bytes of the log that is read (default: %(default).0g)"
    )
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read(given.read)
        return
    if unknown := set(given.part) - parts.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    for name in given.part or parts:
        print(f"== {name}\n{parts[name](given)}", flush=True)


if __name__ == "__main__":
    main()
