"""What ``lorapack import`` tells: notes in lines, releases, and what is not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimizer.cli.commands import app
from scenarios import ImportSourceError, import_fleet

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an adapter's settings, in which commands are typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    adapter = tmp_path / "adapters" / "fr"
    adapter.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


def test_without_a_server_the_scenario_is_written_and_the_placement_told_of(folder: Path) -> None:
    done = RUN.invoke(app, ["import", "adapters", "--out", "fleet.yaml", "--placement", "now.yaml"])
    assert done.exit_code == 2
    assert (folder / "fleet.yaml").is_file()
    assert not (folder / "now.yaml").exists()
    assert "now.yaml is not written" in done.output
    assert "rate of fr" in done.output  # what the scenario lacks is told all the same


def test_notes_are_as_wide_as_the_terminal(folder: Path) -> None:
    (folder / "start.sh").write_text("vllm serve org/m --enable-lora --lora-modules fr=/l/fr &\n")
    done = RUN.invoke(app, ["import", "start.sh", "--out", "fleet.yaml"])
    assert done.exit_code == 0
    assert "takes no adapters while it runs" in done.output.replace("\n  ", " ")
    assert max(map(len, done.output.splitlines())) <= 80


def test_a_release_of_another_profile_is_told(folder: Path) -> None:
    (folder / "run.sh").write_text("docker run vllm/vllm-openai:v0.11.0 --model llama-3.1-8b-instruct\n")
    said = RUN.invoke(app, ["import", "run.sh", "--out", "fleet.yaml"]).output.replace("\n  ", " ")
    assert "vLLM 0.11.0 runs, and the profiles by which the twin judges are of 0.8.5" in said
    (folder / "run.sh").write_text("docker run vllm/vllm-openai:v0.8.5 --model llama-3.1-8b-instruct\n")
    assert "profiles" not in RUN.invoke(app, ["import", "run.sh", "--out", "fleet.yaml"]).output


def test_a_window_that_is_misspelt_is_told_what_was_meant() -> None:
    with pytest.raises(ImportSourceError, match='did you mean "busiest"'):
        import_fleet("adapters", window="busyest")


def test_what_sources_hold_is_only_shown(folder: Path) -> None:
    (folder / "adapters" / "fr").rename(folder / "adapters" / "a\x1b[31m[bold]b")
    done = RUN.invoke(app, ["import", "adapters", "--out", "fleet.yaml"])
    assert "\x1b" not in done.output
    assert "[bold]" in done.output.replace("\n", "")
