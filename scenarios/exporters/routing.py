"""Target ``routing``: which server gets whose requests, for people, LiteLLM, nginx and Envoy."""

from __future__ import annotations

import json
from collections.abc import Iterator

from scenarios.exporters.deployment import Deployment, Group, Route
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.routers import PARTS, envoy_config, nginx_config, nginx_script, whole_weights
from scenarios.exporters.servers import NAMED
from scenarios.exporters.steps_between.stepping import Stepping, route_commands
from scenarios.exporters.yaml_text import yaml_text
from scenarios.text.formatting import listed

NAME = "routing"
CHECKED = (
    "nginx 1.22.1 with njs 0.7.9 and Envoy 1.40.0, run; LiteLLM 1.110.2: litellm/proxy/proxy_server.py "
    "(ProxyConfig), litellm/types/router.py"
)

STEPS = Stepping(
    route_commands,
    parts=("2-switch",),
    cautions=(
        "Only routes are in these files: before each of them engines are started and adapters loaded, as is "
        "said above, and after it adapters unloaded and engines stopped.",
    ),
)


def export(deployment: Deployment) -> Export:
    """Routes of a deployment."""
    unsure = [r.served_name for r in deployment.routes if not _litellm_takes(r)]
    lost = []
    if unsure:
        names = listed(unsure, NAMED)
        lost.append(
            f"LiteLLM takes {names} for a pattern or a variable, or cannot say it in a header of its answer: "
            "litellm.yaml leaves it out."
        )
    cautions = [
        "LiteLLM wants two variables: LITELLM_MASTER_KEY, which its clients give, and ENGINE_API_KEY, any "
        "word where engines ask for none.",
        f"LiteLLM, nginx and Envoy draw a server for each request; shares are exact to 1 in {PARTS}.",
        "Envoy routes by the header x-gateway-model-name, which whoever calls it, or a filter before, sets.",
        "nginx reads a body of up to 16 MiB into memory to find its model.",
    ]
    comments = [f"Routes of {deployment.settings.name}", *lost, *cautions]
    files = (
        ExportedFile("routing.json", json.dumps(routing_table(deployment), indent=2) + "\n"),
        ExportedFile("litellm.yaml", yaml_text([litellm_config(deployment)], comments)),
        ExportedFile("nginx.conf", nginx_config(deployment, comments)),
        ExportedFile("routes.js", nginx_script(deployment)),
        ExportedFile("envoy.yaml", yaml_text([envoy_config(deployment)], comments)),
    )
    steps = (
        'nginx -p "$PWD" -c nginx.conf  # or:',
        "ENGINE_API_KEY=KEY LITELLM_MASTER_KEY=KEY litellm --config litellm.yaml --port "
        f"{deployment.settings.router_port}  # or:",
        "envoy --config-path envoy.yaml",
    )
    return Export(files, (), tuple(lost), tuple(cautions), steps)


def routing_table(deployment: Deployment) -> dict[str, object]:
    """The routes as plain data: shares as the plan has them."""
    names = {group.number: group.name for group in deployment.groups}
    return {
        "base_model": deployment.base_name,
        "servers": {g.name: {"gpu": g.number, "address": f"{g.host}:{g.port}"} for g in deployment.groups},
        "routes": {r.served_name: {names[n]: s for n, s in r.shares.items()} for r in deployment.routes},
    }


def litellm_config(deployment: Deployment) -> dict[str, object]:
    """The configuration of LiteLLM's proxy: an entry for each server of a name, with its weight."""
    groups = {group.number: group for group in deployment.groups}
    entries = [
        entry
        for route in deployment.routes
        if _litellm_takes(route)
        for entry in _litellm_entries(route, groups)
    ]
    return {"model_list": entries, "router_settings": {"routing_strategy": "simple-shuffle"}}


def _litellm_takes(route: Route) -> bool:
    """Whether the proxy serves a name: it answers with the name in a header, in Latin-1 (1.110.2, run)."""
    name = route.served_name
    if "*" in name or name.startswith("os.environ/") or name != name.strip():
        return False
    try:
        name.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _litellm_entries(route: Route, groups: dict[int, Group]) -> Iterator[dict[str, object]]:
    for number, weight in whole_weights(route.shares).items():
        group = groups[number]
        yield {
            "model_name": route.served_name,
            "litellm_params": {
                "model": f"openai/{route.served_name}",
                "api_base": f"http://{group.host}:{group.port}/v1",
                "api_key": "os.environ/ENGINE_API_KEY",
                "weight": weight,
            },
        }
