"""Routes of requests, as lorapack's own ``routing.json`` tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from scenarios.importers.facts import RouteFacts, ServerFacts, SourceFacts
from scenarios.importers.source import Source
from scenarios.text.formatting import shown

_KEYS = {"base_model", "servers", "routes"}


def is_routing(source: Source) -> bool:
    """Whether a file looks like one of routes."""
    head = source.head.lstrip()
    return head[:1] == b"{" and b'"routes"' in head and b'"servers"' in head


def read_routing(source: Source) -> SourceFacts:
    """What a file of routes says: where servers listen, and shares of requests by name.

    Raises
    ------
    ImportSourceError
        If it is damaged.
    """
    try:
        values = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise source.error(f"is no JSON ({error})", "export it again") from error
    if not isinstance(values, dict) or not values.keys() >= _KEYS:
        raise source.error("lacks base_model, servers or routes", "export it again: --to routing")
    servers = tuple(
        ServerFacts(name, source.path.name, address=_address(source, name, one))
        for name, one in _mapping(source, "servers", values["servers"]).items()
    )
    routes = tuple(
        RouteFacts(name, _weights(source, name, one), source.path.name)
        for name, one in _mapping(source, "routes", values["routes"]).items()
    )
    base = values["base_model"]
    if not isinstance(base, str) or not base:
        raise source.error(f"is {shown(base)}, no name", "export it again", "base_model")
    return SourceFacts("routes", servers=servers, routes=routes, base_names=(base,))


def _mapping(source: Source, place: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise source.error(f"is {shown(value)}, no mapping", "export it again", place)
    return value


def _address(source: Source, name: str, value: object) -> str:
    address = _mapping(source, f"servers.{name}", value).get("address", "")
    if not isinstance(address, str):
        raise source.error(f"is {shown(address)}, no text", "export it again", f"servers.{name}.address")
    return address


def _weights(source: Source, name: str, value: object) -> dict[str, float]:
    weights = {}
    for server, weight in _mapping(source, f"routes.{name}", value).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e9:
            place = f"routes.{name}.{server}"
            raise source.error(f"is {shown(weight)}, no share", "export it again", place)
        weights[server] = float(weight)
    return weights
