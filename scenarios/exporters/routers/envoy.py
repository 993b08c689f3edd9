"""Envoy as a router: a route for each name in a header, with weighted clusters."""

from __future__ import annotations

from scenarios.exporters.deployment import Deployment, Group, Route
from scenarios.exporters.routers.weights import whole_weights

HEADER = "x-gateway-model-name"

_TYPES = "type.googleapis.com/envoy.extensions"


def envoy_config(deployment: Deployment) -> dict[str, object]:
    """The static configuration of an Envoy (v3 API)."""
    groups = {group.number: group for group in deployment.groups}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "lorapack",
        "route_config": {
            "name": "adapters",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [_route(r, groups) for r in deployment.routes]}
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "name": "router",
        "address": _address("0.0.0.0", deployment.settings.router_port),
        "filter_chains": [{"filters": filters}],
    }
    clusters = [_cluster(group) for group in deployment.groups]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _route(route: Route, groups: dict[int, Group]) -> dict[str, object]:
    weights = whole_weights(route.shares)
    clusters = [{"name": groups[number].name, "weight": weight} for number, weight in weights.items()]
    header = {"name": HEADER, "string_match": {"exact": route.served_name}}
    return {
        "match": {"prefix": "/", "headers": [header]},
        "route": {"weighted_clusters": {"clusters": clusters}, "timeout": "3600s"},
    }


def _cluster(group: Group) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(group.host, group.port)}}
    return {
        "name": group.name,
        "type": "STRICT_DNS",
        "load_assignment": {"cluster_name": group.name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}
