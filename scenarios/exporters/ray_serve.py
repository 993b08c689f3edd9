"""Target ``ray-serve``: one configuration of Ray Serve LLM, with a model of its own for each GPU."""

from __future__ import annotations

import json

from scenarios.exporters.deployment import Deployment, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    NAMED,
    SHARES_LOST,
    adapter_links,
    head,
    path_sentences,
    server_arguments,
    unknown_arguments,
)
from scenarios.exporters.yaml_text import yaml_text
from scenarios.text.formatting import listed

NAME = "ray-serve"
CHECKED = "no published version yet: LLMConfig of Ray Serve LLM"

_JSON = frozenset({"kv_transfer_config", "limit_mm_per_prompt", "compilation_config"})


def export(deployment: Deployment) -> Export:
    """The configuration of a deployment, and folders of links."""
    links, left_out = adapter_links(deployment, "lora")
    lost, cautions = path_sentences(deployment)
    lost += [SHARES_LOST] * bool(deployment.split)
    lost.append("Names: clients ask for GROUP:ADAPTER, and for GROUP where they mean the base model.")
    lost.append(
        "Folders: Ray takes addresses of buckets alone for dynamic_lora_loading_path (ray-project/ray "
        "@697db261); put one in the place of each folder."
    )
    lost.append("Hosts, ports and numbers of GPUs: Ray places the replicas.")
    if left_out:
        lost.append(f"Adapters without a folder that can be linked: {listed(left_out, NAMED)}.")
    cautions += unknown_arguments(deployment)
    cautions += [
        f"The folders lora/gN are to be copied, links followed, to {deployment.settings.adapters_dir}/gN of "
        "each node, or to a bucket that dynamic_lora_loading_path then names.",
        "Whether a request finds a replica that has its adapter is for Ray's router to decide.",
    ]
    application = {
        "name": deployment.settings.name,
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [_config(group, deployment) for group in deployment.groups]},
    }
    title = head(f"Engines of {deployment.settings.name}", lost, cautions)
    text = yaml_text([{"applications": [application]}], title)
    return Export(
        (ExportedFile("serve.yaml", text),),
        tuple(links),
        tuple(lost),
        tuple(cautions),
        ("serve run serve.yaml",),
    )


def _config(group: Group, deployment: Deployment) -> dict[str, object]:
    values = server_arguments(group, deployment.engine_version).values
    for name in _JSON & values.keys():
        value = values[name]
        values[name] = json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
    config: dict[str, object] = {
        "model_loading_config": {"model_id": group.name, "model_source": deployment.model},
        "engine_kwargs": values,
        "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
    }
    if group.adapters:
        config["lora_config"] = {
            "dynamic_lora_loading_path": f"{deployment.settings.adapters_dir.rstrip('/')}/g{group.number}",
            "max_num_adapters_per_replica": values["max_cpu_loras"],
        }
    return config
