"""Every command that the README and the docs tell a reader to type runs as it stands."""

from __future__ import annotations

import gzip
import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from typer.main import get_command
from typer.testing import CliRunner

from optimizer.cli.commands import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCHEDULES = ROOT / "tests" / "twin" / "data" / "vllm_schedules"
RESULT = ROOT / "tests" / "twin" / "data" / "bench_serve" / "summary.json"

STANDS_FOR = {
    "SCENARIO": "paper_mixed_32",
    "PLACEMENT": "placement.yaml",
    "RUNS.csv": "measured/serving_runs.csv",
    "FOLDER": "measured",
    "TARGET": "measured",
}
"""What a reader puts in for a word in capitals."""

PACKAGES = sorted(file.parent.name for file in (ROOT / "benchmarks").glob("*/__main__.py"))
BENCHMARKS = sorted([*(file.stem for file in (ROOT / "benchmarks").glob("*.py")), *PACKAGES])

SLOW = ("README.md", "calibration.md", "compare.md", "params.md", "recipes.md", "report.md", "survival.md")
"""Pages whose commands take more than ten seconds."""


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def typed(page: Path) -> list[str]:
    """Commands of a page's blocks, without comments."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("lorapack ")]


def pages(wanted: Callable[[Path], object]) -> list[ParameterSet]:
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in SLOW else [])
        for page in PAGES
        if wanted(page)
    ]


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of, once for all of them."""
    place = tmp_path_factory.mktemp("pages") / "reader"
    (place / "measured").mkdir(parents=True)
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tests" / "twin" / "measured_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    tables.write_tables(place / "measured")
    schedule = next(iter(sorted(SCHEDULES.rglob("*.json.gz"))))
    (place / "result.json").write_bytes(RESULT.read_bytes())
    (place / "schedule.json").write_bytes(gzip.decompress(schedule.read_bytes()))
    (fleet,) = blocks(ROOT / "README.md", "yaml")
    (place / "fleet.yaml").write_text(fleet)
    (place / "tuned.toml").write_text("[gpus]\nmax_first_rounds = 8\n")
    for name in ("scenarios", "tests", "twin"):
        (place / name).symlink_to(ROOT / name)
    made = ["solve", "paper_mixed_32", "--method", "bfd"]
    files = ["--placement", str(place / "placement.yaml"), "--json", str(place / "out.json")]
    assert CliRunner().invoke(app, made + files).exit_code == 0
    return place


@pytest.fixture
def folder(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader works: what the pages speak of lies there."""
    place = Path(shutil.copytree(laid_out, tmp_path / "reader", symlinks=True))
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("page", pages(typed))
def test_commands_in_blocks_run_in_their_order(page: Path, folder: Path) -> None:
    assert folder.exists()
    for command in typed(page):
        words = [STANDS_FOR.get(word, word) for word in shlex.split(command)[1:]]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (command, done.output)


PYTHON = [page for page in PAGES if page.name not in ("README.md", "placers.md", "extending.md")]
"""Pages whose Python has no test of its own."""


@pytest.mark.parametrize("page", pages(lambda page: page in PYTHON and list(blocks(page, "python"))))
def test_python_in_blocks_runs(page: Path, folder: Path) -> None:
    assert folder.exists()
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


def test_commands_in_the_text_exist_with_their_flags() -> None:
    group = get_command(app)
    checked = 0
    for page in PAGES:
        if page.name == "changelog.md":
            continue  # it speaks of what is gone, too
        for text in re.findall(r"`lorapack ([^`]+)`", page.read_text(encoding="utf-8")):
            words = text.replace("\\|", "|").replace("[", " ").replace("]", " ").split()
            command = group.commands.get(words[0])  # type: ignore[attr-defined]
            if words[0].startswith("-"):
                continue
            assert command is not None, f"{page.name}: lorapack {text}"
            inner = getattr(command, "commands", {})
            known = {flag for c in (command, *inner.values()) for param in c.params for flag in param.opts}
            unknown = {word for word in words if word.startswith("--")} - known
            assert not unknown, f"{page.name}: lorapack {text}: {unknown}"
            checked += 1
    assert checked > 15


def test_benchmarks_that_the_pages_name_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"python3? (?:-m )?benchmarks[./](\w+)", text))
    assert named
    assert named <= set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_say_what_they_take_and_how_long(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option has its default, unless it is required, and its choices, if they are few."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    # A package is run as a module, and Python looks for imports where that is done, or where a script lies.
    monkeypatch.syspath_prepend(str(ROOT if name in PACKAGES else ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}.__main__", raising=False)  # another test's
    target = f"benchmarks.{name}" if name in PACKAGES else str(ROOT / "benchmarks" / f"{name}.py")
    with pytest.raises(SystemExit) as end:
        (runpy.run_module if name in PACKAGES else runpy.run_path)(target, run_name="__main__")
    assert end.value.code == 0
    text = capsys.readouterr().out
    usage, description = re.split(r"\n\n", text, maxsplit=1)
    assert re.search(r"^Takes .*(second|minute|hour)", description, flags=re.MULTILINE), "how long it takes"
    told = {text.split()[0]: text for text in re.split(r"\n  (?=-)", text)[1:]}
    for option in set(re.findall(r"\[(--\w[\w-]*) ", usage)):
        assert "(default: " in " ".join(told[option].split()), told[option]
