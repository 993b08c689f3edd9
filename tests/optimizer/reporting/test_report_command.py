"""`lorapack report` and `solve --report`: what they write, and what they refuse before the work."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import optimizer
import scenarios
from optimizer.cli.commands import app

Lorapack = Callable[..., tuple[int, str, str]]

QUICK = "other_gpus = 0\n"


FAST = ("acceptance=paper", "replications=1", "adapters=[{name: a, count: 4, rank: 8, rate: 0.5}]")


@pytest.fixture(scope="module")
def solved() -> str:
    """A result, as JSON."""
    return optimizer.solve(scenarios.read("paper_mixed_32", overrides=list(FAST)), "bfd").to_json()


@pytest.fixture
def result(solved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.toml").write_text(QUICK)
    file = tmp_path / "result.json"
    file.write_text(solved)
    return file


@pytest.fixture
def run(lorapack: Lorapack) -> Callable[..., tuple[int, str, str]]:
    return lambda *words: lorapack("report", *words, "--params", "params.toml", "--quiet")


def test_the_page_and_its_data_are_written(result: Path, run: Lorapack) -> None:
    code, told, _ = run(result.name, "--out", "page.html", "--no-what-if", "--json", "contents.json")
    assert code == 0, told
    assert told.strip() == "paper_mixed_32, bfd: 1 GPU, accepted (paper); the page is page.html"
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.startswith("<!")
    assert len(page) < 3_000_000
    contents = json.loads(Path("contents.json").read_text())
    (plan,) = contents["plans"]
    assert (plan["what_if"], plan["no_what_if"]) == (None, "not asked for")
    assert plan["origin"]["result_file"] == "result.json"


def test_a_large_page_is_written_whole_and_its_size_is_told(
    result: Path, run: Lorapack, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, complaint = run(result.name, "--out", "page.html", "--no-what-if")
    assert (code, complaint) == (0, "")
    monkeypatch.setattr("optimizer.cli.plans.report_command.LARGE_BYTES", 100_000)
    code, told, complaint = run(result.name, "--out", "large.html", "--no-what-if")
    assert code == 0
    assert told.strip().endswith("the page is large.html")
    assert complaint == "lorapack: large.html has 0.5 MB; pages of fewer results are smaller\n"
    assert Path("large.html").stat().st_size == Path("page.html").stat().st_size


def test_several_results_are_one_page(result: Path, run: Lorapack) -> None:
    code, told, _ = run(result.name, result.name, "--no-what-if", "--json", "-")
    assert code == 0, told
    assert len(json.loads(told)["plans"]) == 2


def test_solve_writes_the_page_too(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert result.exists()
    real = optimizer.report
    monkeypatch.setattr(
        optimizer,
        "report",
        lambda one, **how: real(
            one, what_if=False, params=optimizer.ReportParams(other_gpus=0), workers=how["workers"]
        ),
    )
    changes = [word for change in FAST for word in ("--set", change)]
    words = ["solve", "paper_mixed_32", "--method", "bfd", *changes, "--quiet"]
    done = CliRunner().invoke(app, [*words, "--report", "solved.html"])
    assert done.exit_code == 0, done.output
    assert "paper_mixed_32" in Path("solved.html").read_text(encoding="utf-8")


def test_to_html_is_the_page(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("optimizer.reporting.report")
    few = {**module.report.__kwdefaults__, "params": optimizer.ReportParams(other_gpus=0)}
    monkeypatch.setattr(module.report, "__kwdefaults__", few)
    page = optimizer.read_result(result).to_html(what_if=False)
    assert page.startswith("<!")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("result.json",), "name where to write"),
        (("missing.json", "--out", "page.html"), "missing.json"),
        (("result.json", "--out", "result.json"), "is what the command reads"),
        (("result.json", "--out", "nowhere/page.html"), "nowhere"),
        (("result.json", "--out", "page.html", "--json", "page.html"), "both name"),
        (("params.toml", "--out", "page.html"), "params.toml"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    result: Path, run: Lorapack, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert result.exists()
    module = importlib.import_module("optimizer.reporting.report")
    monkeypatch.setattr(module, "collect", lambda *_, **__: pytest.fail("worked"))
    code, _, told = run(*words, "--no-what-if")
    assert code == 2
    assert said in " ".join(told.split())
    assert not Path("page.html").exists()


def test_a_missing_extra_is_named_before_the_work(
    result: Path, run: Lorapack, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("optimizer.reporting.report")
    monkeypatch.setattr(module, "collect", lambda *_, **__: pytest.fail("worked"))
    for name in [one for one in sys.modules if one.startswith("optimizer.reporting.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(importlib.import_module("optimizer.reporting"), "page", raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    code, _, told = run(result.name, "--out", "page.html")
    assert code == 1
    assert "lorapack[report]" in told
    assert not Path("page.html").exists()
