"""What a cluster cannot say of a plan's engines, and what is to be watched there."""

from __future__ import annotations

from scenarios.exporters.deployment import Deployment
from scenarios.exporters.kubernetes.in_cluster import moved_folders
from scenarios.exporters.kubernetes.pods import engine_image, in_claim
from scenarios.exporters.locations import location_of
from scenarios.exporters.servers import (
    NAMED,
    adapter_path,
    path_sentences,
    release_sentences,
    unknown_arguments,
)
from scenarios.text.formatting import listed


def pod_sentences(deployment: Deployment, *, fetched: bool = False) -> tuple[list[str], list[str]]:
    """What is lost, and what is to be watched, of any engine in a cluster.

    Parameters
    ----------
    fetched
        Whether the stack fetches weights itself, so that buckets are no loss and volumes not needed.
    """
    lost, cautions = path_sentences(deployment)
    lost = [] if fetched else lost
    known = deployment.settings.image or (None if fetched else engine_image(deployment))
    cautions = [*release_sentences(deployment, known), *cautions, *unknown_arguments(deployment)]
    kinds = {group.gpu.device: None for group in deployment.groups}
    if len(kinds) > 1:
        which = ", ".join(kinds)
        lost.append(f"Which kind of GPU a group is for ({which}): give its pods a nodeSelector.")
    absent = [path for path in _folders(deployment) if in_claim(path, deployment) is None]
    if absent and not fetched:
        cautions.append(_absent_sentence(listed(absent, NAMED), deployment))
    moved = moved_folders(deployment)
    if moved:
        source, target = next(iter(moved.items()))
        cautions.append(
            f"The plan has folders of {len(moved):,} adapters elsewhere than below "
            f"{deployment.settings.adapters_dir}, and there the pods look for them: copy {source} to "
            f"{target}, and so on."
        )
    return lost, cautions


def _absent_sentence(names: str, deployment: Deployment) -> str:
    """Say which half is missing of a volume that holds folders: the claim, or the place in it."""
    settings = deployment.settings
    below = settings.adapters_dir
    if settings.storage_claim is None:
        return (
            f"No volume holds {names}: name a claim that does (export.storage_claim); it is mounted at "
            f"{below} (export.adapters_dir), and folders of adapters elsewhere are then looked for in it."
        )
    return (
        f"The claim {settings.storage_claim} is mounted at {below}, and {names} is not below: give its path "
        "there (export.model), or mount the claim where it is (export.adapters_dir)."
    )


def _folders(deployment: Deployment) -> list[str]:
    """Folders that the engines read."""
    paths = [
        adapter_path(adapter, deployment)
        for group in deployment.groups
        for adapter in group.adapters
        if adapter.location is None or adapter.location.kind != "hub"
    ]
    paths += [deployment.model] if location_of(deployment.model).kind == "folder" else []
    return list(dict.fromkeys(paths))


def base_sentence(deployment: Deployment) -> list[str]:
    """Say where requests of the base model go that the plan sends to some groups alone."""
    held = [group.name for group in deployment.groups if group.base]
    if not held or len(held) == len(deployment.groups):
        return []
    names = listed(held, NAMED)
    return [f"Requests of the base model go to any engine, though the plan sends them to {names} alone."]
