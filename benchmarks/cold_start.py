"""How long a command takes right after installation, when its loops are compiled, and from then on.

    python benchmarks/cold_start.py [COMMAND...]

Wall-clock seconds of whole processes: the first with an empty cache of numba, the others with what it
left there. Without arguments: ``compare mixed_ranks``.

Takes about a minute of processor time: the command once compiling and three times not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
"""Runs from the cache, of which the quickest counts."""


def seconds(command: list[str], cache: str) -> float:
    """Wall-clock seconds of a command with a folder for compiled code."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": root}
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "optimizer", *command], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - start


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="of lorapack, with its arguments (default: compare mixed_ranks --quiet)",
    )
    command = parser.parse_args().command or ["compare", "mixed_ranks", "--quiet"]
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(command, cache)
        warm = min(seconds(command, cache) for _ in range(RUNS))
    print(f"lorapack {' '.join(command)}: {cold:.1f} s when it compiles, {warm:.1f} s from the cache")


if __name__ == "__main__":
    main()
