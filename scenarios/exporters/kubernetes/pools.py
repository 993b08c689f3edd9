"""Pools of the Gateway API's inference extension, and the routes to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
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
    name
        Name of its objects, which follows from the shares, so that it means the same beside any others.
    key
        Value of the header: the base model, or a name of ours.
    shares
        Share of the requests by the number of a group.
    adapters
        Names that clients ask for, the base model aside.
    """

    name: str
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
    members: dict[tuple[bool, tuple[tuple[int, float], ...]], list[str]] = {}
    for route in deployment.routes:
        base = route.served_name == deployment.base_name
        members.setdefault((base, tuple(sorted(route.shares.items()))), []).append(route.served_name)
    return [
        _routing_class(deployment, dict(shares), () if base else tuple(names))
        for (base, shares), names in members.items()
    ]


def _routing_class(
    deployment: Deployment, shares: Mapping[int, float], adapters: tuple[str, ...]
) -> RoutingClass:
    """The class of adapters with the same shares, or, of none, that of the base model."""
    if len(shares) > MOST_BACKENDS:
        name = visible(adapters[0] if adapters else deployment.base_name)
        message = f"split {name} over {len(shares)} GPUs; a rule has at most {MOST_BACKENDS}"
        raise ExportError([Problem("gpus", message, "split it over fewer")])
    prefix = f"{deployment.settings.name}-r"
    if not adapters:
        return RoutingClass(f"{prefix}-base", _header(deployment.base_name), shares, ())
    weights = whole_weights(shares)
    told = "-".join(f"g{number}" for number in weights)
    if len(weights) > 1:
        said = json.dumps(sorted(weights.items())).encode()
        told = f"split-{sha256(said).hexdigest()[:8]}"
    return RoutingClass(f"{prefix}-{told}", f"{prefix}-{told}", shares, adapters)


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
    for one in routing_classes(deployment):
        data = {"baseModel": one.key}
        if one.adapters:
            data["adapters"] = json.dumps(list(one.adapters), ensure_ascii=False)  # JSON is YAML
        labels = {"inference.llm-d.ai/ipp-managed": "true"}
        maps.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata(one.name, deployment, labels),
                "data": data,
            }
        )
    return maps


def routes(deployment: Deployment) -> list[Object]:
    """An HTTPRoute for each routing class, with the shares as weights of pools."""
    names = {group.number: group.name for group in deployment.groups}
    return [
        _route(
            one.name,
            one.key,
            {names[number]: weight for number, weight in whole_weights(one.shares).items()},
            deployment,
        )
        for one in routing_classes(deployment)
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
