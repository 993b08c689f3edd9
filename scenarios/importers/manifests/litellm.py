"""Configurations of LiteLLM's proxy: which server gets whose requests.

Forms are those of LiteLLM's proxy (docs.litellm.ai, proxy configs and load balancing): entries of one
model_name share its requests by ``weight``, alike where none is said.
"""

from __future__ import annotations

import re

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import RouteFacts, SourceFacts
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.source import Source
from scenarios.text.formatting import listed, shown

_PROVIDERS = ("hosted_vllm", "openai", "text-completion-openai", "custom_openai")
"""Providers that are servers with OpenAI's interface."""

_VARIABLE = "os.environ/"
_TOP = re.compile(rb'^model_list[ \t]*:|^[{ \t]*"model_list"[ \t]*:', re.MULTILINE)


def is_litellm(source: Source) -> bool:
    """Whether a file looks like a configuration of LiteLLM's proxy."""
    return _TOP.search(source.head) is not None


def read_litellm(source: Source) -> SourceFacts:
    """What a configuration says of the servers of each name, by their addresses; keys are not read.

    Raises
    ------
    ImportSourceError
        If the file is damaged.
    """
    weights: dict[str, dict[str, float]] = {}
    origins: dict[str, str] = {}
    others: list[str] = []
    for document in documents(source):
        for entry in document.items("model_list"):
            route = _route(entry)
            if route is None:
                others.append(entry.needed("model_name"))
                continue
            name, address, weight = route
            held = weights.setdefault(name, {})
            held[address] = held.get(address, 0.0) + weight
            origins.setdefault(name, entry.origin("litellm_params"))
    if not weights and not others:
        raise source.error("has no model_list", "give the file that the proxy is started with")
    notes = [
        "Names that LiteLLM routes are taken for adapters, but for the name of a base model that is told."
    ]
    if others:
        notes.append(f"{source.path.name}: passed over {listed(others, 5)}, of no server that is named.")
    routes = tuple(RouteFacts(name, held, origins[name]) for name, held in weights.items())
    return SourceFacts("LiteLLM proxy", routes=routes, notes=tuple(notes))


def _route(entry: Document) -> tuple[str, str, float] | None:
    """Served name, address and weight of an entry; None: it is another's model, or a variable says where."""
    entry.needed("model_name")
    parameters = entry.inner("litellm_params")
    provider, _, name = parameters.needed("model").partition("/")
    address = parameters.text("api_base")
    if provider not in _PROVIDERS or not name or address is None or address.startswith(_VARIABLE):
        return None
    weight = parameters.value("weight")
    if weight is None:
        weight = 1
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e9:
        raise parameters.wrong("weight", f"is {shown(weight)}, no weight", "correct it")
    return name, _server(address), float(weight)


def _server(address: str) -> str:
    """The address of a server, of that of its interface."""
    return plain_address(address).rstrip("/").removesuffix("/v1")
