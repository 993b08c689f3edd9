"""Locales, hash seeds, optimised bytecode, clocks and numbers of workers change nothing of an answer."""

from __future__ import annotations

import ast
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import optimizer
import scenarios
from scenarios.stopping import deadline

pytestmark = pytest.mark.slow  # processes of their own, and whole searches

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("scenarios", "twin", "learn", "optimizer")
SCENARIO = "paper_mixed_32"
TIMES = frozenset({"seconds", "preparation_seconds"})

DRIVER = """
import contextlib, locale, sys
with contextlib.suppress(locale.Error):
    locale.setlocale(locale.LC_ALL, "")
from typer.main import get_command
from typer.testing import CliRunner
from optimizer.cli import main
from optimizer.cli.commands import app

def lines(command, path):
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from lines(below, [*path, name])

with open("help.txt", "w", encoding="utf-8") as file:
    for path in lines(get_command(app), []):
        file.write(CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}).stdout)
print(f"{1.5:n}", len("I".lower()), file=sys.stderr)
sys.argv = ["lorapack", "solve", sys.argv[1], "--json", "answer.json"]
main()
"""
"""What a process does: the help of every command, an answer as text and as JSON, under the locale's rules."""

ENGLISH = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "100"}
TURKISH = {
    "PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "1", "LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati",
    "NO_COLOR": "1", "COLUMNS": "80",
}  # fmt: skip
PLAIN = {
    "PYTHONHASHSEED": "random", "LC_ALL": "", "LC_CTYPE": "POSIX", "LC_NUMERIC": "de_DE.UTF-8",
    "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb",
    "TZ": "America/St_Johns", "COLUMNS": "60",
}  # fmt: skip


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the locales of Turkey and Germany, where the system can make them; else an empty one."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        for name in ("tr_TR", "de_DE"):
            made = ["localedef", "--no-archive", "-c", "-i", name, "-f", "UTF-8", folder / f"{name}.UTF-8"]
            subprocess.run(made, check=False, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def machines(locales: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes, bytes]]:
    """What a process left, printed and said on each machine; the Turkish one has a terminal."""
    scenario = tmp_path_factory.mktemp("scenario") / "İı–名.yaml"
    scenarios.write(scenarios.read(SCENARIO, ['name="İı – × 名"', "replications=1"]), scenario)
    found = {}
    for name, variables in (("english", ENGLISH), ("turkish", TURKISH), ("plain", PLAIN)):
        environment = variables | {"LOCPATH": f"{locales}"}
        found[name] = started(tmp_path_factory.mktemp(name), scenario, environment, name == "turkish")
    return found


def started(
    folder: Path, scenario: Path, variables: dict[str, str], terminal: bool
) -> tuple[Path, bytes, bytes]:
    """Run the driver in a folder of its own; what it left, printed and said."""
    dropped = {"NO_COLOR", "TERM", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8", "TZ"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    environment |= {"PYTHONPATH": f"{ROOT}"} | variables
    if not os.listdir(environment["LOCPATH"]):  # noqa: PTH208
        del environment["LOCPATH"]
    read, write = pty.openpty() if terminal else os.pipe()
    done = subprocess.Popen(
        [sys.executable, "-c", DRIVER, scenario], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    printed = b"".join(pieces(read))
    said = done.communicate(timeout=300)[1]
    assert done.returncode == 0, said.decode(errors="replace")[-2000:]
    return folder, printed, said


def pieces(read: int) -> Iterator[bytes]:
    """What comes until the other side is closed, which a terminal tells by an error."""
    try:
        while piece := os.read(read, 65536):
            yield piece
    except OSError:
        return
    finally:
        os.close(read)


def timeless(value: Any) -> Any:
    """A JSON value without the times that it tells."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def test_an_answer_is_the_same_whatever_the_environment(
    machines: dict[str, tuple[Path, bytes, bytes]],
) -> None:
    answers = {
        name: json.dumps(timeless(json.loads((folder / "answer.json").read_bytes())))
        for name, (folder, _, _) in machines.items()
    }
    assert '"status": "optimal"' in answers["english"]
    assert len(set(answers.values())) == 1


def test_the_help_is_the_same_whatever_the_environment(
    machines: dict[str, tuple[Path, bytes, bytes]],
) -> None:
    helps = {name: (folder / "help.txt").read_bytes() for name, (folder, _, _) in machines.items()}
    assert helps["english"].count(b"Usage: ") > 20
    assert helps["turkish"] == helps["english"]  # where Python keeps no docstrings
    assert helps["plain"] == helps["english"]


def test_what_is_printed_suits_the_terminal(machines: dict[str, tuple[Path, bytes, bytes]]) -> None:
    _, english, _ = machines["english"]
    assert "İı – × 名" in english.decode()
    _, plain, _ = machines["plain"]
    assert rb"\u0130\u0131 - x \u540d" in plain
    assert plain.isascii()
    for name, width in (("english", 100), ("turkish", 80), ("plain", 60)):
        printed = machines[name][1].decode("utf-8")
        assert "\x1b" not in printed
        assert max(len(line) for line in printed.splitlines() if r"\u" not in line) <= width


def test_the_locales_were_in_force(machines: dict[str, tuple[Path, bytes, bytes]], locales: Path) -> None:
    if not list(locales.iterdir()):
        pytest.skip("the system cannot make locales")
    assert machines["english"][2].startswith(b"1.5 ")
    assert machines["turkish"][2].startswith(b"1,5 ")
    assert machines["plain"][2].startswith(b"1,5 ")


def test_nothing_is_checked_by_assert() -> None:
    """What is asserted tells a type checker what holds anyway: ``python -O`` leaves it out."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for line in checks(path.read_text("utf-8"))
    ]
    assert found == []
    assert list(checks("assert not broken, 'why'\nassert x is not None\nassert f(x)\nassert x == 1")) == [
        1,
        3,
        4,
    ]


def checks(source: str) -> Iterator[int]:
    """Yield the lines of assertions that are more than a remark on a type."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            test = node.test
            narrows = isinstance(test, ast.Name | ast.Attribute)
            narrows |= isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"
            narrows |= isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot)
            if node.msg is not None or not narrows:
                yield node.lineno


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the clock of all deadlines go so many times as fast as the machine's from now on."""

    def set_speed(speed: float) -> None:
        start = time.monotonic()
        now = SimpleNamespace(monotonic=lambda: start + speed * (time.monotonic() - start))
        monkeypatch.setattr(deadline, "time", now)

    return set_speed


@pytest.mark.parametrize("method", ["exact", "milp", "local"])
def test_neither_the_clock_nor_the_number_of_workers_changes_an_answer(
    method: str, clock: Callable[[float], None]
) -> None:
    scenario = scenarios.read(SCENARIO, ["replications=1"])
    texts = set()
    for speed, workers in ((0.01, 1), (6.0, 3)):
        clock(speed)
        result = optimizer.solve(scenario, method, workers=workers)
        assert result.stop_reason != "time_limit"
        texts.add(json.dumps(timeless(json.loads(result.to_json()))))
    assert len(texts) == 1
