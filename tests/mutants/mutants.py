"""Small changes of the code, one at a time, and the tests that notice them: read from files of this folder.

Each file ``*.toml`` is a list of ``[[mutant]]``: what `Mutant` has. The text that is changed stands in its
file just once, so that the list cannot outlive the code; `tests/test_mutants.py` tells if not.
`benchmarks/mutants.py` runs them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent


class MutantError(ValueError):
    """A list of mutants that is not right, or no longer."""


@dataclass(frozen=True)
class Mutant:
    """One change of the code.

    Parameters
    ----------
    name
        What is wrong with it, in a few words; unique.
    file
        The file that is changed, from the root on.
    old, new
        The text that is replaced, which stands there once, and what replaces it.
    tests
        Files of tests that belong to the code, as few as there are.
    caught_by
        The test that fails, as pytest names it, without parameters; empty for a survivor.
    survives
        Of a survivor: why it changes nothing that matters.
    interpreted
        Whether compiled loops run in plain Python (`tests.mutants.interpreted`): compiling them anew takes
        longer than all else. Of a file whose code is compiled, for tests that play few requests.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    caught_by: str = ""
    survives: str = ""
    interpreted: bool = False

    @classmethod
    def of(cls, values: dict[str, Any]) -> Mutant:
        """A mutant of its values in a file.

        Raises
        ------
        MutantError
            If a value is missing or unknown.
        """
        try:
            return cls(**{**values, "tests": tuple(values["tests"])})
        except (TypeError, KeyError) as error:
            raise MutantError(f"mutant {values.get('name', '')!r}: {error}") from None

    def applied(self, text: str) -> str:
        """The text of its file, changed.

        Raises
        ------
        MutantError
            If what is to be changed is not there once.
        """
        count = text.count(self.old)
        if count != 1 or self.old == self.new:
            raise MutantError(
                f"mutant {self.name!r}: its old text stands {count} times in {self.file}, not once"
            )
        return text.replace(self.old, self.new)


def read_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants of a folder's files, in the order of the files' names.

    Raises
    ------
    MutantError
        If one lacks something, or two have the same name.
    """
    files = sorted(folder.glob("*.toml"))
    tables = (tomllib.loads(file.read_text(encoding="utf-8"))["mutant"] for file in files)
    mutants = [Mutant.of(values) for table in tables for values in table]
    names = [mutant.name for mutant in mutants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise MutantError(f"mutants of the same name: {', '.join(twice)}")
    return mutants
