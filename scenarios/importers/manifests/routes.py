"""Routes of requests, as lorapack's own ``routing.json`` tells them."""

from __future__ import annotations

import math

from scenarios.importers.facts import AdapterFacts, RouteFacts, ServerFacts, SourceFacts
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.source import Source
from scenarios.text.display import visible
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
    values = next(iter(documents(source)), None)
    if values is None or not values.values.keys() >= _KEYS:
        raise source.error("lacks base_model, servers or routes", "export it again: --to routing")
    base = values.needed("base_model")
    routes = tuple(
        RouteFacts(name, _weights(values, name), f"{source.path.name}, routes")
        for name in values.inner("routes").values
    )
    held = {name: [one.served_name for one in routes if one.weights.get(name)] for name in _names(values)}
    servers = tuple(
        ServerFacts(
            name,
            f"{source.path.name}, servers",
            tuple(one for one in names if one != base),
            address=_address(values, name),
        )
        for name, names in held.items()
    )
    adapters = tuple(AdapterFacts(one.served_name, one.origin) for one in routes if one.served_name != base)
    return SourceFacts("routes", adapters, servers, routes, base_names=(base,))


def _names(values: Document) -> list[str]:
    return list(values.inner("servers").values)


def _address(values: Document, name: str) -> str:
    """Where a server listens, as other sources say it."""
    address = values.child("servers", name).text("address")
    return "" if address is None else address if "://" in address else f"http://{address}"


def _weights(values: Document, name: str) -> dict[str, float]:
    known = values.inner("servers").values
    weights: dict[str, float] = {}
    for server, weight in values.child("routes", name).values.items():
        place = f"routes.{visible(name)}.{visible(server)}"
        if server not in known:
            raise values.wrong(place, "names no server of the file", "export it again")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e9:
            raise values.wrong(place, f"is {shown(weight)}, no share", "export it again")
        weights[server] = float(weight)
    if not math.fsum(weights.values()):
        raise values.wrong(f"routes.{visible(name)}", "has no server", "export it again")
    return weights
