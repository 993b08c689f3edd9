"""Loops of scripts: each turn that a script tells is a server; what only a run could tell is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenarios import import_fleet
from scenarios.importers.servers.shell import shell_words
from scenarios.importers.servers.shell.arithmetic import worked_out
from scenarios.importers.servers.shell.shell_words import commands_of

SERVE = "vllm serve org/m --enable-lora --max-loras 2 --lora-modules a=/l/a"

TOLD = [
    ("for p in 8000 8001 8002; do\n  {} --port $p &\ndone\n", 3),
    ("for p in 8000 8001; do {} --port ${{p}} & done", 2),
    ("for i in 0 1 2 3; do CUDA_VISIBLE_DEVICES=$i {} --port $((8000 + i)) & done\nwait\n", 4),
    ("for i in {{0..2}}\ndo\n{} --port 800$i &\ndone\n", 3),
    ("for i in $(seq 0 3); do {} --port $((8000+$i)) & done\n", 4),
    ("for i in $(seq 2); do {} --port $((8000+i)) & done\n", 2),
    ("for i in `seq 0 2 4`; do {} --port $((8000+i)) & done\n", 3),
    ("for ((i=0; i<3; i++)); do {} --port $((8000 + i)); done\n", 3),
    ("for (( i = 1; i <= 3; ++i )); do\n {} --port $((8000 + i * 10))\ndone\n", 3),
    ("PORTS='8000 8001'\nfor p in $PORTS; do {} --port $p & done\n", 2),
    ("for h in 1 2; do for p in 8 9; do {} --port 80$h$p & done; done\n", 4),
    ("port=8000\nfor g in 0 1; do {} --port $port &\n port=$((port+1)); done\n", 2),
    ("if true; then for p in 8000 8001; do {} --port $p & done > log; fi\n", 2),
]

NOT_TOLD = [
    "for p in $(cat ports); do {} --port $p & done\n",
    "for p in $PORTS; do {} --port $p & done\n",
    'for p in "$@"; do {} --port $p & done\n',
    "for p; do {} --port $p & done\n",
    "for f in *.env; do {} & done\n",
    "while read p; do {} --port $p & done < ports\n",
    "for ((i=0; i<N; i++)); do {} --port $((8000+i)); done\n",
    "for ((i=0; i<9999999; i++)); do {} --port $((8000+i)); done\n",
    "for p in {{1..99999}}; do {} --port $p; done\n",
    "for p in; do {} --port $p; done\n",
    "{} --port $PORT\n",
    "start() {{ {} --port $1; }}\nstart 8000\nstart 8001\n",
    "{} --port $((BASE + 1))\n",
]


def write(folder: Path, text: str) -> Path:
    path = folder / "start.sh"
    path.write_text("#!/bin/bash\n" + text.format(SERVE))
    return path


@pytest.mark.parametrize(("text", "servers"), TOLD)
def test_each_turn_of_a_loop_that_is_told_is_a_server(tmp_path: Path, text: str, servers: int) -> None:
    fleet = import_fleet(write(tmp_path, text), "devices=H100-64GB")
    assert len(yaml.safe_load(fleet.placement_text)["gpus"]) == servers


@pytest.mark.parametrize("text", NOT_TOLD)
def test_what_only_a_run_tells_is_no_server_but_a_note(tmp_path: Path, text: str) -> None:
    fleet = import_fleet(write(tmp_path, text), "devices=H100-64GB")
    assert fleet.placement_text == ""
    assert any("only a run of its script could tell" in note for note in fleet.notes)
    values = yaml.safe_load(fleet.text)
    assert values["model"] == "org/m"  # what it says of engines is kept
    assert [one["name"] for one in values["adapters"]] == ["a"]


def test_a_command_after_a_loop_that_is_not_told_is_a_server(tmp_path: Path) -> None:
    path = write(tmp_path, "while true; do sleep 1; done\n{} --port 8000\n")
    assert len(yaml.safe_load(import_fleet(path, "devices=H100-64GB").placement_text)["gpus"]) == 1


def test_lines_of_a_loop_are_those_of_its_commands() -> None:
    found = [(c.line, c.words) for c in commands_of("\nfor i in 1 2\ndo\n  run $i\ndone\nlast\n", {})]
    assert [line for line, words in found if words[0] == "run"] == [4, 4]
    assert found[-1] == (6, ["last"])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("8000 + i", 8003),
        ("8000+$i*2", 8006),
        ("(${i} - 1) % 2", 0),
        ("7 / 2", 3),
        ("-i", -3),
        ("i / 0", None),
        ("i ** 9", None),
        ("unknown + 1", None),
        ("i++", None),
        ("a[0]", None),
        ("$(cat x)", None),
        ("__import__('os')", None),
        ("9" * 100, None),
        ("1" * 300, None),
        ("010 + 1", None),
        ("", None),
    ],
)
def test_arithmetic_is_worked_out_where_it_is_plain(expression: str, value: int | None) -> None:
    assert worked_out(expression, {"i": "3"}) == value


def test_loops_within_loops_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_words, "MOST_WORDS", 20_000)
    text = "".join(f"for a{k} in $(seq 0 4000); do " for k in range(6)) + "true; " + "done; " * 6
    with pytest.raises(ValueError, match="is beyond 20,000 words"):
        list(commands_of(text, {}))
