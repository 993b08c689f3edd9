#!/usr/bin/env python3
"""Whether lorapack works with the oldest versions that pyproject.toml admits; not part of `.ci/run`.

    python3 .ci/oldest.py [--extras test,dask,ray] [--keep FOLDER] [--tests PATH ...]

A fresh environment gets the lowest version of every direct dependency that has a wheel for the Python that
runs this, which a table shows beside the bounds. Then every command is run in it, and what a program may
read must be JSON. `--tests` runs some of the tests too. Needs a network, and some minutes. Exit code 1 if
anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = "paper_mixed_32"
METHODS = ("exact", "greedy", "bfd", "milp", "cbc", "cpsat", "patterns", "local", "maxbackbone", "dlora-min")
RELEASED = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)")
BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?>=([\w.]+)")
LONGEST_S = 900
"""Seconds that one command may take; the first ones compile."""

COMMANDS = """
from optimizer.cli.commands import app
from typer.main import get_command

def walk(command, path):
    print(" ".join(path))
    for name, below in getattr(command, "commands", {}).items():
        walk(below, [*path, name])

walk(get_command(app), [])
"""
"""Prints every command, one a line."""

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


def main() -> int:
    """Install, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--extras", default="test", help="extras to install, separated by commas")
    parser.add_argument("--keep", type=Path, help="folder of the environment, which is then kept")
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH", help="tests to run besides")
    given = parser.parse_args()
    extras = [extra for extra in given.extras.split(",") if extra]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        installed = install(folder, extras)
        failed = [name for name, wrong in checks(installed, extras, given.tests) if not told(name, wrong)]
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def install(folder: Path, extras: list[str]) -> Installed:
    """An environment with the lowest versions, and a table of them."""
    for name in ("tools", "oldest"):
        venv.create(folder / name, with_pip=name == "tools", clear=True)
    uv, python = folder / "tools/bin/uv", folder / "oldest/bin/python"
    subprocess.run([folder / "tools/bin/pip", "install", "--quiet", "uv"], check=True)
    versions = subprocess.run(
        [uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--only-binary", ":all:",
         "--python", python, *(f"--extra={extra}" for extra in extras), ROOT / "pyproject.toml"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    (folder / "oldest.txt").write_text(versions)
    here = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*here, "-r", folder / "oldest.txt"], check=True)
    subprocess.run([*here, "--no-deps", ROOT], check=True)
    taken = {name.lower(): version for name, version in RELEASED.findall(versions)}
    for name, bound in bounds(extras):
        print(f"{name:16} >= {bound:10} {taken[name.lower()]}")
    return Installed(python, folder)


def bounds(extras: list[str]) -> Iterator[tuple[str, str]]:
    """Name and lower bound of every direct dependency; our own extras have none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in (project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)):
        for requirement in wanted:
            if not requirement.startswith("lorapack["):
                yield BOUND.match(requirement).groups()  # type: ignore[union-attr,misc]


def checks(installed: Installed, extras: list[str], tests: list[str]) -> Iterator[tuple[str, str]]:
    """What is run, and what is wrong with it; empty if nothing."""
    walked = installed.run("python", "-c", COMMANDS)
    yield "the list of commands", failure(walked)
    for line in walked.stdout.splitlines():
        yield f"lorapack {line} --help", failure(installed.run("lorapack", *line.split(), "--help"))
    for command in ("methods", "scenarios list", f"scenarios check {SCENARIO}"):
        yield command, failure(installed.run("lorapack", *command.split()))
    for method in METHODS:
        command = f"solve {SCENARIO} --method {method} --json - --time-limit 20"
        yield command, failure(installed.run("lorapack", *command.split()), is_json)
    yield from (
        (command, failure(installed.run("lorapack", *command.split()), reads))
        for command, reads in (
            (f"solve {SCENARIO} --objective latency --gpus 2 --json - --time-limit 20", is_json),
            (f"solve {SCENARIO} --explain --json plan.json --time-limit 20", anything),
            ("report plan.json --json - --no-what-if", is_json),
            (f"validate {SCENARIO} plan.json --json -", is_json),
            (f"simulate {SCENARIO} --json -", is_json),
            (f"replan {SCENARIO} --from plan.json --json - --time-limit 20", is_json),
            (f"compare {SCENARIO} --json - --csv plans.csv --plot plans.png --time-limit 20", is_json),
        )
    )
    yield "regions and surrogates", failure(installed.run("python", "-c", LEARN, SCENARIO))
    for backend in [extra for extra in extras if extra in CLUSTERS]:
        code = ON_CLUSTER.format(scenario=SCENARIO, start=CLUSTERS[backend])
        yield f"sampling on {backend}", failure(installed.run("python", "-c", code))
    for test in tests:
        done = installed.run("pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(Path(test).resolve()))
        yield f"pytest {test}", failure(done)


def anything(_out: str) -> None:
    """Standard output may be for people."""


def is_json(out: str) -> None:
    """Standard output is for programs."""
    json.loads(out)


def failure(done: subprocess.CompletedProcess[str], reads: Callable[[str], None] = anything) -> str:
    """What is wrong with a command that ended; empty if nothing."""
    if done.returncode:
        return f"exit code {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
    try:
        reads(done.stdout)
    except ValueError as error:
        return f"standard output is not JSON ({error}): {done.stdout[:300]}"
    return ""


def told(name: str, wrong: str) -> bool:
    """Say how a check went; whether it went well."""
    print(f"{'FAILED' if wrong else 'ok':6} {name}{f': {wrong}' if wrong else ''}", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
