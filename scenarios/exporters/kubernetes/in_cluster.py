"""A deployment as pods see it: names that a cluster takes, and folders where a volume holds them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile
from pathlib import PurePosixPath

from scenarios.export_settings import ExportSettings
from scenarios.exporters.deployment import DeployedAdapter, Deployment
from scenarios.exporters.kubernetes.names import checked_names
from scenarios.exporters.locations import Location

_DEFAULT = ExportSettings.model_fields["adapters_dir"].default


def in_cluster(deployment: Deployment) -> Deployment:
    """The deployment with adapters' folders as containers see them.

    A folder of the machine that made the plan is in no pod. Where a claim is named, or another folder of
    adapters than the default, folders outside it are taken to lie below it as they lie below their common
    parent now.

    Raises
    ------
    ExportError
        If a GPU has a number of very many digits.
    """
    checked_names(deployment)
    settings = deployment.settings
    if settings.storage_claim is None and settings.adapters_dir == _DEFAULT:
        return deployment
    below = PurePosixPath(settings.adapters_dir)
    outside = {adapter.location.path for adapter in _folders(deployment, below) if adapter.location}
    moved = _moved(outside, below)
    groups = tuple(
        replace(group, adapters=tuple(_with_folder(adapter, moved) for adapter in group.adapters))
        for group in deployment.groups
    )
    return replace(deployment, groups=groups)


def moved_folders(deployment: Deployment) -> dict[str, str]:
    """Folders of adapters that are taken to lie elsewhere in pods, and where; of one made by `in_cluster`."""
    places = (a.location for group in deployment.groups for a in group.adapters)
    return {
        place.text: place.path
        for place in places
        if place is not None and place.kind == "folder" and not place.text.endswith(place.path)
    }


def _folders(deployment: Deployment, below: PurePosixPath) -> Iterable[DeployedAdapter]:
    """Adapters in folders that are not below another."""
    for group in deployment.groups:
        for adapter in group.adapters:
            place = adapter.location
            if place is not None and place.kind == "folder":
                path = PurePosixPath(place.path)
                if ".." in path.parts or not path.is_relative_to(below):
                    yield adapter


def _moved(paths: Iterable[str], below: PurePosixPath) -> dict[str, str]:
    """Where folders are below another: under the names that follow what all of them have in common."""
    whole = {path: os.path.normpath(path.lstrip("/") if path.startswith("/") else path) for path in paths}
    plain = {path: PurePosixPath(text) for path, text in whole.items()}
    parents = [inner.parent.parts for inner in plain.values()]
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*parents, strict=False))
    common = sum(1 for _ in alike)
    return {
        path: str(below.joinpath(*(part for part in inner.parts[common:] if part != "..")))
        for path, inner in plain.items()
    }


def _with_folder(adapter: DeployedAdapter, moved: dict[str, str]) -> DeployedAdapter:
    place = adapter.location
    if place is None or place.kind != "folder" or place.path not in moved:
        return adapter
    return replace(adapter, location=Location("folder", moved[place.path], place.text))
