"""Names of base models, which sources write in several ways."""

from __future__ import annotations

import re

_CACHED = re.compile(r"(?:^|/)models--([^/]+)/snapshots/[^/]+/?$")


def plain_model(name: str) -> str:
    """A model's name without owner, folder and capitals, by which two ways to write it are compared."""
    return hub_name(name).rstrip("/").rsplit("/", 1)[-1].lower()


def hub_name(name: str) -> str:
    """The name on the hub of a model in the folder of the hub's cache; of others the name itself.

    Its folders are ``models--OWNER--NAME/snapshots/REVISION`` (huggingface_hub, file_download.py,
    `repo_folder_name`, 2.4.0).
    """
    found = _CACHED.search(name)
    return name if found is None else found[1].replace("--", "/")
