"""Every command of an installed lorapack, run once: what the versions of its dependencies must not break."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

SCENARIO = "paper_mixed_32"
METHODS = ("exact", "greedy", "bfd", "milp", "cbc", "cpsat", "patterns", "local", "maxbackbone", "dlora-min")
LONGEST_S = 900
"""Seconds that one command may take; the first ones compile."""

HELPS = """
from typer.main import get_command
from typer.testing import CliRunner
from optimizer.cli.commands import app

def walk(command, path):
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0 and "Usage: " in done.stdout, (path, done.stdout, done.exception)
    for name, below in getattr(command, "commands", {}).items():
        walk(below, [*path, name])

walk(get_command(app), [])
"""
"""Asks every command for its help."""

LEARN = """
import learn, scenarios, twin, sys
scenario = scenarios.read(sys.argv[1])
device = scenario.devices[0]
space = learn.space_for(scenario, device, twin.find_profile(scenario.model, device.name))
plan = learn.SamplingPlan(compositions=24, round_size=24, max_runs=5, width=1.15, spread=1, seed=1)
dataset = learn.sample(space, plan, workers=2)
learn.linearize(dataset, space)
for method in learn.METHODS:
    learn.fit(dataset, method)
print(len(dataset), "runs")
"""
"""Regions and surrogates of a small plan; the plan of `lorapack fit` takes minutes."""

OF_EXTRAS = {
    "parquet": """
from twin.workload.trace_files import read_trace
import pyarrow
from pyarrow import parquet
rows = {"time": [0.0, 0.5, 1.5, 4.0], "prompt_tokens": [8, 9, 10, 11], "output_tokens": [3, 4, 5, 6]}
parquet.write_table(pyarrow.table(rows), "log.parquet")
assert len(read_trace("log.parquet").arrival_s) == 4
""",
    "live": """
from http.server import HTTPServer, SimpleHTTPRequestHandler
from threading import Thread
from twin.live.fetching import fetch_texts
server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
assert "<html" in fetch_texts([url])[url].text.lower()
""",
    "aiconfigurator": """
from twin.deriving.database import KernelDatabase
assert 0 < KernelDatabase("Qwen3-8B", "H100-80GB").decode_s(8, 500) < 1
""",
}
"""What an extra brings, tried without a network."""

CLUSTERS = {
    "dask": "from dask.distributed import LocalCluster; at = LocalCluster(2, dashboard_address=None)\n"
    "    address = at.scheduler_address.replace('tcp', 'dask')",
    "ray": "address = 'ray://local'",
}
"""How the extras for clusters are set up on one machine."""

ON_CLUSTER = """
import learn, scenarios, twin
scenario = scenarios.read("{scenario}")
device = scenario.devices[0]
space = learn.space_for(scenario, device, twin.find_profile(scenario.model, device.name))
if __name__ == "__main__":
    {start}
    with twin.on_cluster(address, workers=2):
        plan = learn.SamplingPlan(compositions=4, round_size=4, max_runs=3, spread=0)
        print(len(learn.sample(space, plan)))
"""


@dataclass(frozen=True)
class Installed:
    """The environment under test."""

    python: Path
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, outside the checkout, with a cache of its own."""
        program, *rest = arguments
        return subprocess.run(
            [self.python.parent / program, *rest],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": "", "LORAPACK_CACHE": str(self.folder / "cache")},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )


def failed_checks(installed: Installed, extras: Collection[str], tests: Collection[str]) -> list[str]:
    """Run all checks and tell of each; the names of those that failed."""
    return [name for name, wrong in _checks(installed, extras, tests) if not _told(name, wrong)]


def _checks(
    installed: Installed, extras: Collection[str], tests: Collection[str]
) -> Iterator[tuple[str, str]]:
    """What is run, and what is wrong with it; empty if nothing."""
    yield "the help of every command", _failure(installed.run("python", "-c", HELPS))
    for command in ("methods", "scenarios list", f"scenarios check {SCENARIO}"):
        yield command, _failure(installed.run("lorapack", *command.split()))
    for method in METHODS:
        command = f"solve {SCENARIO} --method {method} --json - --time-limit 20"
        yield command, _failure(installed.run("lorapack", *command.split()), _is_json)
    yield from (
        (command, _failure(installed.run("lorapack", *command.split()), reads))
        for command, reads in (
            (f"solve {SCENARIO} --objective latency --gpus 2 --json - --time-limit 20", _is_json),
            (f"solve {SCENARIO} --explain --json plan.json --time-limit 20", _anything),
            ("report plan.json --json - --no-what-if", _is_json),
            (f"validate {SCENARIO} plan.json --json -", _is_json),
            (f"simulate {SCENARIO} --json -", _is_json),
            (f"replan {SCENARIO} --from plan.json --json - --time-limit 20", _is_json),
            (f"compare {SCENARIO} --json - --csv plans.csv --plot plans.png --time-limit 20", _is_json),
        )
    )
    if "report" in extras:
        page = "report plan.json --out page.html --no-what-if"
        yield page, _failure(installed.run("lorapack", *page.split()))
    for extra in [extra for extra in extras if extra in OF_EXTRAS]:
        yield f"what {extra} brings", _failure(installed.run("python", "-c", OF_EXTRAS[extra]))
    yield "regions and surrogates", _failure(installed.run("python", "-c", LEARN, SCENARIO))
    for backend in [extra for extra in extras if extra in CLUSTERS]:
        code = ON_CLUSTER.format(scenario=SCENARIO, start=CLUSTERS[backend])
        yield f"sampling on {backend}", _failure(installed.run("python", "-c", code))
    for test in tests:
        done = installed.run("pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(Path(test).resolve()))
        yield f"pytest {test}", _failure(done)


def _anything(_out: str) -> None:
    """Standard output may be for people."""


def _is_json(out: str) -> None:
    """Standard output is for programs."""
    json.loads(out)


def _failure(done: subprocess.CompletedProcess[str], reads: Callable[[str], None] = _anything) -> str:
    """What is wrong with a command that ended; empty if nothing."""
    if done.returncode:
        return f"exit code {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
    try:
        reads(done.stdout)
    except ValueError as error:
        return f"standard output is not JSON ({error}): {done.stdout[:300]}"
    return ""


def _told(name: str, wrong: str) -> bool:
    """Say how a check went; whether it went well."""
    print(f"{'FAILED' if wrong else 'ok':6} {name}{f': {wrong}' if wrong else ''}", flush=True)
    return not wrong
