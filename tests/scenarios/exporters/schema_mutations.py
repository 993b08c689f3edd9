"""Documents changed by one field, which their schemas must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

Document = dict[str, Any]


class Mutation(NamedTuple):
    """A place in a document, and the field that is taken away there; None: one more is put in."""

    schema: str
    path: tuple[Any, ...]
    missing: str | None

    def of(self, document: Document) -> Document:
        changed = deepcopy(document)
        target: Any = changed
        for step in self.path:
            target = target[step]
        if self.missing is None:
            target["unknownField"] = "x"
        else:
            del target[self.missing]
        return changed


def nodes(rule: Mapping[str, Any], value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Objects in a document, by their paths, with the rules for them."""
    for branch in rule.get("oneOf", ()):
        if Draft202012Validator(branch).is_valid(value):
            rule = branch
    if isinstance(value, dict):
        yield path, rule
        for key, inner in value.items():
            others = rule.get("additionalProperties")
            below = rule.get("properties", {}).get(key, others if isinstance(others, dict) else {})
            yield from nodes(below, inner, (*path, key))
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield from nodes(rule.get("items") or {}, inner, (*path, k))


def mutations(samples: Mapping[str, Document], schema: Callable[[str], Mapping[str, Any]]) -> list[Any]:
    """A mutation for each field that a schema requires, and one for each object that takes no others."""
    found = []
    for name, document in sorted(samples.items()):
        seen = set()
        for path, rule in nodes(schema(name), document):
            place = (name, *("*" if isinstance(step, int) else step for step in path))
            if place in seen:
                continue
            seen.add(place)
            where = ".".join(map(str, place))
            if rule.get("additionalProperties") is False:
                found.append(pytest.param(Mutation(name, path, None), id=f"{where}+unknown"))
            found += [
                pytest.param(Mutation(name, path, key), id=f"{where}-{key}")
                for key in rule.get("required", ())
            ]
    return found
