"""Target ``ray-serve``: one configuration of Ray Serve LLM, with a model of its own for each GPU."""

from __future__ import annotations

import json

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    NAMED,
    SHARES_LOST,
    adapter_links,
    adapter_path,
    head,
    link_name,
    release_sentences,
    server_arguments,
    unknown_arguments,
)
from scenarios.exporters.yaml_text import yaml_text
from scenarios.text.formatting import listed

NAME = "ray-serve"
CHECKED = (
    "Ray 2.60.0: ray/serve/schema.py (ServeDeploySchema), ray/llm/_internal/serve/core/configs/llm_config.py "
    "(LLMConfig)"
)
STEPS = (
    "its engines are arguments of one application, all of whose replicas start anew when one argument "
    "changes (get_app_code_version, ray/serve/_private/deploy_utils.py), and clients ask for GROUP:ADAPTER"
)
COPIES = "copies.json"
"""File that lists what is to be copied into the bucket."""

_JSON = frozenset({"kv_transfer_config", "limit_mm_per_prompt", "compilation_config"})


def export(deployment: Deployment) -> Export:
    """The configuration of a deployment, what is to be copied into its bucket, and folders of links.

    Raises
    ------
    ExportError
        If there are adapters and no bucket.
    """
    links, _ = adapter_links(deployment, "lora")
    listed_copies = copies(deployment)
    lost, cautions = _sentences(deployment)
    application = {
        "name": deployment.settings.name,
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [_config(group, deployment) for group in deployment.groups]},
    }
    title = head(f"Engines of {deployment.settings.name}", lost, cautions)
    text = yaml_text([{"applications": [application]}], title)
    files = [ExportedFile("serve.yaml", text)]
    if listed_copies:
        files.append(ExportedFile(COPIES, json.dumps({"copies": listed_copies}, indent=2) + "\n"))
    steps = ("serve run serve.yaml",)
    return Export(tuple(files), tuple(links), tuple(lost), tuple(cautions), steps)


def loading_path(group: Group, deployment: Deployment) -> str:
    """The folder of a bucket below which a group's adapters lie, each under the name that it is asked for by.

    Ray looks for ``PATH/ADAPTER`` (ray 2.60.0, ray/llm/_internal/serve/utils/lora_serve_utils.py), and
    refuses a folder of the host (LoraConfig.validate_dynamic_lora_loading_path).

    Raises
    ------
    ExportError
        If no bucket is named.
    """
    bucket = deployment.settings.adapters_bucket
    if bucket is None:
        message = "is missing, and Ray fetches adapters from buckets alone"
        remedy = "name one: --set export.adapters_bucket=s3://NAME/PATH"
        raise ExportError([Problem("export.adapters_bucket", message, remedy)])
    return f"{bucket.rstrip('/')}/g{group.number}"


def copies(deployment: Deployment) -> list[dict[str, str]]:
    """What is to be copied into the bucket: from where a plan says that adapters are, to where Ray looks."""
    found = []
    for group in deployment.groups:
        for adapter in group.adapters:
            if link_name(adapter.served_name) is not None:
                target = f"{loading_path(group, deployment)}/{adapter.served_name}"
                found.append({"from": _source(adapter, deployment), "to": target})
    return found


def _source(adapter: DeployedAdapter, deployment: Deployment) -> str:
    location = adapter.location
    if location is None or location.kind == "folder":
        return adapter_path(adapter, deployment)
    return f"hf://{location.path}" if location.kind == "hub" else location.text


def _sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    adapters = {a.name: a for group in deployment.groups for a in group.adapters}
    lost = [SHARES_LOST] * bool(deployment.split)
    lost.append("Names: clients ask for GROUP:ADAPTER, and for GROUP where they mean the base model.")
    lost.append("Hosts, ports and numbers of GPUs: Ray places the replicas.")
    unnamed = [name for name, one in adapters.items() if link_name(one.served_name) is None]
    if unnamed:
        lost.append(f"Adapters whose names are none of one folder: {listed(unnamed, NAMED)}.")
    cautions = [*release_sentences(deployment), *unknown_arguments(deployment)]
    if adapters:
        cautions.append(f"Each `from` of {COPIES} is to be copied to its `to` first, with all its files.")
    silent = [name for name, one in adapters.items() if one.location is None]
    if silent:
        below = deployment.settings.adapters_dir
        cautions.append(
            f"The plan names no source of {listed(silent, NAMED)}: each is expected at {below}/NAME."
        )
    cautions.append("Whether a request finds a replica that has its adapter is for Ray's router to decide.")
    return lost, cautions


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
            "dynamic_lora_loading_path": loading_path(group, deployment),
            "max_num_adapters_per_replica": values["max_cpu_loras"],
        }
    return config
