"""Target ``nim``: NVIDIA's containers in a file of Compose, each with a folder of links to its adapters."""

from __future__ import annotations

from scenarios.errors import Problem
from scenarios.exporters.compose import adapter_folders, folder_mount, literal, reserved_gpus
from scenarios.exporters.deployment import Deployment, ExportError, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    NAMED,
    SHARES_LOST,
    adapter_links,
    check_served,
    head,
    path_sentences,
    release_sentences,
    server_arguments,
)
from scenarios.exporters.yaml_text import yaml_text
from scenarios.text.formatting import listed

NAME = "nim"
CHECKED = (
    "Compose specification as target compose; NIM_PEFT_SOURCE and the four arguments: NIM 2.1.4, "
    "docs.nvidia.com/nim/large-language-models/2.1.4/advanced-use-cases/finetune-lora.html, never run"
)
STEPS = (
    "each container has a folder of links beside its file, which is another folder in every step, and its "
    "image's profile says what the engine does about adapters"
)
PEFT_SOURCE = "/peft"

_SAID = {"max_loras": "--max-loras", "max_cpu_loras": "--max-cpu-loras", "max_lora_rank": "--max-lora-rank"}


def export(deployment: Deployment) -> Export:
    """Containers of a deployment, and folders of links.

    Raises
    ------
    ExportError
        If no image is named: there is one for each model.
    """
    if deployment.settings.image is None:
        message = "is missing, and NIM has an image for each model"
        raise ExportError([Problem("export.image", message, "name it, with a profile that has feat_lora")])
    links, left_out = adapter_links(deployment, "peft")
    check_served(deployment, left_out, "NIM takes folders alone, so fetch each and give its folder")
    lost, cautions = path_sentences(deployment)
    lost += [SHARES_LOST] * bool(deployment.split)
    given = {n: None for group in deployment.groups for n in server_arguments(group, None).values}
    rest = [name for name in given if name not in _SAID and name != "enable_lora"]
    lost.append(f"Arguments that the image's profile sets itself: {', '.join(rest)}.")
    if left_out:
        lost.append(
            f"Adapters without a folder that can be linked: {listed(left_out, NAMED)}; they are not "
            "served until they are put into peft/gN under their names."
        )
    cautions.append("The image needs a profile with feat_lora, and may run another engine than was judged.")
    cautions += release_sentences(deployment)
    services = {group.name: _service(group, deployment) for group in deployment.groups}
    title = head(f"Engines of {deployment.settings.name}", lost, cautions)
    text = yaml_text([{"name": deployment.settings.name, "services": services}], title)
    steps = ("docker compose config --quiet", "docker compose up --detach")
    return Export((ExportedFile("compose.yaml", text),), tuple(links), tuple(lost), tuple(cautions), steps)


def _service(group: Group, deployment: Deployment) -> dict[str, object]:
    volumes = [folder_mount(folder) for folder in adapter_folders(group, deployment)]
    service: dict[str, object] = {"image": deployment.settings.image}
    if group.adapters:
        values = server_arguments(group, None).values
        words = ["--enable-lora"]
        for name, flag in _SAID.items():
            words += [flag, str(values[name])]
        source = f"./peft/g{group.number}"
        volumes.append({"type": "bind", "source": source, "target": PEFT_SOURCE, "read_only": True})
        service |= {
            "command": [literal(word) for word in words],
            "environment": {"NIM_PEFT_SOURCE": PEFT_SOURCE},
        }
    published = f"{group.host}:{group.port}" if group.host == "127.0.0.1" else str(group.port)
    service |= {"ports": [f"{published}:8000"], "volumes": volumes, "restart": "unless-stopped"}
    return service | {"deploy": reserved_gpus(group)}
