"""Values as YAML with a comment beside each, or above it, which nothing in a comment's text can end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scenarios.reading.findings import Loc
from scenarios.reading.yaml_writer import folded_yaml, plain_yaml
from scenarios.text.display import visible

COMMENT_COLUMN = 44
"""Column at which comments begin, where a value leaves room."""

LONGEST_LINE = 100
"""Most columns of a value on one line; what is longer is laid out on several, as plans are."""

MOST_COMMENT = 200
"""Most characters of a comment."""


@dataclass(frozen=True)
class Comments:
    """Comments by the place of the value.

    Parameters
    ----------
    beside
        What stands at the end of a value's line.
    above
        What stands on a line of its own before it.
    """

    beside: Mapping[Loc, str]
    above: Mapping[Loc, str]


def commented_yaml(values: Mapping[str, object], comments: Comments, head: Sequence[str] = ()) -> str:
    """Return values as YAML, with comments; parts that have none within are on one line if that is short.

    Parameters
    ----------
    values
        What to write: mappings, lists, texts, numbers, true, false and null.
    comments
        What is said of them.
    head
        Lines of comment at the top.
    """
    places = {*comments.beside, *comments.above}
    inner = {place[:k] for place in places for k in range(len(place))}
    lines = [f"# {_harmless(line)}".rstrip() for line in head]
    if lines:
        lines.append("")
    lines += _mapping(values, (), inner, comments, "", "")
    return "\n".join(lines) + "\n"


def _mapping(
    values: Mapping[str, object], loc: Loc, inner: set[Loc], comments: Comments, first: str, indent: str
) -> Iterator[str]:
    """The lines of a mapping, whose first begins with ``first``."""
    begin = first
    for key, value in values.items():
        place = (*loc, key)
        if place in comments.above:
            yield f"{indent}# {_harmless(comments.above[place])}"
        yield from _item(f"{begin}{plain_yaml(str(key))}:", value, place, inner, comments, indent)
        begin = indent


def _item(
    begin: str, value: object, place: Loc, inner: set[Loc], comments: Comments, indent: str
) -> Iterator[str]:
    """The lines of one value after its key."""
    beside = comments.beside.get(place, "")
    if place in inner and isinstance(value, Mapping) and value:
        yield _with_comment(begin, beside)
        yield from _mapping(value, place, inner, comments, f"{indent}  ", f"{indent}  ")
    elif place in inner and isinstance(value, list | tuple) and value:
        yield _with_comment(begin, beside)
        for k, item in enumerate(value):
            here = (*place, k)
            if here in inner and isinstance(item, Mapping) and item:
                if here in comments.above:
                    yield f"{indent}  # {_harmless(comments.above[here])}"
                yield from _mapping(item, here, inner, comments, f"{indent}  - ", f"{indent}    ")
            else:
                yield _with_comment(f"{indent}  - {plain_yaml(item)}", comments.beside.get(here, ""))
    else:
        text = plain_yaml(value)
        if len(begin) + len(text) <= LONGEST_LINE or not isinstance(value, Mapping | list | tuple):
            yield _with_comment(f"{begin} {text}", beside)
            return
        lines = folded_yaml(value)
        if not beside and lines[0].startswith("["):
            lines[0] = f"{begin} {lines[0]}"
            yield lines.pop(0)
        else:
            yield _with_comment(begin, beside)
        yield from (f"{indent}  {line}" for line in lines)


def _with_comment(text: str, comment: str) -> str:
    return f"{text:<{COMMENT_COLUMN}}  # {_harmless(comment)}" if comment else text


def _harmless(text: str) -> str:
    """A comment's text on one line, with nothing in it that a terminal or YAML would obey."""
    line = re.sub(r"\s+", " ", visible(text)).strip()
    return line if len(line) <= MOST_COMMENT else f"{line[: MOST_COMMENT - 4]} ..."
