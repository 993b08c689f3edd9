"""An engine's arguments as flags of vLLM's command line, and as keys of its configuration files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from scenarios.exporters.flag_releases import switch_form, takes_pairs

NEGATABLE = "--no-"


def flags(arguments: Mapping[str, object], release: str | None) -> Iterator[str]:
    """Yield the words of a command line of a release, unquoted: ``--max-model-len``, ``16384``.

    Switches of vLLM are ``--enable-lora`` and ``--no-enable-lora`` (argparse's BooleanOptionalAction,
    vllm/engine/arg_utils.py), in releases before 0.9.0 not all of them; a list is one word after another;
    what is a mapping is JSON.
    """
    for name, value in arguments.items():
        word = name.replace("_", "-")
        if isinstance(value, bool):
            yield from _switch(name, word, value, release)
        elif isinstance(value, list | tuple):
            yield f"--{word}"
            yield from map(str, value)
        elif value is not None:
            text = json.dumps(value) if isinstance(value, Mapping) else str(value)
            yield f"--{word}"
            yield _pairs(text) if takes_pairs(name, release) else text


def _switch(name: str, word: str, value: bool, release: str | None) -> Iterator[str]:
    form = switch_form(name, release)
    if form == "word":
        yield f"--{word}={str(value).lower()}"
    elif value:
        yield f"--{word}"
    elif form == "either":
        yield f"{NEGATABLE}{word}"


def _pairs(text: str) -> str:
    """A mapping in JSON as ``image=2,video=1``; as it is where it is another."""
    try:
        values = json.loads(text)
    except ValueError:
        return text
    if not isinstance(values, dict) or not all(type(value) is int for value in values.values()):
        return text
    return ",".join(f"{key}={value}" for key, value in values.items())
