"""Flags of a command line, taken apart as vLLM's own parser does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

from scenarios.importers.servers.engine_values import LISTS, refused, whole_number
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.text.formatting import shown

SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-dcp": "decode-context-parallel-size",
    "-pcp": "prefill-context-parallel-size",
    "-ep": "enable-expert-parallel",
    "-q": "quantization",
    "-O": "optimization-level",
    "-cc": "compilation-config",
    "-sc": "speculative-config",
}
"""Short flags (vllm/engine/arg_utils.py and, of ``-O``, vllm/utils/argparse_utils.py, 0.32.0)."""

_SEVERAL = frozenset({*LISTS, "lora_modules", "lora_paths", "served_model_name", "middleware"})
"""Flags with any number of values."""

_FLAG = re.compile(r"--?[A-Za-z][\w.+-]*(?:=.*)?", re.DOTALL)

_DEEPEST = 20
"""Deepest key of a flag with dots."""


MOST_VALUES = 250_000
"""Most words that one flag takes."""


class Flags(NamedTuple):
    """A command line's flags.

    Parameters
    ----------
    values
        By name with underscores: the texts after a flag, or True and False of a switch.
    loose
        Words that belong to no flag: the model.
    """

    values: dict[str, str | bool | list[str]]
    loose: tuple[str, ...]


def flags_of(words: Sequence[str], origin: str, single: frozenset[str], switches: frozenset[str]) -> Flags:
    """Take a command line's words apart; of a flag that is given twice, the last counts.

    Parameters
    ----------
    words
        Those after the command.
    origin
        Where they are, for messages.
    single
        Names that take one value; of names that are not known, all words up to the next flag are.
    switches
        Names that take none.

    Raises
    ------
    ImportSourceError
        If a flag with dots cannot be meant.
    """
    values: dict[str, str | bool | list[str]] = {}
    dotted: dict[str, dict[str, object]] = {}
    loose: list[str] = []
    k = 0
    while k < len(words):
        word = words[k]
        k += 1
        if word == "--":
            continue
        if not _FLAG.fullmatch(word):
            loose.append(word)
            continue
        name, inline = _named(word)
        if "." in name:
            value = inline
            if value is None and k < len(words):
                value, k = words[k], k + 1
            _put(dotted, name, value, origin)
            continue
        k += _take(values, name, inline, words[k : k + MOST_VALUES], single, switches)
    for name, settings in dotted.items():
        values[name] = json.dumps(settings)
    return Flags(values, tuple(loose))


def _take(
    values: dict[str, str | bool | list[str]],
    name: str,
    inline: str | None,
    after: Sequence[str],
    single: frozenset[str],
    switches: frozenset[str],
) -> int:
    """Put a flag's value, and return how many words after it belong to it."""
    first = after[0] if after and not _FLAG.fullmatch(after[0]) else None
    if name in switches and inline is None:
        is_told = first is not None and first.lower() in ("true", "false")
        values[name] = first if is_told and first is not None else True
        return int(is_told)
    if name.startswith("no_") and inline is None and name not in single:
        values[name.removeprefix("no_")] = False
        return 0
    if inline is not None and name not in _SEVERAL:
        values[name] = inline
        return 0
    if name in single and name not in _SEVERAL:
        values[name] = True if first is None else first
        return int(first is not None)
    taken = list(takewhile(lambda word: not _FLAG.fullmatch(word), after))
    values[name] = [*([] if inline is None else [inline]), *taken] or True
    return len(taken)


def _named(word: str) -> tuple[str, str | None]:
    """Name and value of a word that is a flag: underscores for hyphens, but for what follows a dot."""
    flag, separator, value = word.partition("=")
    if flag in SHORT:
        flag = f"--{SHORT[flag]}"
    elif re.fullmatch(r"-O\d", flag):
        flag, separator, value = "--optimization-level", "=", flag[2:]
    head, dot, rest = flag.lstrip("-").partition(".")
    return head.replace("-", "_") + dot + rest, value if separator else None


def _put(dotted: dict[str, dict[str, object]], name: str, text: str | None, origin: str) -> None:
    """Put what a flag with dots says into the mapping of its name: ``--speculative-config.method ngram``."""
    head, *keys = name.rstrip("+").split(".")
    if text is None or not all(keys) or len(keys) > _DEEPEST:
        raise refused(f"{origin}, --{head.replace('_', '-')}", "has a key without a value", "give one")
    value: object = text.split(",") if name.endswith("+") else _dotted_value(text)
    settings: dict[str, object] = dotted.setdefault(head, {})
    for key in keys[:-1]:
        inner = settings.setdefault(key, {})
        if not isinstance(inner, dict):
            raise refused(f"{origin}, --{head.replace('_', '-')}", f"gives {key} twice", "keep one")
        settings = inner
    settings[keys[-1]] = value


def _dotted_value(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(ValueError):
        return whole_number(text)
    return text


def modules_of(given: object, origin: str, keys: tuple[str, str]) -> Iterator[Mapping[str, object]]:
    """Yield what each word after ``--lora-modules``, or its like, says: NAME=PATH, or JSON.

    Parameters
    ----------
    given
        The words.
    origin
        Where they are.
    keys
        What JSON calls name and path: ``name`` and ``path`` of vLLM (vllm/entrypoints/launchers/
        cli_args.py, 0.32.0), ``lora_name`` and ``lora_path`` of SGLang (sglang/srt/arg_groups/
        argparse_actions.py and lora_hook.py, 0.5.23).

    Raises
    ------
    ImportSourceError
        If a word is neither.
    """
    name_key, path_key = keys
    for word in given if isinstance(given, list) else [given]:
        if not isinstance(word, str):
            continue
        text = word.strip()
        if not text or UNKNOWN in text:
            continue
        if not text.startswith(("{", "[")):
            name, separator, path = text.partition("=")
            if not separator and name_key == "name":
                raise refused(f"{origin}, --lora-modules", f"is {shown(text)}", "give NAME=PATH, or JSON")
            yield {name_key: name, path_key: path if separator else name}
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise refused(
                f"{origin}, adapters", f"is {shown(text)}, which is no JSON", "correct it"
            ) from error
        for one in value if isinstance(value, list) else [value]:
            told = [one.get(key) for key in keys] if isinstance(one, dict) else []
            if len(told) < 2 or not all(isinstance(part, str) and part for part in told):
                raise refused(f"{origin}, adapters", f"is {shown(one)}", f"give {name_key} and {path_key}")
            yield one
