"""How fast the twin is: the three workloads of the published twin, and how the cost grows.

    python benchmarks/twin_speed.py

One core. Every figure is the best of several runs of the same work in one process, by
`time.process_time`; compiling is measured apart, in a process with an empty cache. "simulate" is the
compiled loop with everything around it that a run needs (arrays in, records out); drawing the requests has
a column of its own. The published twin's seconds are its authors' code on the same three workloads on
the same kind of machine; they are constants here.

Takes a quarter of a minute of processor time, and on a busy machine a minute or two.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import twin
from scenarios import Adapter, AdapterClass, EngineConfig, FixedLengths, Sessions, Workload
from scenarios.adapter_classes import group
from twin import EngineSetup, Requests
from twin.engine.run import simulate_requests

PROMPT, OUTPUT = FixedLengths(tokens=222), FixedLengths(tokens=195)
HOUR_S = 3600.0
KV_TOKENS = 320_000
RUNS = 5

WORKLOADS = {
    "a": ((0.05, 0.0125, 0.003125), 160, 128, 1.9),
    "b": ((0.4, 0.05, 0.0125), 160, 128, 5.0),
    "c": ((0.1, 0.05, 0.025), 384, 16, 18.8),
}
"""Rates dealt round-robin, adapters, slots, and the published twin's seconds."""

COMPILE = """
import time
from benchmarks.twin_speed import tiny
start = time.process_time()
tiny()
print(time.process_time() - start)
"""


def load_of(rates: tuple[float, ...], adapters: int) -> twin.GPULoad:
    """Adapters of rank 8 whose rates are dealt round-robin."""
    dealt = [rates[k % len(rates)] for k in range(adapters)]
    names = [f"adapter-{k}" for k in range(adapters)]
    classes = [
        AdapterClass(8, rate, PROMPT, OUTPUT, (name,)) for rate, name in zip(dealt, names, strict=True)
    ]
    return twin.GPULoad.from_classes(classes)


def uniform(load: twin.GPULoad, seed: int, duration_s: float) -> Requests:
    """Arrivals uniform over the duration, as many as a Poisson process has."""
    rng = np.random.default_rng(seed)
    adapter = np.repeat(np.arange(len(load.names), dtype=np.int32), rng.poisson(load.rate * duration_s))
    arrival = rng.uniform(0.0, duration_s, len(adapter))
    order = np.argsort(arrival)
    n = len(adapter)
    prompt, output = np.full(n, PROMPT.tokens, np.int32), np.full(n, OUTPUT.tokens, np.int32)
    return Requests(arrival[order], prompt, output, adapter[order], len(load.names))


def setup_of(load: twin.GPULoad, slots: int) -> EngineSetup:
    """The engine of the shipped Llama profile, with loads and LoRA costs on."""
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    return twin.build_setup(
        profile, EngineConfig(), load, max_loras=slots, max_lora_rank=8, kv_cache_tokens=KV_TOKENS
    )


def tiny() -> None:
    """The smallest run; the first of a process loads or compiles the loop."""
    load = load_of((1.0,), 1)
    simulate_requests(uniform(load, 0, 10.0), setup_of(load, 1), 10.0)


def best(work: Callable[[], object]) -> float:
    """Least CPU seconds of several runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def compile_s() -> tuple[float, float]:
    """CPU seconds of the first run of a process, with an empty cache and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", COMPILE]
        first, second = (
            float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
            for _ in range(2)
        )
    return first, second


def three_workloads() -> None:
    """Requests per second, and the ratio to the published twin."""
    print(f"{'workload':<10}{'requests':>10}{'draw ms':>10}{'simulate ms':>13}{'requests/s':>13}{'ratio':>8}")
    ratios = []
    for name, (rates, adapters, slots, published_s) in WORKLOADS.items():
        load = load_of(rates, adapters)
        setup, requests = setup_of(load, slots), uniform(load, 0, HOUR_S)
        draw, seconds = (
            best(lambda load=load: uniform(load, 0, HOUR_S)),
            best(lambda requests=requests, setup=setup: simulate_requests(requests, setup, HOUR_S)),
        )
        ratios.append(published_s / seconds)
        rate = len(requests) / seconds
        row = f"{name:<10}{len(requests):>10,}{1e3 * draw:>10.1f}{1e3 * seconds:>13.1f}"
        print(f"{row}{rate:>13,.0f}{ratios[-1]:>8.0f}")
    print(f"geometric mean of the ratios: {float(np.exp(np.mean(np.log(ratios)))):.0f}")


