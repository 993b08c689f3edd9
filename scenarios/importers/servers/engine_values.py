"""Arguments of an engine, as texts or as values, in the types that a scenario's engine has."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from scenarios.engine import EngineConfig
from scenarios.errors import Problem
from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import ImportSourceError, Said
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.text.display import visible
from scenarios.text.formatting import shortened, shown

OURS = frozenset({"slots"})
"""Fields of a scenario's engine that are no argument of an engine."""

ARGUMENTS = frozenset(EngineConfig.model_fields) - OURS
"""Arguments that a scenario's engine has."""

SWITCHES = frozenset(
    name for name in ARGUMENTS if EngineConfig.model_fields[name].annotation in (bool, bool | None)
)
LISTS = frozenset({"lora_target_modules", "cudagraph_capture_sizes", "kv_cache_dtype_skip_layers"})
SETTINGS = frozenset(
    {"speculative_config", "kv_transfer_config", "limit_mm_per_prompt", "compilation_config"}
)
"""Arguments that are switches, lists, and mappings."""

_NUMBERS = frozenset(
    name
    for name in ARGUMENTS - SWITCHES - LISTS - SETTINGS
    if re.search(r"\b(?:int|float)\b", str(EngineConfig.model_fields[name].annotation))
    or name in ("block_size", "max_lora_rank")
)
_DTYPES = {"half": "float16", "float": "float32"}
"""Other names of types (vllm/config/model.py, 0.32.0)."""

_MULTIPLES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


class EngineValues(NamedTuple):
    """What was taken, and what a user must know of the rest."""

    engine: dict[str, Said[object]]
    notes: tuple[str, ...]


def engine_values(given: Mapping[str, object], origin: str, *, flags: bool = False) -> EngineValues:
    """Take arguments that a scenario's engine has; what it cannot have is left out, and told.

    Parameters
    ----------
    given
        By name in vLLM's words: texts of a command line, or values of a configuration; a flag without a
        value is True. Names that are no argument of a scenario's engine are an error of whoever calls.
    origin
        Where they were said.
    flags
        Whether they stand on a command line, where each is told with its flag.

    Raises
    ------
    ImportSourceError
        If a value is none that any engine takes, such as text for a number.
    """
    engine: dict[str, Said[object]] = {}
    notes: list[str] = []
    for name, raw in given.items():
        flag = f"--{name.replace('_', '-')}" if flags else name
        if raw is None:
            continue
        if _is_unknown(raw):
            notes.append(f"{flag} is {_shown(raw)}, which only a run could tell; it is left out.")
            continue
        if name == "max_model_len" and str(raw) in ("auto", "-1"):
            notes.append(f"{flag} is {raw}: as long as the memory allows; a scenario states it in tokens.")
            continue
        value = _typed(name, raw, f"{origin}, {flag}")
        if _is_possible(name, value):
            engine[name] = Said(value, f"{origin}, {flag}")
        else:
            notes.append(
                f"{flag} is {_shown(value)}, which no engine of a scenario can have; it is left out."
            )
    return EngineValues(engine, tuple(notes))


