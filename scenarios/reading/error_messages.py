"""pydantic's errors in a user's words: path, value, remedy and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from scenarios.errors import Problem
from scenarios.reading import text_patterns
from scenarios.reading.findings import FINDING, Finding, Loc, is_tag
from scenarios.reading.yaml_reader import FILE, path_text, walk
from scenarios.text.formatting import bracketed, choice, nearest, shortened, shown, suggestion

_REMEDIES = {
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "int_parsing": "give a whole number",
    "int_parsing_size": "give a smaller number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "string_type": "give text; put it in quotes if it looks like something else",
    "string_unicode": "write whole characters: it has half of a surrogate pair",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "tuple_type": "give a list",
    "dict_type": "give a mapping of keys and values",
    "model_type": "give a mapping of keys and values",
    "model_attributes_type": "give a mapping of keys and values",
}
"""What to give, by pydantic's type of the error."""

FEW_KEYS = 6
"""Most keys that are listed beside the one that was most likely meant."""

MANY_KEYS = 40
"""Most keys that are listed at all."""

_BOUNDS = {
    "greater_than": ("gt", "a number above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "a number below"),
    "less_than_equal": ("le", "at most"),
}


def problems(errors: Iterable[ErrorDetails], model: type[BaseModel], root: object) -> list[Problem]:
    """Put pydantic's errors into words.

    Parameters
    ----------
    errors
        Of validating ``root`` as ``model``.
    model
        The model at the top of the file.
    root
        The file's values, with lines if they came from a file.
    """
    told = [error for error in errors if not _is_echo(error)]
    misspelt = _misspelt(told, model)
    return [
        _problem(error, model, root)
        for error in told
        if error["type"] != "missing" or tuple(error["loc"]) not in misspelt
    ]


def sentences(error: ValidationError, model: type[BaseModel], root: object, most: int) -> list[str]:
    """What is wrong with values that are no scenario's; what a model's own validator says stays as it is.

    Parameters
    ----------
    error
        Of validating ``root`` as ``model``.
    model, root
        As of `problems`.
    most
        Most errors that are told.
    """
    errors = error.errors(include_url=False)[:most]
    own = [str(one["ctx"]["error"]) for one in errors if one["type"] == "value_error"]
    return [*own, *map(str, problems([one for one in errors if one["type"] != "value_error"], model, root))]


def finding_problem(finding: Finding, model: type[BaseModel], root: object) -> Problem:
    """Return a finding about a model's values as a problem with its line.

    The path names the field even where the file leaves it at its default.
    """
    loc = finding.loc
    parents, _ = _forms_at(model, loc[:-1])
    last = loc[-1] if loc else None
    is_field = any(last in parent.model_fields for parent in _models(parents))
    steps = [key for key, *_ in walk(root, loc)]
    missing = str(last) if is_field and (not steps or steps[-1] != last) else None
    return located(loc, finding.message, finding.remedy, root, missing)


def about_value(error: ErrorDetails) -> str:
    """Put an error of one value that was typed into words: ``"1m"; give a number``."""
    _, remedy = _in_words(error["type"], error["input"], error.get("ctx", {}))
    return f'"{shortened(str(error["input"]))}"; {remedy}'


def located(loc: Loc, message: str, remedy: str, root: object, missing: str | int | None = None) -> Problem:
    """Return a problem at loc, with the path and the line of as much of loc as the file holds."""
    steps = list(walk(root, loc))
    keys: Loc = tuple(key for key, *_ in steps)
    line = steps[-1][2] if steps else getattr(root, "line", None)
    path = path_text(keys if missing is None else (*keys, missing))
    return Problem(path or FILE, message, remedy, line)


def _is_echo(detail: ErrorDetails) -> bool:
    """Tell whether a list is called too short only because its items are wrong, which is told apart."""
    value = detail["input"]
    is_list = detail["type"] == "too_short" and isinstance(value, list | tuple)
    return is_list and len(value) >= detail["ctx"]["min_length"]


def _misspelt(errors: Iterable[ErrorDetails], model: type[BaseModel]) -> set[Loc]:
    """Return where keys may be missing only because an unknown key, which is told, is meant to be them."""
    unknown = [tuple(error["loc"]) for error in errors if error["type"] == "extra_forbidden"]
    meant = {loc: nearest(str(loc[-1]), _keys(_forms_at(model, loc[:-1])[0])) for loc in unknown}
    return {(*loc[:-1], key) for loc, key in meant.items() if key is not None}


def _problem(detail: ErrorDetails, model: type[BaseModel], root: object) -> Problem:
    loc = tuple(detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    forms, info = _forms_at(model, loc)
    about = _about(info)
    if kind == FINDING:
        finding = Finding(loc, str(context["message"]), str(context["remedy"]))
        return finding_problem(finding, model, root)
    if kind == "missing":
        return located(loc[:-1], "is missing", f"add it{about}", root, missing=loc[-1])
    if kind == "extra_forbidden":
        parents, _ = _forms_at(model, loc[:-1])
        remedy = _known_keys(str(loc[-1]), parents, is_bare=value is None)
        return located(loc, "is not a key that exists here", remedy, root)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = str(context["discriminator"]).strip("'")
        tags = [tag for m in _models(forms) for tag in get_args(m.model_fields[key].annotation)]
        if kind == "union_tag_not_found":
            close = nearest(key, value) if isinstance(value, Mapping) else None
            if close is not None:
                return located((*loc, close), "is not a key that exists here", f'did you mean "{key}"?', root)
            return located(loc, "is missing", f"add it: {choice(sorted(tags))}", root, missing=key)
        tag = value.get(key) if isinstance(value, Mapping) else context["tag"]
        return located((*loc, key), f"is {shown(tag)}", _use(tag, tags), root)
    if (listed := _as_list(kind, value, info)) is not None:
        return located(loc, f"is {shown(value)}", f"write {listed}{about}", root)
    if kind == "literal_error":
        choices = [c for form in forms if get_origin(form.kind) is Literal for c in get_args(form.kind)]
        return located(loc, f"is {shown(value)}", _use(value, choices) + about, root)
    if value is None:
        remove = "" if info is not None and info.is_required() else " or remove the key"
        return located(loc, "is empty", f"give it a value{remove}{about}", root)
    message, remedy = _in_words(kind, value, context)
    if kind in ("model_type", "model_attributes_type"):
        remedy = f"give a mapping with the keys {choice(_keys(forms), 'and')}"
    return located(loc, message, remedy + about, root)


def _as_list(kind: str, value: object, info: FieldInfo | None) -> str | None:
    """Return the list that is meant by items with commas, or by one item where there must be a list."""
    if isinstance(value, str) and "," in value and info is not None:
        may_be_list = any(get_origin(form.kind) is tuple for form in _forms(info.annotation))
        return bracketed(value) if may_be_list else None
    lists = [] if info is None else [f.kind for f in _forms(info.annotation) if get_origin(f.kind) is tuple]
    items = [item.kind for kind_of_list in lists for item in _forms(get_args(kind_of_list)[0])]
    plain = tuple(item for item in items if item in (str, int, float)) + (str,) * (
        Literal in map(get_origin, items)
    )
    is_item = isinstance(value, plain) and not isinstance(value, bool)
    return bracketed(str(value)) if kind == "tuple_type" and is_item else None


def _about(info: FieldInfo | None) -> str:
    """Return what a field is, in brackets and on one line."""
    description = "" if info is None or info.description is None else " ".join(info.description.split())
    return f" ({description.rstrip('.')})" if description else ""


def _in_words(kind: str, value: object, context: Mapping[str, Any]) -> tuple[str, str]:
    """Return message and remedy of an error that concerns one value."""
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"is {shown(value)}", f"give {words} {_number(context[key])}"
    if kind == "string_pattern_mismatch" and context["pattern"] in text_patterns.REMEDIES:
        return f"is {shown(value)}", text_patterns.REMEDIES[context["pattern"]]
    if kind in _REMEDIES:
        return f"is {shown(value)}", _REMEDIES[kind]
    if kind == "too_short":
        count = context["min_length"]
        return f"is {shown(value)}", f"give at least {count} item{'s' if count > 1 else ''}"
    if kind == "string_too_short":
        return "is empty text", "give it a value"
    if kind == "string_too_long":
        return f"is a text of {len(str(value)):,} characters", f"use at most {context['max_length']}"
    return f"is {shown(value)}, which is not accepted", f"correct it: {context.get('error', kind)}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{int(value):,}"


def _use(value: object, choices: Sequence[object]) -> str:
    return f"{suggestion(value, choices)} use {choice(choices)}".lstrip()


def _known_keys(key: str, parents: Iterable[_Form], *, is_bare: bool) -> str:
    """Return what to do about an unknown key; a bare one may be an item of a list without its brackets."""
    known = _keys(parents)
    many = len(known) > MANY_KEYS
    keys = "`lorapack scenarios schema` tells the keys" if many else f"the keys are {choice(known, 'and')}"
    if close := suggestion(key, known):
        return f"{close} {keys}" if len(known) <= FEW_KEYS else close
    point = " and decimals with a point" if key.isdigit() else ""
    remedy = f"write lists in brackets, as [8, 16],{point} or remove it" if is_bare else "remove it"
    return f"{remedy}; {keys}"


def _keys(forms: Iterable[_Form]) -> list[str]:
    """Return the keys that a mapping of these forms may have."""
    return sorted({name for model in _models(forms) for name in model.model_fields})


class _Form(NamedTuple):
    """One of the forms that a value may have.

    Parameters
    ----------
    kind
        Its type, without what is around it.
    tag
        By which pydantic tells it from the others; None where a model has its own, or there is none.
    """

    kind: object
    tag: str | None = None


def _forms_at(model: type[BaseModel], loc: Loc) -> tuple[list[_Form], FieldInfo | None]:
    """Return the forms that a value at loc may have, and the last field on the way there.

    Besides keys and indices, loc holds the tags of pydantic's tagged unions, which narrow the forms.
    """
    forms, info = [_Form(model)], None
    for step in loc:
        field = next((m.model_fields[step] for m in _models(forms) if step in m.model_fields), None)
        if field is not None:
            forms, info = _forms(field.annotation), field
        elif tagged := [form for form in forms if step in _tags(form)]:
            forms = tagged
        elif items := [item for form in forms for item in _items(form.kind)]:
            forms = items
    return forms, info


def _forms(annotation: object, tag: str | None = None) -> list[_Form]:
    """Return the forms that a type allows, each for itself."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _forms(parts[0], next((extra.tag for extra in parts[1:] if isinstance(extra, Tag)), tag))
    if origin in (Union, UnionType):
        return [form for part in parts for form in _forms(part, tag)]
    return [_Form(annotation, tag)]


def _tags(form: _Form) -> set[object]:
    fields = (info for model in _models([form]) for info in model.model_fields.values())
    return {form.tag, *(info.default for info in fields if is_tag(info))}


def _items(kind: object) -> list[_Form]:
    """Return the forms of what a list or a mapping holds."""
    is_collection = get_origin(kind) in (tuple, list, dict)
    return [form for part in get_args(kind) for form in _forms(part)] if is_collection else []


def _models(forms: Iterable[_Form]) -> list[type[BaseModel]]:
    return [form.kind for form in forms if isinstance(form.kind, type) and issubclass(form.kind, BaseModel)]
