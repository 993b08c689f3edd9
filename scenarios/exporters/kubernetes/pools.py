"""Pools of the Gateway API's inference extension, and the routes to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from scenarios.errors import Problem
from scenarios.exporters.deployment import Deployment, ExportError
from scenarios.exporters.kubernetes.pods import GROUP_LABEL, PORT, Object, engine_object, metadata
from scenarios.exporters.routers import whole_weights
from scenarios.text.display import visible

PICKER_PORT = 9002
"""Port of an endpoint picker's Service (gateway-api-inference-extension, api/v1 before endpointPickerRef)."""
MOST_BACKENDS = 16
"""Backends of a rule of an HTTPRoute (kubernetes-sigs/gateway-api, apis/v1/httproute_types.go @03775165)."""
_HEADER_VALUE = re.compile(r"[!-~]+( [!-~]+)*")
"""What a match of a header may ask for: printable ASCII, single blanks within (ibid.)."""
MODEL_HEADER = "X-Gateway-Base-Model-Name"
"""Header that the payload processor's base-model-to-header sets (llm-d, IPP configuration guide)."""

INFERRED = (
    "One ConfigMap for each set of shares, with a base model of its own making, is an inference from what "
    "the payload processor's documents say of base models: nobody has tried it; try it before you rely on it."
)


class RoutingClass(NamedTuple):
    """Names whose requests are shared over the groups alike.

    Parameters
    ----------
    key
        Value of the header: the base model, or a name of ours.
    shares
        Share of the requests by the number of a group.
    adapters
        Names that clients ask for, the base model aside.
    """

    key: str
    shares: Mapping[int, float]
    adapters: tuple[str, ...]


def routing_classes(deployment: Deployment) -> list[RoutingClass]:
    """The routes of a deployment, those with the same shares together.

    Raises
    ------
    ExportError
        If one has more groups than a rule has backends, or the base model's name is no header.
    """
    members: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for route in deployment.routes:
        members.setdefault(tuple(sorted(route.shares.items())), []).append(route.served_name)
    classes = []
    for k, (shares, names) in enumerate(members.items()):
        if len(shares) > MOST_BACKENDS:
            message = f"split {visible(names[0])} over {len(shares)} GPUs; a rule has at most {MOST_BACKENDS}"
            raise ExportError([Problem("gpus", message, "split it over fewer")])
        base = deployment.base_name in names
        key = _header(deployment.base_name) if base else f"{deployment.settings.name}-r{k}"
        adapters = tuple(name for name in names if name != deployment.base_name)
        classes.append(RoutingClass(key, dict(shares), adapters))
    return classes


def _header(name: str) -> str:
    if _HEADER_VALUE.fullmatch(name) is None:
        message = f'is "{visible(name)}", which no header holds'
        raise ExportError([Problem("export.served_model_name", message, "give another")])
    return name


def engine_objects(deployment: Deployment) -> list[Object]:
    """A Deployment for each group, which knows its adapters from the start."""
    shared = {"lorapack-pool": deployment.settings.name}
    return [engine_object(g, deployment, modules=True, labels=shared) for g in deployment.groups]


def pool(name: str, selector: Mapping[str, str], deployment: Deployment) -> Object:
    """An InferencePool of the pods with some labels; its endpoint picker is a Service named after it."""
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": metadata(name, deployment),
        "spec": {
            "selector": {"matchLabels": dict(selector)},
            "targetPorts": [{"number": PORT}],
            "endpointPickerRef": {
                "name": f"{name}-epp",
                "port": {"number": PICKER_PORT},
                "failureMode": "FailClose",
            },
        },
    }


def pools(deployment: Deployment) -> list[Object]:
    """A pool for each group."""
    return [pool(group.name, {GROUP_LABEL: group.name}, deployment) for group in deployment.groups]


def model_maps(deployment: Deployment) -> list[Object]:
    """What the payload processor reads: names of adapters, and the header that stands for them."""
    maps: list[Object] = []
    for k, one in enumerate(routing_classes(deployment)):
        data = {"baseModel": one.key}
        if one.adapters:
            data["adapters"] = json.dumps(list(one.adapters), ensure_ascii=False)  # JSON is YAML
        labels = {"inference.llm-d.ai/ipp-managed": "true"}
        maps.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata(f"{deployment.settings.name}-r{k}", deployment, labels),
                "data": data,
            }
        )
    return maps


def routes(deployment: Deployment) -> list[Object]:
    """An HTTPRoute for each routing class, with the shares as weights of pools."""
    names = {group.number: group.name for group in deployment.groups}
    return [
        _route(
            f"{deployment.settings.name}-r{k}",
            one.key,
            {names[number]: weight for number, weight in whole_weights(one.shares).items()},
            deployment,
        )
        for k, one in enumerate(routing_classes(deployment))
    ]


def _route(name: str, value: str | None, weights: Mapping[str, int], deployment: Deployment) -> Object:
    backends = [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool, "weight": weight}
        for pool, weight in weights.items()
    ]
    rule: Object = {"backendRefs": backends}
    if value is not None:
        header = {"type": "Exact", "name": MODEL_HEADER, "value": value}
        rule = {"matches": [{"headers": [header]}], **rule}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(name, deployment),
        "spec": {"parentRefs": [{"name": deployment.settings.gateway}], "rules": [rule]},
    }


def route_to(pool_name: str, deployment: Deployment) -> Object:
    """An HTTPRoute of all requests to one pool."""
    return _route(pool_name, None, {pool_name: 1}, deployment)
