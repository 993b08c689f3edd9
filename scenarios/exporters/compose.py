"""Target ``compose``: one file of Docker Compose with a service for each GPU."""

from __future__ import annotations

from pathlib import PurePosixPath

from scenarios.errors import Problem
from scenarios.exporters.deployment import Deployment, ExportError, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    SHARES_LOST,
    adapter_path,
    checked_model,
    head,
    path_sentences,
    release_sentences,
    server_flags,
    unknown_arguments,
)
from scenarios.exporters.steps_between.stepping import Change, Stepping, ready_commands
from scenarios.exporters.vllm import module_words
from scenarios.exporters.yaml_text import yaml_text

NAME = "compose"
CHECKED = "Compose specification: compose-spec/compose-spec schema/compose-spec.json @00655e22"
CONTAINER_PORT = 8000


def commands(change: Change) -> list[str]:
    """What is typed for a step: no container that runs is made anew, and those of no service go."""
    return ["docker compose up --detach --no-recreate --remove-orphans", *ready_commands(change)]


STEPS = Stepping(commands, named_at_start=True, routed_beside=True)


def literal(text: str) -> str:
    """Text that Compose leaves as it is: ``$$`` stands for ``$``."""
    return text.replace("$", "$$")


def reserved_gpus(group: Group) -> dict[str, object]:
    """The key ``deploy`` of a service that gets a group's GPUs."""
    device = {
        "driver": "nvidia",
        "device_ids": [str(number) for number in group.devices],
        "capabilities": ["gpu"],
    }
    return {"resources": {"reservations": {"devices": [device]}}}


def folder_mount(folder: str) -> dict[str, object]:
    """A folder of the host, readable at the same path in a container."""
    return {"type": "bind", "source": literal(folder), "target": literal(folder), "read_only": True}


def adapter_folders(group: Group, deployment: Deployment) -> list[str]:
    """Folders of the host that a group's engine reads adapters from.

    Raises
    ------
    ExportError
        If one is relative: a container has no folder that it is relative to.
    """
    folders = {deployment.settings.adapters_dir: None}
    for adapter in group.adapters:
        if adapter.location is not None and adapter.location.kind == "folder":
            path = adapter_path(adapter, deployment)
            if not path.startswith("/") or ".." in path.split("/"):
                message = f'is "{path}", and a container needs a whole path'
                raise ExportError([Problem(f"adapters.{adapter.name}.source", message, "write it out")])
            if not PurePosixPath(path).is_relative_to(deployment.settings.adapters_dir):
                folders[path] = None
    return list(folders)


def export(deployment: Deployment) -> Export:
    """A file of Compose for a deployment."""
    lost, cautions = path_sentences(deployment)
    if deployment.settings.image is None and deployment.engine_version is None:
        message = "is missing, and the plan does not say which release of vLLM was judged"
        raise ExportError([Problem("export.image", message, "name an image")])
    cautions = [*release_sentences(deployment, _image(deployment)), *cautions]
    cautions += unknown_arguments(deployment)
    lost += [SHARES_LOST] * bool(deployment.split)
    if len({group.host for group in deployment.groups}) > 1:
        lost.append("Hosts: Compose runs on one; start there only the services that belong to it.")
    if any(adapter.location is None for group in deployment.groups for adapter in group.adapters):
        cautions.append(f"The folder {deployment.settings.adapters_dir} of the host is mounted.")
    services = {group.name: _service(group, deployment) for group in deployment.groups}
    title = head(f"Engines of {deployment.settings.name}", lost, cautions)
    text = yaml_text([{"name": deployment.settings.name, "services": services}], title)
    steps = ("docker compose config --quiet", "docker compose up --detach")
    return Export((ExportedFile("compose.yaml", text),), (), tuple(lost), tuple(cautions), steps)


def _image(deployment: Deployment) -> str:
    return deployment.settings.image or f"vllm/vllm-openai:v{deployment.engine_version}"


def _service(group: Group, deployment: Deployment) -> dict[str, object]:
    words = ["--model", checked_model(deployment), f"--served-model-name={deployment.base_name}"]
    words += ["--host", "0.0.0.0", "--port", str(CONTAINER_PORT)]
    words += server_flags(group, deployment) + module_words(group, deployment)
    folders = adapter_folders(group, deployment)
    if deployment.model.startswith("/"):
        folders.append(deployment.model)
    published = f"{group.host}:{group.port}" if group.host == "127.0.0.1" else str(group.port)
    return {
        "image": _image(deployment),
        "command": [literal(word) for word in words],
        "ports": [f"{published}:{CONTAINER_PORT}"],
        "volumes": [folder_mount(folder) for folder in dict.fromkeys(folders)],
        "ipc": "host",
        "restart": "unless-stopped",
        "deploy": reserved_gpus(group),
    }
