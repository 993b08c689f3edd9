"""Damaged files of every kind end soon, in little memory, with an answer or one message in our words.

The same damages on every run; `benchmarks/fuzz_inputs.py` tries many more.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from random import Random

import pytest
from _pytest.mark import ParameterSet

from scenarios import LorapackError
from tests.fuzzing.found import FOUND
from tests.fuzzing.fuzzed import Fuzzed
from tests.fuzzing.judgement import MEMORY, Ending, fault, reads, wrong_words
from tests.fuzzing.kinds import fuzzed_kinds
from tests.fuzzing.mutations import mutation
from tests.slow import slow

FEW, DAMAGES = 20, 200
"""Damages of each kind of file, without the slow tests and with them; of kinds that take longer so many times
fewer as they say."""

NAMES = sorted(fuzzed_kinds())


def damaged(name: str) -> ParameterSet:
    """A kind of file; those of which fewer damages are tried take the most time."""
    takes_long = getattr(fuzzed_kinds()[name], "slow", 1) > 1
    return pytest.param(name, id=name, marks=[pytest.mark.slow] if takes_long else [])


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_read(name: str, tmp_path: Path) -> None:
    kind = fuzzed_kinds()[name]
    ending = kind.read(kind.prepare(tmp_path / "whole"))
    assert ending.code == 0, ending.said


@pytest.mark.parametrize("damages", [FEW, *slow([DAMAGES])])
@pytest.mark.parametrize("name", list(map(damaged, NAMES)))
def test_a_damaged_file_ends_in_an_answer_or_one_message(name: str, damages: int, tmp_path: Path) -> None:
    kind = fuzzed_kinds()[name]
    assert not list(kind.faults(tmp_path / "damaged", range(max(3, damages // kind.slow))))


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_was_found_once_stays_repaired(name: str, tmp_path: Path) -> None:
    assert not list(fuzzed_kinds()[name].faults(tmp_path / "damaged", FOUND[name]))


def test_the_same_number_gives_the_same_damage() -> None:
    content = json.dumps({"a": [1, 2.5, "x"], "b": {"c": None}}).encode()
    damaged = [[mutation(content, "json", "k", number) for number in range(60)] for _ in range(2)]
    assert damaged[0] == damaged[1]
    assert len(set(damaged[0])) > 40
    assert mutation(content, "json", "k", 7) != mutation(content, "json", "other", 7)


def test_every_kind_of_damage_changes_what_it_damages() -> None:
    content = {
        "json": b'{"a": [1, 2], "b": "x"}', "yaml": b"a: [1, 2]\nb: x\n", "csv": b"a,b\n1,2\n3,4\n",
        "text": b"a 1\nb 2\n", "bytes": b"\0\1\2\3\4\5\6\7",
    }  # fmt: skip
    for form, whole in content.items():
        changed = [mutation(whole, form, "k", number) != whole for number in range(100)]  # type: ignore[arg-type]
        assert sum(changed) > 80, form


def _raising(error: BaseException):  # type: ignore[no-untyped-def]
    def read(path: Path) -> None:
        del path
        raise error

    return reads(read)


FAULTS = {
    "an error that is none of ours": (_raising(ValueError("x")), "ValueError: x"),
    "memory": (reads(lambda _: bytearray(2 * MEMORY)), "MemoryError"),
    "the exit code": (_raising(LorapackError("f.csv: x; y")), "exit code 1"),
    "words of others": (
        lambda path: Ending(2, f"{path}: Input should be a valid number; correct it"),
        "words",
    ),
    "no file": (lambda _: Ending(2, "is wrong; correct it"), "does not name the file"),
    "no remedy": (lambda path: Ending(2, f"{path}: is wrong"), "no remedy"),
    "no message": (lambda _: Ending(2, ""), "no message"),
    "an escape": (
        lambda path: Ending(2, f"{path}: \x1b[31m; correct it"),
        "characters that a terminal obeys",
    ),
    "length": (lambda path: Ending(2, f"{path}: {'x' * 30_000}; correct it"), "a message of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_rule_sees(name: str, tmp_path: Path) -> None:
    read, message = FAULTS[name]
    assert fault(read, tmp_path / "f.csv").startswith(message)


def test_the_rule_sees_what_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tests.fuzzing.judgement"), "SECONDS", 0.05)

    def read(path: Path) -> None:
        while True:
            Random(str(path)).random()

    assert "TooLongError" in fault(reads(read), tmp_path / "f")


def test_the_rule_sees_warnings_of_others(tmp_path: Path) -> None:
    import numpy as np

    assert "RuntimeWarning" in fault(reads(lambda _: np.float64(1) / np.zeros(1)), tmp_path / "f")


def test_a_message_with_path_value_and_remedy_is_right(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    assert not wrong_words(f'{path}: line 3: rate is "x"; give a number', path)


def test_a_seal_lets_damage_through_to_what_lies_behind_a_digest() -> None:
    kind = fuzzed_kinds()["regions"]
    assert isinstance(kind, Fuzzed)
    assert kind.seal is not None
    document = json.loads(kind.content)
    changed = {**document, "units": {}}
    sealed = json.loads(kind.seal(json.dumps(changed).encode()))
    assert sealed["sha256"] != document["sha256"]
    assert kind.seal(json.dumps(document).encode()) == json.dumps(document).encode()
