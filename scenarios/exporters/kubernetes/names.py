"""Names of Kubernetes made of names of ours: DNS labels and values of labels (RFC 1123)."""

from __future__ import annotations

import re
from hashlib import sha256

from scenarios.errors import Problem
from scenarios.exporters.deployment import Deployment, ExportError

MOST = 63
"""Most characters of a DNS label, and of the value of a label."""

_DIGITS = 8
_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def dns_label(text: str, room: int = MOST) -> str:
    """Text as a DNS label that begins with a letter, as names of Services do (RFC 1035).

    What is one already stays as it is. Another becomes lower case, with ``-`` for what a label cannot hold,
    and gets the beginning of its SHA-256, so that two names do not become one.
    """
    if _LABEL.fullmatch(text) and len(text) <= room:
        return text
    digest = sha256(text.encode(errors="backslashreplace")).hexdigest()[:_DIGITS]
    cleaned = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    kept = cleaned[: room - _DIGITS - 1].strip("-")
    return f"{kept}-{digest}" if _LABEL.fullmatch(kept) else f"x-{digest}"


def object_name(prefix: str, text: str) -> str:
    """The name of an object that belongs to something: `prefix` and text as a DNS label."""
    return f"{prefix}-{dns_label(text, MOST - len(prefix) - 1)}"


def checked_names(deployment: Deployment) -> None:
    """Refuse groups whose names leave no room for others after them.

    Raises
    ------
    ExportError
        If a GPU has a number of very many digits.
    """
    for group in deployment.groups:
        if len(group.name) > MOST - _DIGITS - 5:
            message = f'is {group.number}, and "{group.name}" is too long for names of Kubernetes'
            raise ExportError([Problem("gpus", message, "number GPUs from 0, or shorten export.name")])
