"""YAML files of a deployment: values through a dumper, and comments that cannot be more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from scenarios.reading.yaml_writer import Dumper
from scenarios.text.display import visible, visible_lines

WIDTH = 1_000_000
"""Columns after which a line may be broken: none, so that a command stays one line to look for."""


_NUMBER_LIKE = frozenset("+-.0123456789")
_SWITCH_LIKE = frozenset("yYnN")


class _Dumper(Dumper):
    """Writes texts in quotes that readers of other YAML than ours take for more."""


def _write_text(dumper: Any, text: str) -> Any:
    """Represent text in quotes where part of it would not be seen, or where some reader takes it for more.

    PyYAML quotes what YAML 1.1 reads as a number or a switch as it knows it; ``1e3``, ``0o7`` and ``y`` are
    such to other readers.
    """
    quoted = visible(text) != text or text[:1] in _NUMBER_LIKE or text in _SWITCH_LIKE
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if quoted else None)


_Dumper.add_representer(str, _write_text)


def comment_lines(sentences: Sequence[str]) -> str:
    """Sentences as lines of comments that begin with ``#``, which no text in them can end."""
    return "".join(f"# {visible(sentence)}".rstrip() + "\n" for sentence in sentences)


def yaml_text(documents: Sequence[Mapping[str, object]], comments: Sequence[str] = ()) -> str:
    """Return documents as one YAML file.

    Parameters
    ----------
    documents
        Each of plain values: mappings, lists, texts, numbers, switches and None.
    comments
        Sentences to stand above them.
    """
    body = yaml.dump_all(
        [_plain(document) for document in documents],
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        explicit_start=len(documents) > 1,
        width=WIDTH,
    )
    return comment_lines(comments) + visible_lines(str(body))  # YAML's escapes are the same


def _plain(value: object) -> object:
    """The value with dicts and lists for what is like them, as the dumper knows them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
