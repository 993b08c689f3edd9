"""Documents of YAML or JSON files: manifests of Kubernetes, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import yaml

from scenarios.errors import ScenarioError
from scenarios.importers.source import Source
from scenarios.reading.yaml_reader import parse, plain
from scenarios.text.formatting import shown

MOST_DOCUMENTS = 250_000
"""Most documents of a file."""


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
    """

    source: Source
    number: int
    values: dict[str, object]

    @property
    def kind(self) -> str:
        """Its group and kind: ``model.aibrix.ai ModelAdapter``."""
        group = str(self.values.get("apiVersion", "")).rpartition("/")[0]
        return f"{group} {self.values.get('kind', '')}".strip()

    def origin(self, path: str) -> str:
        """Where a value stands, for a comment."""
        return f"{self.source.path.name}, document {self.number}: {path}"

    def text(self, path: str, *, required: bool = False) -> str | None:
        """The text at a path of keys, as ``spec.baseModel``; None where there is none.

        Raises
        ------
        ImportSourceError
            If it is no text, or is missing though every such document has one.
        """
        value = self.value(path)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value:
            wrong = "is missing" if value is None else f"is {shown(value)}, no text"
            raise self.wrong(path, wrong, "correct it")
        return value

    def value(self, path: str) -> object:
        """The value at a path of keys; None where there is none."""
        value: object = self.values
        for key in path.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def items(self, path: str) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield the mappings of a list, each with its path.

        Raises
        ------
        ImportSourceError
            If it is no list of mappings.
        """
        value = self.value(path)
        if value is None:
            return
        if not isinstance(value, tuple):
            raise self.wrong(path, f"is {shown(value)}, no list", "correct it")
        for k, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.wrong(f"{path}[{k}]", f"is {shown(item)}, no mapping", "correct it")
            yield f"{path}[{k}]", cast("dict[str, object]", item)

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

    def wrong(self, path: str, message: str, remedy: str) -> Exception:
        """An error about a value."""
        return self.source.error(message, remedy, f"document {self.number}, {path}")


def documents(source: Source) -> list[Document]:
    """The documents of a file, those of a Kubernetes List one by one; what is no mapping is left out.

    Raises
    ------
    ImportSourceError
        If the file is no YAML.
    """
    found: list[Document] = []
    number = 0
    for text in _texts(source):
        try:
            value = plain(parse(text, str(source.path)))
        except ScenarioError as error:
            first = error.problems[0]
            raise source.error(f"is no YAML that is read: {first}", "correct it", "the file") from error
        inner = value.get("items") if isinstance(value, dict) and _is_list(value) else (value,)
        for one in inner if isinstance(inner, tuple) else ():
            number += 1
            if number > MOST_DOCUMENTS:
                raise source.error(f"has more than {MOST_DOCUMENTS:,} documents", "divide it")
            if isinstance(one, dict):
                found.append(Document(source, number, cast("dict[str, object]", one)))
    return found


def _is_list(value: dict[str, object]) -> bool:
    return str(value.get("kind", "")).endswith("List") and "items" in value


def _texts(source: Source) -> Iterator[str]:
    """The texts of the documents in a file, divided by lines of three hyphens.

    Raises
    ------
    ImportSourceError
        If it is a template, not YAML yet.
    """
    text = source.text
    if "{{" in text and ("{{-" in text or "{{ ." in text or ".Values" in text):
        message = "is a template of Helm, no manifest"
        raise source.error(message, "render it with `helm template`, or give the values file")
    try:
        marks = [
            (event.start_mark, event.end_mark)
            for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            if isinstance(event, yaml.DocumentStartEvent)
        ]
    except (yaml.YAMLError, ValueError, OverflowError):
        yield text  # reading it as one tells what is wrong, with its line
        return
    starts = [(start.index, end.index) for start, end in marks if start is not None and end is not None]
    for k, (_, begin) in enumerate(starts):
        end = starts[k + 1][0] if k + 1 < len(starts) else len(text)
        yield text[begin:end]
