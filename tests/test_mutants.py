"""The lists of mutants are true: each change can still be made, and each test that notices one is there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.mutants import ROOT, Mutant, MutantError, read_mutants
from tests.sources import tree_of

LEAST_CAUGHT = 0.9
"""Share of the mutants that a test notices."""


@cache
def functions(path: Path) -> set[str]:
    """Names of the tests of a file."""
    return {node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)}


def test_every_mutant_can_still_be_made() -> None:
    for mutant in read_mutants():
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        try:
            ast.parse(mutant.applied(text))
        except SyntaxError as error:
            pytest.fail(f"mutant {mutant.name!r}: {error}")


def test_every_mutant_is_caught_by_a_test_or_explained() -> None:
    mutants = read_mutants()
    for mutant in mutants:
        assert bool(mutant.caught_by) != bool(mutant.survives), mutant.name
        assert mutant.tests, mutant.name
        assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests), mutant.name
    caught = [mutant for mutant in mutants if mutant.caught_by]
    assert len(caught) >= LEAST_CAUGHT * len(mutants)


def test_every_test_that_catches_one_is_there() -> None:
    tests = {mutant.caught_by for mutant in read_mutants() if mutant.caught_by}
    for test in tests:
        file, _, name = test.partition("::")
        assert name in functions(ROOT / file), test


def test_a_mutant_whose_text_is_gone_is_told() -> None:
    mutant = Mutant("m", "a.py", "x = 1", "x = 2", ("tests",))
    assert mutant.applied("x = 1\n") == "x = 2\n"
    for text in ("", "x = 1\nx = 1\n"):
        with pytest.raises(MutantError, match=r"times in a\.py, not once"):
            mutant.applied(text)


def test_lists_that_are_wrong_are_told(tmp_path: Path) -> None:
    entry = '[[mutant]]\nname = "a"\nfile = "f"\nold = "1"\nnew = "2"\ntests = ["t"]\n'
    (tmp_path / "a.toml").write_text(entry)
    (tmp_path / "b.toml").write_text(entry.replace('"a"', '"b"'))
    assert [mutant.name for mutant in read_mutants(tmp_path)] == ["a", "b"]
    (tmp_path / "b.toml").write_text(entry)
    with pytest.raises(MutantError, match="same name: a"):
        read_mutants(tmp_path)
    for wrong in (entry.replace("old", "odl"), entry.replace('tests = ["t"]', "")):
        (tmp_path / "b.toml").write_text(wrong)
        with pytest.raises(MutantError, match="mutant 'a'"):
            read_mutants(tmp_path)
