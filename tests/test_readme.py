"""The README's Python example runs, and the commands that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from optimizer.cli.commands import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


SMALLER = {"mixed_ranks": "paper_mixed_32", "hot-03": "adapter-03", "gpus=5": "gpus=2, time_limit_s=10"}
"""What stands in the example, and what is run."""


@pytest.mark.slow
def test_the_python_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a smaller scenario than the README's, so that it takes seconds."""
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    for shown, smaller in SMALLER.items():
        example = example.replace(shown, smaller)
    exec(compile(example, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "optimal: no plan of the optimistic (outer) region needs fewer GPUs" in " ".join(out.split())
    assert "adapter-03 runs on GPU 0" in out


def test_every_command_of_the_readme_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"`lorapack (\w+)", README))
    assert named
    assert named <= known, named - known


def test_every_page_can_be_reached_from_here() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in reached:
            reached.add(page)
            links = re.findall(r"\]\((?!http)([^)#]+\.md)", page.read_text(encoding="utf-8"))
            left += [(page.parent / link).resolve() for link in links]
    assert set((ROOT / "docs").glob("*.md")) <= reached


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_quick_tests_are_there_and_of_every_package() -> None:
    lines = (ROOT / "tests" / "quick.txt").read_text(encoding="utf-8").splitlines()
    listed = [Path(line.removeprefix("--ignore=")) for line in lines]
    assert [str(one) for one in listed if not (ROOT / one).exists()] == []
    assert {"scenarios", "twin", "learn", "optimizer"} <= {one.parts[1] for one in listed}
