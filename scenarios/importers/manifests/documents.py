"""Documents of YAML or JSON files: manifests of Kubernetes, one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from scenarios.errors import ScenarioError
from scenarios.importers.facts import ImportSourceError
from scenarios.importers.links import LabelRequirement
from scenarios.importers.source import Source
from scenarios.reading.yaml_documents import document_texts
from scenarios.reading.yaml_reader import MAX_NODES, parse, plain
from scenarios.text.display import visible
from scenarios.text.formatting import choice, shown

MOST_DOCUMENTS = 250_000
"""Most documents of a file."""

MOST_REPLICAS = 4096
"""Most replicas of a server that are taken for meant."""

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
"""Of LabelSelectorRequirement: the first two have values."""

_TEMPLATE = re.compile(r"\{\{-?\s*\$?\.(?:Values|Release|Chart|Files|Capabilities|Template)\b")
"""What Helm alone puts in; chats have templates in braces too."""


@dataclass(frozen=True)
class Document:
    """One document of a file.

    Parameters
    ----------
    source
        The file.
    number
        Which of its documents it is, from 1.
    values
        What it holds.
    prefix
        Where these values stand in it, if they are not all of it: ``spec.model.lora.adapters[0].``.
    """

    source: Source
    number: int
    values: Mapping[str, object]
    prefix: str = ""

    @property
    def kind(self) -> str:
        """Its group and kind: ``model.aibrix.ai ModelAdapter``."""
        group = str(self.values.get("apiVersion", "")).rpartition("/")[0]
        return f"{group} {self.values.get('kind', '')}".strip()

    def origin(self, path: str) -> str:
        """Where a value stands, for a comment."""
        return f"{self.source.path.name}, document {self.number}: {self.prefix}{path}"

    def inner(self, path: str) -> Document:
        """The mapping at a path, as a document whose paths begin there; an empty one where there is none.

        Raises
        ------
        ImportSourceError
            If it is no mapping.
        """
        value = self.value(path)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(path, f"is {shown(value)}, no mapping", "correct it")
        return replace(self, values=value or {}, prefix=f"{self.prefix}{path}.")

    def text(self, path: str) -> str | None:
        """The text at a path of keys, as ``spec.baseModel``; None where there is none.

        Raises
        ------
        ImportSourceError
            If it is no text, or an empty one.
        """
        value = self.value(path)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.wrong(path, f"is {shown(value)}, no name", "correct it")
        return value

    def needed(self, path: str) -> str:
        """The text at a path of keys.

        Raises
        ------
        ImportSourceError
            If it is missing, or no text.
        """
        value = self.text(path)
        if value is None:
            raise self.wrong(path, "is missing", "add it: every such object has one")
        return value

    def embedded(self, path: str, text: str) -> Document:
        """The mapping that a text at a path holds as YAML, as a document whose paths begin there.

        Raises
        ------
        ImportSourceError
            If it holds none.
        """
        try:
            value = plain(parse(text, str(self.source.path)))
        except ScenarioError as error:
            raise self.wrong(path, f"is no YAML: {error.problems[0]}", "correct it") from error
        if not isinstance(value, dict):
            raise self.wrong(path, f"holds {shown(value)}, no mapping", "correct it")
        return replace(self, values=value, prefix=f"{self.prefix}{path}, ")

    def value(self, path: str) -> object:
        """The value at a path of keys; None where there is none."""
        value: object = self.values
        for key in path.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def child(self, path: str, key: str) -> Document:
        """The mapping under a key below a path, whatever characters the key has, as `inner`.

        Raises
        ------
        ImportSourceError
            If it is no mapping.
        """
        value = self.inner(path).values.get(key)
        place = f"{path}.{visible(key)}"
        if not isinstance(value, dict):
            raise self.wrong(place, f"is {shown(value)}, no mapping", "correct it")
        return replace(self, values=value, prefix=f"{self.prefix}{place}.")

    def items(self, path: str) -> Iterator[Document]:
        """Yield the mappings of a list, as documents whose paths begin there.

        Raises
        ------
        ImportSourceError
            If it is no list of mappings.
        """
        for k, item in enumerate(self._list(path)):
            if not isinstance(item, dict):
                raise self.wrong(f"{path}[{k}]", f"is {shown(item)}, no mapping", "correct it")
            yield replace(self, values=item, prefix=f"{self.prefix}{path}[{k}].")

    def words(self, path: str) -> list[str]:
        """The texts of a list; numbers are taken as they are written.

        Raises
        ------
        ImportSourceError
            If it is no list of texts.
        """
        found = []
        for k, item in enumerate(self._list(path)):
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                raise self.wrong(f"{path}[{k}]", f"is {shown(item)}, no text", "put it in quotes")
            found.append(str(item))
        return found

    def labels(self, path: str) -> dict[str, str]:
        """The texts of a mapping, by key.

        Raises
        ------
        ImportSourceError
            If it is no mapping of texts.
        """
        inner = self.inner(path)
        for key, value in inner.values.items():
            if not isinstance(value, str):
                raise self.wrong(f"{path}.{key}", f"is {shown(value)}, no text", "put it in quotes")
        return cast("dict[str, str]", inner.values)

    def requirements(self, path: str) -> tuple[LabelRequirement, ...]:
        """The expressions of a selector (``matchExpressions``).

        Raises
        ------
        ImportSourceError
            If one has another operator than Kubernetes knows, or not the values that belong to it.
        """
        return tuple(self._requirement(one) for one in self.items(path))

    @staticmethod
    def _requirement(one: Document) -> LabelRequirement:
        key, operator, values = one.needed("key"), one.needed("operator"), tuple(one.words("values"))
        if operator not in _OPERATORS:
            raise one.wrong("operator", f"is {shown(operator)}", f"choose {choice(_OPERATORS)}")
        if bool(values) != (operator in _OPERATORS[:2]):
            message = f"{'has' if values else 'lacks'} values, with the operator {operator}"
            raise one.wrong("values", message, "correct it")
        return LabelRequirement(key, operator, values)

    def _list(self, path: str) -> tuple[object, ...]:
        value = self.value(path)
        if value is not None and not isinstance(value, tuple):
            raise self.wrong(path, f"is {shown(value)}, no list", "correct it")
        return value or ()

    def replicas(self, path: str) -> int:
        """The number of replicas at a path; Kubernetes takes one where nothing is said.

        Raises
        ------
        ImportSourceError
            If it is no number of replicas.
        """
        number = self.whole(path, 0)
        if number is not None and number > MOST_REPLICAS:
            raise self.wrong(path, f"is {number:,}, above {MOST_REPLICAS:,}", "correct it")
        return 1 if number is None else number

    def whole(self, path: str, least: int = 1) -> int | None:
        """The whole number at a path; None where there is none.

        Raises
        ------
        ImportSourceError
            If it is no whole number of at least ``least``.
        """
        value = self.value(path)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 10_000_000:
            raise self.wrong(path, f"is {shown(value)}, no whole number from {least} on", "correct it")
        return value

    def wrong(self, path: str, message: str, remedy: str) -> ImportSourceError:
        """An error about a value."""
        return self.source.error(message, remedy, f"document {self.number}, {self.prefix}{path}")


def documents(source: Source) -> list[Document]:
    """The documents of a file, those of a Kubernetes List one by one; what is no mapping is left out.

    Raises
    ------
    ImportSourceError
        If the file is no YAML, or a template.
    """
    if _TEMPLATE.search(source.text):
        raise _is_template(source)
    found: list[Document] = []
    number, nodes = 0, 0
    for value in _values(source):
        nodes += _size(value)
        if nodes > MAX_NODES:
            raise source.error(f"holds more than {MAX_NODES:,} values", "divide it")
        inner = value.get("items") if isinstance(value, dict) and _is_list(value) else (value,)
        for one in inner if isinstance(inner, tuple) else ():
            number += 1
            if number > MOST_DOCUMENTS:
                raise source.error(f"has more than {MOST_DOCUMENTS:,} documents", "divide it")
            if isinstance(one, dict):
                found.append(Document(source, number, one))
    return found


def _values(source: Source) -> Iterator[object]:
    """The value of each document of a file; what is said of a document has the lines of the file."""
    lines_before = 0
    try:
        for text, lines_before in document_texts(source.text, str(source.path)):
            yield plain(parse(text, str(source.path), as_json=text.lstrip()[:1] in ("{", "[")))
            lines_before = 0
    except ScenarioError as error:
        if "{{" in source.text:
            raise _is_template(source) from error
        first = error.problems[0]
        if first.line is not None:
            first = replace(first, line=first.line + lines_before)
        raise source.error(f"is no YAML that is read: {first}", "correct it") from error


def _is_template(source: Source) -> ImportSourceError:
    message = "is a template of Helm, no manifest"
    return source.error(message, "render it with `helm template`, or give the values file")


def _size(value: object) -> int:
    """Number of values in a value, with those of its aliases."""
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, tuple) else 1


def _is_list(value: dict[str, object]) -> bool:
    return str(value.get("kind", "")).endswith("List") and "items" in value