def conversations() -> None:
    """Cost per request of conversations under a system prompt, with prefix caching and without."""
    entry = Adapter(
        name="chat",
        count=64,
        rank=8,
        rate=0.1,
        prompt=60,
        output=OUTPUT.tokens,
        system_prompt=400,
        sessions=Sessions(turns=6, think_s=30.0),
    )
    classes = group([entry], None, None)
    load = twin.GPULoad.from_classes(classes)
    requests = twin.draw_requests(load, Workload(duration_s=HOUR_S), 0)
    print("\nconversations of six turns under a system prompt of 400 tokens, an hour")
    for name, caching in (("without a cache", False), ("prefix caching", True)):
        setup = replace(setup_of(load, 64), prefix_caching=caching)
        records = simulate_requests(requests, setup, HOUR_S)
        seconds = best(lambda setup=setup: simulate_requests(requests, setup, HOUR_S))
        tokens = int(records.requests.prompt_tokens.sum())
        found = 0 if records.cached_tokens is None else int(records.cached_tokens.sum())
        row = f"  {name:<20}{len(records.requests):>10,} requests{found / tokens:>12.0%} of prompts found"
        print(f"{row}{1e6 * seconds / len(records.requests):>11.3f}")


def scaling() -> None:
    """Cost per request as runs get longer, queues deeper and adapters more."""
    rates, adapters, slots, _ = WORKLOADS["b"]
    load = load_of(rates, adapters)
    print("\nµs per request, workload b")
    for hours in (1, 2, 4, 8):
        report(f"{hours} h", uniform(load, 0, hours * HOUR_S), setup_of(load, slots), hours * HOUR_S)
    print("deeper queues: all requests of an hour within less time, served to the end")
    whole = uniform(load, 0, HOUR_S)
    for factor in (1, 4, 16, 1_000_000):
        squeezed = replace(whole, arrival_s=whole.arrival_s / factor)
        report(f"within {HOUR_S / factor:.4g} s", squeezed, setup_of(load, slots), 20 * HOUR_S)
    print("more adapters, the same total rate")
    for count in (160, 1_600, 16_000, 160_000):
        many = load_of(tuple(rate * adapters / count for rate in rates), count)
        report(f"{count:,} adapters", uniform(many, 0, HOUR_S), setup_of(many, slots), HOUR_S)


def report(name: str, requests: Requests, setup: EngineSetup, horizon_s: float) -> None:
    """One line: cost per request, and how long the queue was."""
    records = simulate_requests(requests, setup, horizon_s)
    waiting = float(records.series[:, 3].sum() / records.end_s)
    seconds = best(lambda: simulate_requests(requests, setup, horizon_s))
    row = f"  {name:<20}{len(requests):>10,} requests{waiting:>12,.0f} waiting on average"
    print(f"{row}{1e6 * seconds / len(requests):>8.3f}")


def million() -> None:
    """Peak memory of an hour with a million requests, end to end."""
    load = load_of((0.75, 0.5, 0.25), 556)
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    workload = Workload(prompt=PROMPT, output=OUTPUT, duration_s=HOUR_S)
    start = time.process_time()
    engine = EngineConfig(max_cpu_loras=len(load.names))
    result = twin.simulate(load, workload, engine, profile, max_loras=16, max_lora_rank=8)
    result.to_json()
    seconds = time.process_time() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    requests = len(result.records.requests)
    print(f"\nan hour with {requests:,} requests, drawn, simulated, all metrics:")
    print(f"  {seconds:.2f} s, peak memory of the process {gib:.2f} GiB")


def main() -> None:
    """Print everything."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    first, second = compile_s()
    print(f"first run of a process: {first:.1f} s when it compiles, {second:.2f} s from the cache\n")
    tiny()
    three_workloads()
    conversations()
    scaling()
    million()


if __name__ == "__main__":
    main()
