"""Damaged files of every kind that is read, thousands of each: what must not be, and at which damage.

Each must end within 10 s and 2 GiB, with an answer or one message in our words, with path, value and remedy
(tests/fuzzing/judgement.py). The damages have numbers; the first of each kind are those of the tests, so
that a fault that is found here can be tried again by its number. Prints a line for each kind and each fault.

Takes about 50 minutes on one core for 10,000 of each kind (fewer of kinds that take longer, as many times
fewer as they say); two processes share the kinds with the defaults.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzzing.kinds import fuzzed_kinds


def faults(name: str, damages: int, first: int) -> tuple[str, int, float, list[tuple[int, str]]]:
    """A kind, how many damages of it were tried, seconds, and the faults by their numbers."""
    kind, begin = fuzzed_kinds()[name], time.monotonic()
    numbers = range(first, first + max(1, damages // kind.slow))
    with tempfile.TemporaryDirectory() as folder:
        suspects = [number for number, _ in kind.faults(Path(folder), numbers)]
        # Once more: loops that were compiled meanwhile took the time, and no file did.
        found = list(kind.faults(Path(folder), suspects))
    return name, len(numbers), time.monotonic() - begin, found


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them; 1 if there is a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--damages", type=int, default=10_000, help="of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default: %(default)s)")
    parser.add_argument("--only", default="", help="kinds whose names hold this (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    given = parser.parse_args(arguments)
    names = [name for name in fuzzed_kinds() if given.only in name]
    print(f"Python {platform.python_version()}, {given.damages:,} damages from {given.first:,} on")
    total = wrong = 0
    with ProcessPoolExecutor(given.workers) as pool:
        jobs = [pool.submit(faults, name, given.damages, given.first) for name in names]
        for job in jobs:
            name, tried, seconds, found = job.result()
            total, wrong = total + tried, wrong + len(found)
            print(f"{name:44} {tried:6,} damages {seconds:7.1f} s {len(found):4} faults", flush=True)
            for number, fault in found:
                print(f"    {number}: {fault[:300]}", flush=True)
    print(f"{len(names)} kinds, {total:,} damages, {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
