"""A deployment as pods see it: names that a cluster takes, and folders where a volume holds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from scenarios.export_settings import ExportSettings
from scenarios.exporters.deployment import DeployedAdapter, Deployment
from scenarios.exporters.kubernetes.names import checked_names
from scenarios.exporters.locations import Location, location_of
from scenarios.exporters.servers import below_adapters_dir

_DEFAULT = ExportSettings.model_fields["adapters_dir"].default


def in_cluster(deployment: Deployment) -> Deployment:
    """The deployment with adapters' folders as containers see them.

    A folder of the machine that made the plan is in no pod. Where a claim is named, or another folder of
    adapters than the default, a folder outside that is taken to be in it under the adapter's name, which is
    what its last folders are called where it was imported from them. It depends on no other adapter, so that
    it stays where it is in every step of a change.

    Raises
    ------
    ExportError
        If a GPU has a number of very many digits.
    """
    checked_names(deployment)
    settings = deployment.settings
    if settings.storage_claim is None and settings.adapters_dir == _DEFAULT:
        return deployment
    groups = tuple(
        replace(group, adapters=tuple(_with_folder(adapter, deployment) for adapter in group.adapters))
        for group in deployment.groups
    )
    return replace(deployment, groups=groups)


def moved_folders(deployment: Deployment) -> dict[str, str]:
    """Folders of adapters that are taken to lie elsewhere in pods, and where; of one made by `in_cluster`."""
    places = (a.location for group in deployment.groups for a in group.adapters)
    return {
        place.text: place.path
        for place in places
        if place is not None and place.kind == "folder" and location_of(place.text).path != place.path
    }


def _with_folder(adapter: DeployedAdapter, deployment: Deployment) -> DeployedAdapter:
    place = adapter.location
    if place is None or place.kind != "folder":
        return adapter
    path = PurePosixPath(place.path)
    if ".." not in path.parts and path.is_relative_to(deployment.settings.adapters_dir):
        return adapter
    moved = below_adapters_dir(adapter, deployment)
    return adapter if moved is None else replace(adapter, location=Location("folder", moved, place.text))
