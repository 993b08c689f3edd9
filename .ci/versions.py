#!/usr/bin/env python3
"""Whether lorapack works with the oldest and the newest versions that pyproject.toml admits.

    python3 .ci/versions.py oldest|newest [--python PATH] [--extras test,ray] [--keep FOLDER] [--tests PATH]
    python3 .ci/versions.py resolve           # writes .ci/constraints/*.txt anew
    python3 .ci/versions.py wheels [3.12 ...] # which Pythons have a wheel of everything

Not part of `.ci/run`. `oldest` and `newest` install what `.ci/constraints` says into a fresh environment and
run every command in it; what a program may read must be JSON. `--tests` runs some of the tests too. The
constraints are of the oldest Python that pyproject.toml admits, as newer ones have no wheels of many an old
version; for these the lowest and the newest versions that have one are looked up. All need a network, and
some minutes. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from smoke import Installed, failed_checks

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / ".ci/constraints"
EXTRAS = ("docs", "ray", "test")
"""Extras whose versions are constrained: all but what developers have in the newest version, and what alone
raises the lowest versions of the rest (aiconfigurator-core 0.12: NumPy from 1.26 to 2.1)."""
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RELEASED = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)
OURS = "lorapack["
BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def main() -> int:
    """Do what was asked; the exit code."""
    given = _parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.what == "resolve":
            return resolve(_uv(Path(temporary)))
        if given.what == "wheels":
            return tell_wheels(_uv(Path(temporary)), given.pythons)
        folder = (given.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        extras = [extra for extra in given.extras.split(",") if extra]
        installed = install(folder, given.what, extras, given.python)
        failed = failed_checks(installed, [name for one in extras for name in _named(one)], given.tests)
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for which in RESOLUTIONS:
        one = commands.add_parser(which, help=f"try the {which} versions")
        one.add_argument(
            "--python", default=sys.executable, metavar="PATH", help="interpreter to try them with"
        )
        one.add_argument("--extras", default="test", help="extras to install, separated by commas")
        one.add_argument("--keep", type=Path, metavar="FOLDER", help="where the environment is kept")
        one.add_argument("--tests", nargs="+", default=[], metavar="PATH", help="tests to run besides")
    commands.add_parser("resolve", help="write the constraints anew")
    wheels = commands.add_parser("wheels", help="say which Pythons have a wheel of everything")
    wheels.add_argument("pythons", nargs="*", default=PYTHONS, metavar="PYTHON")
    return parser


@cache
def _uv(folder: Path) -> Path:
    """The resolver, in an environment of its own."""
    venv.create(folder / "tools", with_pip=True, clear=True)
    subprocess.run([folder / "tools/bin/pip", "install", "--quiet", "uv"], check=True)
    return folder / "tools/bin/uv"


def _compiled(
    uv: Path, which: str, python: str, extras: Collection[str] = EXTRAS
) -> subprocess.CompletedProcess[str]:
    """The oldest or newest versions that have wheels for a Python, as far as there are such."""
    return subprocess.run(
        [uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--only-binary", ":all:",
         "--resolution", RESOLUTIONS[which], "--python-version", python,
         *(f"--extra={extra}" for extra in extras), ROOT / "pyproject.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def resolve(uv: Path) -> int:
    """Write the constraints of both resolutions for the oldest Python; the exit code."""
    CONSTRAINTS.mkdir(exist_ok=True)
    for which in RESOLUTIONS:
        done = _compiled(uv, which, PYTHONS[0])
        if done.returncode:
            print(done.stderr)
            return 1
        path = CONSTRAINTS / f"{which}.txt"
        path.write_text(f"# By .ci/versions.py resolve, for Python {PYTHONS[0]}.\n{done.stdout}")
        print(f"{path.relative_to(ROOT)}: {len(RELEASED.findall(done.stdout))} versions")
    return 0


def tell_wheels(uv: Path, pythons: Collection[str]) -> int:
    """Print for each Python whether everything has a wheel, and which bounds have none; the exit code.

    An extra whose newest version has none, alone or through what it needs, is named.
    """
    missing = 0
    for python in pythons:
        lacking = [
            extra
            for extra in ("", *EXTRAS)
            if _compiled(uv, "newest", python, [extra] * bool(extra)).returncode
        ]
        missing += bool(lacking)
        says = f"none for {', '.join(extra or 'lorapack itself' for extra in lacking)}" if lacking else "all"
        extras = [extra for extra in EXTRAS if extra not in lacking]
        raised = dict(_raised(_compiled(uv, "oldest", python, extras).stdout, extras))
        oldest = ", ".join(f"{name} {version}" for name, version in raised.items()) or "those of the bounds"
        print(f"{python}: wheels of the newest: {says}; oldest: {oldest}", flush=True)
    return 1 if missing else 0


def _raised(versions: str, extras: Collection[str]) -> Iterator[tuple[str, str]]:
    """Dependencies whose lowest version with a wheel is above their bound."""
    taken = {_plain(name): version for name, version in RELEASED.findall(versions)}
    for name, bound in bounds(extras):
        version = taken.get(_plain(name), bound)
        if _release(version)[: len(_release(bound))] != _release(bound):
            yield name, version


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _release(version: str) -> list[str]:
    """A version without the zeros at its end."""
    parts = version.split(".")
    while parts[-1:] == ["0"]:
        parts.pop()
    return parts


def install(folder: Path, which: str, extras: list[str], python: str) -> Installed:
    """An environment with the oldest or newest versions, and a table of them."""
    uv, inside = _uv(folder), folder / which / "bin/python"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, folder / which], check=True)
    asked = [inside, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    running = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    constraints = CONSTRAINTS / f"{which}.txt"
    if running != PYTHONS[0] or not set(extras) <= {*EXTRAS, *_named("test")}:
        done = _compiled(uv, which, running, extras)
        done.check_returncode()
        constraints = folder / f"{which}-{running}.txt"
        constraints.write_text(done.stdout)
    here = [uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", inside]
    wheel = _wheel(uv, folder)
    subprocess.run([*here, "-c", constraints, f"lorapack[{','.join(extras)}] @ {wheel.as_uri()}"], check=True)
    taken = {_plain(name): version for name, version in RELEASED.findall(constraints.read_text())}
    print(f"Python {running}")
    for name, bound in bounds(extras):
        print(f"{name:22} >= {bound:10} {taken[_plain(name)]}")
    return Installed(inside, folder)


def _wheel(uv: Path, folder: Path) -> Path:
    """lorapack's own wheel."""
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder / "dist", ROOT], check=True)
    return next((folder / "dist").glob("lorapack-*.whl"))


def bounds(extras: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name and lower bound of every direct dependency, also of extras that those asked for name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in dict.fromkeys(name for one in extras for name in _named(one)):
        wanted += project["optional-dependencies"][extra]
    for requirement in wanted:
        if not requirement.startswith(OURS):
            yield BOUND.match(requirement).groups()  # type: ignore[union-attr,misc]


def _named(extra: str) -> list[str]:
    """An extra and those that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [one for one in project["optional-dependencies"][extra] if one.startswith(OURS)]
    named = [name for one in ours for name in one[len(OURS) : -1].split(",")]
    return [extra, *(inner for name in named for inner in _named(name))]


if __name__ == "__main__":
    sys.exit(main())