def whole_number(text: str) -> int:
    """A whole number as vLLM reads it: ``16k`` is 16,000, ``16K`` is 16,384 (vllm/utils/argparse_utils.py,
    ``human_readable_int``, 0.32.0).

    Raises
    ------
    ValueError
        If it is none.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgGtT])", text.strip(), re.ASCII)
    if match is None:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.ASCII):
            raise ValueError(f"{text} is no whole number")
        return int(text)
    number, sign = match.groups()
    return int(float(number) * _MULTIPLES[sign]) if sign.islower() else int(number) * _MULTIPLES[sign]


def plain_settings(value: object) -> object:
    """Settings without what may be secret: values under keys of that kind, and users in addresses."""
    if isinstance(value, Mapping):
        return {
            str(k): plain_settings(v) for k, v in value.items() if not _SECRET.search(str(k)) or _is_count(v)
        }
    if isinstance(value, list | tuple):
        return [plain_settings(item) for item in value]
    return plain_address(value) if isinstance(value, str) and "://" in value else value


def _is_count(value: object) -> bool:
    """Whether a value is a number, as of ``num_speculative_tokens``, and so no secret."""
    return isinstance(value, int | float)


def _is_unknown(raw: object) -> bool:
    texts = raw if isinstance(raw, list | tuple) else [raw]
    return any(isinstance(text, str) and (UNKNOWN in text or text.startswith(("$", "{{"))) for text in texts)


def _shown(raw: object) -> str:
    text = " ".join(map(str, raw)) if isinstance(raw, list | tuple) else str(plain_settings(raw))
    return shortened(visible(text.replace(UNKNOWN, "$")))


def _typed(name: str, raw: object, place: str) -> object:
    """The value in its type."""
    if name in SWITCHES:
        return _switch(raw, place)
    if name in LISTS:
        return _list(name, raw, place)
    if name in SETTINGS:
        return _settings(name, raw, place)
    if name in _NUMBERS:
        return _number(name, raw, place)
    if not isinstance(raw, str) or len(raw) > 1000:
        if raw is True:
            raise refused(place, "has no value", "give it one")
        raise refused(place, f"is {shown(raw)}", "give a name")
    return _DTYPES.get(raw, raw) if name in ("dtype", "lora_dtype") else raw


def _switch(raw: object, place: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    raise refused(place, f"is {shown(raw)}", "give true or false")


def _list(name: str, raw: object, place: str) -> list[object]:
    items = raw if isinstance(raw, list | tuple) else [raw]
    if len(items) == 1 and isinstance(items[0], str) and items[0].startswith("["):
        items = _json(items[0], place)
    if not isinstance(items, list | tuple):
        raise refused(place, f"is {shown(items)}", "give a list")
    if name == "cudagraph_capture_sizes":
        return [_number(name, item, place) for item in items]
    if not all(isinstance(item, str) for item in items):
        raise refused(place, f"is {shown(list(items))}", "give names")
    return [part for item in items for part in str(item).split(",") if part]


def _settings(name: str, raw: object, place: str) -> object:
    value = _json(raw, place) if isinstance(raw, str) else raw
    if name == "compilation_config" and isinstance(value, int) and not isinstance(value, bool):
        return {"level": value}  # as -O3 stands for in vllm/engine/arg_utils.py of 0.8.5
    if not isinstance(value, Mapping):
        raise refused(place, f"is {shown(raw)}", "give a mapping, as JSON")
    return plain_settings(value)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(place, f"is {shown(text)}, which is no JSON", "correct it") from error


def _number(name: str, raw: object, place: str) -> object:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str):
        is_share = "float" in str(EngineConfig.model_fields[name].annotation)
        try:
            if is_share and re.fullmatch(r"[+-]?[\d.]{1,20}(?:[eE][+-]?\d{1,3})?", raw, re.ASCII):
                return float(raw)
            return whole_number(raw)
        except ValueError as error:
            raise refused(place, f"is {shown(raw)}", "give a number") from error
    raise refused(place, "has no value" if raw is True else f"is {shown(raw)}", "give a number")


def _is_possible(name: str, value: object) -> bool:
    """Whether a scenario's engine can have the value."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        _check(name).validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _check(name: str) -> TypeAdapter[Any]:
    field = EngineConfig.model_fields[name]
    annotated: Any = field.annotation
    for one in field.metadata:
        annotated = Annotated[annotated, one]
    return TypeAdapter(annotated)


def refused(place: str, message: str, remedy: str) -> ImportSourceError:
    """An error about a place of a command line."""
    return ImportSourceError([Problem(visible(place), message, remedy)])


def notes_on_unknown(names: Iterator[str] | list[str]) -> tuple[str, ...]:
    """A sentence about flags that no scenario has; their values are never told."""
    told = list(dict.fromkeys(shortened(name.replace(UNKNOWN, "$")) for name in names))
    if not told:
        return ()
    more = f" and {len(told) - 5:,} more" if len(told) > 5 else ""
    return (f"Left out, as no scenario has them: {', '.join(told[:5])}{more}.",)
