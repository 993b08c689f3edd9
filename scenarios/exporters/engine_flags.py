"""An engine's arguments as flags of vLLM's command line, and as keys of its configuration files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

NEGATABLE = "--no-"


def flags(arguments: Mapping[str, object]) -> Iterator[str]:
    """Yield the words of a command line, unquoted: ``--max-model-len``, ``16384``.

    Switches of vLLM are ``--enable-lora`` and ``--no-enable-lora`` (argparse's BooleanOptionalAction,
    vllm/engine/arg_utils.py); a list is one word after another; what is a mapping is JSON.
    """
    for name, value in arguments.items():
        word = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{word}" if value else f"{NEGATABLE}{word}"
        elif isinstance(value, list | tuple):
            yield f"--{word}"
            yield from map(str, value)
        elif value is not None:
            yield f"--{word}"
            yield json.dumps(value) if isinstance(value, Mapping) else str(value)
