"""Small changes of the code, one at a time: which test notices each (docs/testing.md, "Mutants").

The changes are listed in tests/mutants/*.toml. Each is made in a copy of the checkout, never in the checkout
itself, and the test that is said to catch it is run there; where none is said, or it does not catch it, the
tests that belong to the code, until one fails. All tests must pass in the copy before anything is changed.
Prints a row for each mutant and the share that is caught; exit code 1 if one is not caught that should be.

Takes about 15 minutes on an idle core for 150 mutants, most of it to start Python; `--workers 2` halves it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.mutants.mutants import FOLDER, ROOT, Mutant, read_mutants

PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider")

PASSED, FAILED = 0, 1
"""pytest's exit codes: all tests passed, some failed. Others say that it could not run them."""


class RunError(RuntimeError):
    """The tests cannot tell anything."""


@dataclass(frozen=True)
class Copy:
    """A copy of the checkout, in which files are changed and tests run."""

    folder: Path
    seconds: float

    @classmethod
    def of(cls, checkout: Path, folder: Path, seconds: float) -> Copy:
        """Copy all that git knows or would add, and compiled code, which knows its files by their times."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        kept = [checkout / name for name in listed if name and (checkout / name).is_file()]
        for path in (*kept, *checkout.glob("*/**/__pycache__/*.nb[ic]")):
            to = folder / path.relative_to(checkout)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)
        return cls(folder, seconds)

    @property
    def environment(self) -> dict[str, str]:
        """In which Python imports this copy's packages."""
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    def write(self, file: str, text: str) -> None:
        """Change a file, and forget Python's code of it, which is known by second and length only."""
        path = self.folder / file
        for code in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            code.unlink()
        path.write_text(text, encoding="utf-8")

    def restore(self, file: str) -> None:
        """Undo the change of a file."""
        self.write(file, (ROOT / file).read_text(encoding="utf-8"))
        shutil.copystat(ROOT / file, self.folder / file)

    def run(self, tests: Sequence[str], interpreted: bool) -> subprocess.CompletedProcess[str]:
        """Run tests until one fails, with caches of their own.

        Raises
        ------
        subprocess.TimeoutExpired
            If that takes too long.
        """
        plugin = ("-p", "tests.mutants.interpreted") if interpreted else ()
        with tempfile.TemporaryDirectory() as caches:
            process = subprocess.Popen(
                [*PYTEST, *plugin, *tests],
                cwd=self.folder, env=self.environment | {"LORAPACK_CACHE": caches}, text=True,
                start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                said, _ = process.communicate(timeout=self.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.communicate()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, said)

    def check(self, tests: Sequence[str], interpreted: bool) -> None:
        """See that tests run on this copy's code, and pass.

        Raises
        ------
        RunError
            If they do not.
        """
        asked = [sys.executable, "-c", "import twin; print(twin.__file__)"]
        told = subprocess.run(asked, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        where = told.stdout.strip()
        if not Path(where).is_relative_to(self.folder):
            raise RunError(f"the package twin that is imported is {where}, not that of the copy")
        if tests and (done := self.run(tests, interpreted)).returncode != PASSED:
            raise RunError(f"the tests do not pass without any change:\n{done.stdout}")


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant: the test that noticed it, empty if none did, seconds, and what went wrong."""

    mutant: Mutant
    caught_by: str
    seconds: float
    trouble: str = ""

    @property
    def is_right(self) -> bool:
        """Whether it is caught, or said to survive."""
        return bool(self.caught_by or self.mutant.survives) and not self.trouble

    @property
    def words(self) -> str:
        """What came of it."""
        unnoticed = "survives, as said" if self.mutant.survives else "NOT CAUGHT"
        return self.trouble or self.caught_by or unnoticed


def failed_test(said: str) -> str:
    """The test that pytest names as failed, without parameters."""
    found = re.search(r"^(?:FAILED|ERROR) (\S+?::\w+)", said, flags=re.M)
    if found is None:
        raise RunError(f"pytest names no test that failed:\n{said}")
    return found[1]


def noticed_by(copy: Copy, mutant: Mutant, tests: Sequence[str]) -> str:
    """The test that notices a change that has been made; empty if none does.

    Raises
    ------
    RunError
        If the changed code cannot be imported.
    """
    try:
        done = copy.run(tests, mutant.interpreted)
    except subprocess.TimeoutExpired:
        return f"{tests[0]} (never ends)"
    if done.returncode not in (PASSED, FAILED):
        raise RunError(f"mutant {mutant.name!r}: the tests cannot be run:\n{done.stdout}")
    return failed_test(done.stdout) if done.returncode == FAILED else ""


def judged(copy: Copy, mutant: Mutant, search: bool) -> Verdict:
    """Make a change in a copy, run the tests, and undo it."""
    begin, caught, trouble = time.monotonic(), "", ""
    copy.write(mutant.file, mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8")))
    try:
        caught = noticed_by(copy, mutant, first_tests(mutant, search))
        if not caught and mutant.caught_by and not search:
            caught = noticed_by(copy, mutant, mutant.tests)
    except RunError as error:
        trouble = str(error)
    finally:
        copy.restore(mutant.file)
    return Verdict(mutant, caught, time.monotonic() - begin, trouble)


def verdicts(mutants: Sequence[Mutant], workers: int, seconds: float, search: bool) -> Iterator[Verdict]:
    """Judge mutants, each worker in a copy of its own; in their order."""
    free: SimpleQueue[Copy] = SimpleQueue()

    def judge(mutant: Mutant) -> Verdict:
        copy = free.get()
        try:
            return judged(copy, mutant, search)
        finally:
            free.put(copy)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        copies = [Copy.of(ROOT, Path(folder) / str(k), seconds) for k in range(workers)]
        for way in (False, True):
            first = {test for one in mutants if one.interpreted == way for test in first_tests(one, search)}
            copies[0].check(sorted(first), way)
        for copy in copies:
            free.put(copy)
        yield from pool.map(judge, mutants)


def first_tests(mutant: Mutant, search: bool) -> Sequence[str]:
    """The tests that are to be run first."""
    return [mutant.caught_by] if mutant.caught_by and not search else mutant.tests


def record(found: Sequence[Verdict]) -> None:
    """Write the tests that caught mutants into the lists, where none is said."""
    by_name = {one.mutant.name: one.caught_by for one in found if "(" not in one.caught_by}
    for file in FOLDER.glob("*.toml"):
        entries = file.read_text(encoding="utf-8").split("[[mutant]]\n")
        for k, entry in enumerate(entries):
            name = re.match(r'name = "(.*)"\n', entry)
            if name and by_name.get(name[1]) and "caught_by = " not in entry and "survives = " not in entry:
                entries[k] = f'{entry.rstrip()}\ncaught_by = "{by_name[name[1]]}"\n\n'
        file.write_text("[[mutant]]\n".join(entries).rstrip() + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge them; 1 if one is not caught that should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose names or files hold this (default: all)")
    parser.add_argument(
        "--search",
        action="store_true",
        help="run all tests that belong to the code, until one fails (default: the one that is said)",
    )
    parser.add_argument(
        "--record", action="store_true", help="write the tests found into the lists (default: print only)"
    )
    parser.add_argument("--workers", type=int, default=1, help="copies at work (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="most for the tests of a mutant (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    mutants = [one for one in read_mutants() if given.only in one.name or given.only in one.file]
    found = []
    for one in verdicts(mutants, given.workers, given.seconds, given.search):
        found.append(one)
        print(f"{one.mutant.file}: {one.mutant.name}\n    {one.seconds:5.1f} s  {one.words}", flush=True)
    caught = sum(bool(one.caught_by) for one in found)
    seconds = sum(one.seconds for one in found)
    share = caught / max(len(found), 1)
    print(f"{caught} of {len(found)} mutants caught, {share:.0%}; {seconds:,.0f} s of tests")
    if given.record:
        record(found)
    return 0 if all(one.is_right for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
