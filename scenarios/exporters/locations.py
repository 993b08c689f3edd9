"""Where the weights of an adapter are: folders, hubs, buckets and volumes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

LocationKind = Literal["folder", "hub", "s3", "pvc", "http", "other"]

_SCHEMES: dict[str, LocationKind] = {
    "hf": "hub",
    "huggingface": "hub",
    "s3": "s3",
    "pvc": "pvc",
    "http": "http",
    "https": "http",
    "file": "folder",
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Location:
    """Where something lies.

    Parameters
    ----------
    kind
        What kind of place it is.
    path
        The path in it, without a scheme: of a hub the name OWNER/NAME.
    text
        As it was written.
    """

    kind: LocationKind
    path: str
    text: str

    @property
    def plain(self) -> str:
        """As an engine takes it that knows folders and names on the hub."""
        return self.path if self.kind in ("folder", "hub") else self.text


def location_of(text: str) -> Location:
    """Tell what kind of place a source names.

    Two words with one slash between, as ``org/adapter``, are a name on the hub, as vLLM takes them where no
    such folder exists; a folder is written with a slash, or dots and a slash, before it.
    """
    scheme, separator, rest = text.partition("://")
    if separator:
        return Location(_SCHEMES.get(scheme.lower(), "other"), rest, text)
    if _HUB_NAME.fullmatch(text) and ".." not in PurePosixPath(text).parts:
        return Location("hub", text, text)
    return Location("folder", text, text)
