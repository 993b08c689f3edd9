"""pydantic's errors in a user's words: path, value, remedy and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from scenarios.base import FINDING, Finding, Loc
from scenarios.errors import Problem
from scenarios.reading.yaml_reader import FILE, path_text, walk
from scenarios.words import choice, nearest, shown


def problems(errors: Iterable[ErrorDetails], model: type[BaseModel], root: object) -> list[Problem]:
    """Put pydantic's errors into words.

    Parameters
    ----------
    errors
        What validating ``root`` as ``model`` found.
    model
        The noun at the top of the file.
    root
        The file's values, with lines if they came from a file.
    """
    return [_problem(error, model, root) for error in errors if not _is_echo(error)]


def _is_echo(detail: ErrorDetails) -> bool:
    """Tell whether a list is called too short only because its items are wrong, which is told apart."""
    value = detail["input"]
    is_list = detail["type"] == "too_short" and isinstance(value, list | tuple)
    return is_list and len(value) >= detail["ctx"]["min_length"]


def finding_problem(finding: Finding, root: object) -> Problem:
    """Return a finding about a whole file as a problem with its line."""
    return located(finding.loc, finding.message, finding.remedy, root)


def located(loc: Loc, message: str, remedy: str, root: object, missing: str | None = None) -> Problem:
    """Return a problem at loc, with the path and the line of as much of loc as the file holds."""
    steps = list(walk(root, loc))
    keys: Loc = tuple(key for key, *_ in steps)
    line = steps[-1][2] if steps else getattr(root, "line", None)
    path = path_text(keys if missing is None else (*keys, missing))
    return Problem(path or FILE, message, remedy, line)


def _problem(detail: ErrorDetails, model: type[BaseModel], root: object) -> Problem:
    loc = tuple(detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    nouns, info = _field(model, loc)
    about = f" ({info.description.rstrip('.')})" if info is not None and info.description else ""
    if kind == FINDING:
        return _finding(loc, context, model, root)
    if kind == "missing":
        return located(loc[:-1], "is missing", f"add it{about}", root, missing=str(loc[-1]))
    if kind == "extra_forbidden":
        nouns, _ = _field(model, loc[:-1])
        return located(loc, "is not a key that exists here", _known_keys(str(loc[-1]), nouns), root)
    if kind == "union_tag_not_found":
        tags = choice(sorted(str(tag) for noun in nouns for tag in _tags(noun)))
        return located(loc, "is missing", f"add it: {tags}", root, missing=_tag_key(context))
    if kind == "union_tag_invalid":
        tag = value.get(_tag_key(context)) if isinstance(value, Mapping) else context["tag"]
        message, remedy = _not_a_choice(tag, str(context["expected_tags"]))
        return located((*loc, _tag_key(context)), message, remedy, root)
    message, remedy = _in_words(kind, value, context)
    return located(loc, message, remedy + about, root)


def _tag_key(context: Mapping[str, Any]) -> str:
    return str(context["discriminator"]).strip("'")


def _finding(loc: Loc, context: Mapping[str, Any], model: type[BaseModel], root: object) -> Problem:
    """Return a finding's problem; its path names the field even where the file leaves it at its default."""
    nouns, _ = _field(model, loc[:-1])
    last = loc[-1] if loc else None
    is_field = any(last in noun.model_fields for noun in nouns)
    steps = [key for key, *_ in walk(root, loc)]
    missing = str(last) if is_field and (not steps or steps[-1] != last) else None
    return located(loc, str(context["message"]), str(context["remedy"]), root, missing)


def _in_words(kind: str, value: object, context: Mapping[str, Any]) -> tuple[str, str]:
    """Return message and remedy of an error that concerns one value."""
    bounds = {
        "greater_than": ("gt", "a number above"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "a number below"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in bounds:
        key, words = bounds[kind]
        return f"is {shown(value)}", f"give {words} {_number(context[key])}"
    if kind == "literal_error":
        return _not_a_choice(value, str(context["expected"]))
    if value is None:
        return "is empty", "give it a value or remove the key"
    if kind in _WANTED:
        return f"is {shown(value)}", _WANTED[kind]
    if kind == "too_short":
        return f"is {shown(value)}", f"give at least {_items(context['min_length'])}"
    if kind == "string_too_short":
        return "is empty text", "give it a value"
    if kind == "string_too_long":
        return f"is a text of {len(str(value)):,} characters", f"use at most {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return f"is {shown(value)}", "start with a letter or digit; use letters, digits and . _ / @ + - only"
    return f"is {shown(value)}, which is not accepted", f"correct it: {context.get('error', kind)}"


_WANTED = {
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "int_parsing_size": "give a smaller number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "string_type": "give text; put it in quotes if it looks like something else",
    "bool_type": "give true or false",
    "tuple_type": "give a list",
    "dict_type": "give a mapping of keys and values",
    "model_type": "give a mapping of keys and values",
    "model_attributes_type": "give a mapping of keys and values",
}


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{int(value):,}"


def _not_a_choice(value: object, expected: str) -> tuple[str, str]:
    names = [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")]
    close = nearest(value, names) if isinstance(value, str) else None
    remedy = f'did you mean "{close}"? ' if close else ""
    return f"is {shown(value)}", f"{remedy}use {choice(names)}"


def _known_keys(key: str, nouns: Iterable[type[BaseModel]]) -> str:
    known = sorted({name for noun in nouns for name in noun.model_fields})
    close = nearest(key, known)
    if close:
        return f'did you mean "{close}"?'
    return f"remove it; the keys are {choice(known, 'and')}" if known else "remove it"


def _field(model: type[BaseModel], loc: Loc) -> tuple[list[type[BaseModel]], FieldInfo | None]:
    """Return the nouns that may stand at loc, and the last field on the way there.

    Besides keys and indices, loc holds the tags of pydantic's tagged unions, which narrow the nouns.
    """
    nouns: list[type[BaseModel]] = [model]
    info = None
    for step in loc:
        found = next((noun.model_fields[step] for noun in nouns if step in noun.model_fields), None)
        if found is not None:
            nouns, info = _models(found.annotation), found
        else:
            nouns = [noun for noun in nouns if step in _tags(noun)] or nouns
    return nouns, info


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tags(model: type[BaseModel]) -> set[object]:
    return {
        model.model_fields[key].default for key in ("process", "distribution") if key in model.model_fields
    }
