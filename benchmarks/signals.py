"""SIGINT and SIGTERM to `lorapack solve` at random moments, each in a process of its own.

Prints one row per signal and what is wrong with it, if anything: an answer that claims more than the
uninterrupted search, a traceback, a process that lives on.

Takes about a quarter of an hour with the defaults.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

COMMAND = (sys.executable, "-c", "from optimizer.cli import main; main()")

AFTER_S = 2.0
"""Seconds after the command's end in which its workers must be gone."""


def started(scenario: str, file: Path) -> subprocess.Popen[str]:
    """The command, which writes its answer to a file."""
    return subprocess.Popen(
        [*COMMAND, "solve", scenario, "--quiet", "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def faults(
    code: int, out: str, err: str, file: Path, whole: dict[str, Any], left: list[psutil.Process]
) -> Iterator[str]:
    """What is wrong with an answer, beside that of the uninterrupted search."""
    if left:
        yield f"{len(left)} processes live on"
    if err not in ("", "lorapack: interrupted\n"):
        yield f"said on stderr: {err.strip().splitlines()[-1]}"
    if err == "lorapack: interrupted\n":
        if (code, out, file.exists()) != (4, "", False):
            yield f"left at once, but with exit code {code} and an answer"
        return
    if not file.exists():
        yield "wrote no answer"
        return
    result = json.loads(file.read_text(encoding="utf-8"))
    if code != (0 if result["gpus"] else 4):
        yield f"exit code {code} with {result['gpus']} GPUs"
    if result["gpus"] and not result["validation"]["accepted"]:
        yield "the plan is not accepted"
    if result["stop_reason"] == "proven" and whole["stop_reason"] != "proven":
        yield "claims a proof"
    if result["bound"] is not None and result["bound"] > whole["gpus"]:
        yield f"bound {result['bound']:g} is above an accepted plan of {whole['gpus']} GPUs"
    if result["status"] == "optimal" and result["gpus"] != whole["gpus"]:
        yield f"{result['gpus']} GPUs are not optimal"


def interrupted(
    scenario: str, number: signal.Signals, moment: float, whole: dict[str, Any], folder: Path
) -> list[str]:
    """Send one signal and print the row; the faults."""
    file = folder / f"{number.name}-{moment:.3f}.json"
    process = started(scenario, file)
    time.sleep(moment)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    seconds = time.monotonic() - sent
    _, left = psutil.wait_procs(children, timeout=AFTER_S)
    said = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found = list(faults(process.returncode, out, err, file, whole, left))
    answer = (
        f"{said.get('status', 'left at once')}, {said.get('gpus') or 'no'} GPUs, bound {said.get('bound')}"
    )
    print(
        f"{number.name:8} {moment:6.2f} s  ended after {seconds:5.2f} s  exit {process.returncode}  "
        f"{said.get('stop_reason', '-'):12} {answer:40} {'; '.join(found) or 'right'}",
        flush=True,
    )
    return found


def main() -> None:
    """Run the benchmark; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="paper_high_1024", help="what is solved (default: %(default)s)")
    parser.add_argument("--each", type=int, default=30, help="signals of each kind (default: %(default)s)")
    parser.add_argument(
        "--latest", type=float, default=25.0, help="latest moment, seconds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = started(given.scenario, folder / "whole.json")
        whole.communicate()
        result = json.loads((folder / "whole.json").read_text(encoding="utf-8"))
        print(
            f"uninterrupted: {result['status']}, {result['gpus']} GPUs, bound {result['bound']}", flush=True
        )
        rng = np.random.default_rng(given.seed)
        wrong = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            for moment in np.sort(rng.uniform(0.0, given.latest, given.each)):
                wrong += bool(interrupted(given.scenario, number, float(moment), result, folder))
    print(f"{2 * given.each - wrong} of {2 * given.each} right")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
