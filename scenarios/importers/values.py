"""Values of a file to be written, each with its comment; what is missing is null, and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scenarios.importers.facts import Said
from scenarios.reading.commented_yaml import Comments, commented_yaml
from scenarios.reading.findings import Loc
from scenarios.text.formatting import listed

NAMED = 5
"""Adapters that are named where something is missing of several."""


@dataclass(frozen=True)
class Values:
    """A file to be written.

    Parameters
    ----------
    values
        What it holds.
    beside, above
        Comments, by the place of the value.
    missing
        What is missing, one sentence each.
    notes
        What else is told.
    head
        Lines of comment at the top.
    """

    values: Mapping[str, object]
    beside: Mapping[Loc, str]
    above: Mapping[Loc, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    head: tuple[str, ...] = ()

    def text(self) -> str:
        """The file as YAML."""
        return commented_yaml(self.values, Comments(self.beside, self.above), self.head)


@dataclass
class ValuesBuilder:
    """Collects values with their comments."""

    values: dict[str, object] = field(default_factory=dict)
    beside: dict[Loc, str] = field(default_factory=dict)
    above: dict[Loc, str] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, into: dict[str, object], loc: Loc, said: Said[object] | None, shown: object = None) -> None:
        """Put a value that a source says, if one does, with where.

        Parameters
        ----------
        into
            The mapping that gets it, at the last step of ``loc``.
        loc
            Its place in the file.
        said
            The value; None: nobody says it, and nothing is put.
        shown
            The value as it is written; None: as it is.
        """
        if said is None:
            return
        into[str(loc[-1])] = said.value if shown is None else shown
        self.beside[loc] = said.origin

    def lack(self, into: dict[str, object], loc: Loc, what: str, of: str = "", remedy: str = "") -> None:
        """Put null in the place of a value that no source says.

        Parameters
        ----------
        into, loc
            As of `put`.
        what
            What is missing, as it is told of all: ``rate``.
        of
            Whose it is; empty: the file's.
        remedy
            Where it may be found.
        """
        into[str(loc[-1])] = None
        self.above[loc] = f"missing: {what}{f' of {of}' if of else ''}{f'; {remedy}' if remedy else ''}"
        told = self.missing.setdefault(f"{what}{f'; {remedy}' if remedy else ''}", [])
        if of:
            told.append(of)

    def built(self, head: tuple[str, ...] = ()) -> Values:
        """What was collected."""
        return Values(self.values, self.beside, self.above, self._missing(), tuple(self.notes), head)

    def _missing(self) -> tuple[str, ...]:
        sentences = []
        for what, owners in self.missing.items():
            name, _, remedy = what.partition("; ")
            whose = f" of {listed(owners, NAMED)}" if owners else ""
            sentences.append(f"{name}{whose}{f' ({remedy})' if remedy else ''}")
        return tuple(sentences)
