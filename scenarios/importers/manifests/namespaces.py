"""Namespaces of Kubernetes: objects of one name in several are several objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scenarios.importers.facts import SourceFacts
from scenarios.importers.links import GroupMember, LabelledServer, Link, NamedKey


def in_namespace(facts: SourceFacts, namespace: str) -> SourceFacts:
    """What an object says that is in a namespace."""
    return replace(
        facts,
        servers=tuple(replace(server, namespace=namespace) for server in facts.servers),
        links=tuple(
            link if isinstance(link, NamedKey) else link._replace(namespace=namespace) for link in facts.links
        ),
    )


def told_apart(sources: Sequence[SourceFacts]) -> list[SourceFacts]:
    """The same, where servers of one name in several namespaces are called ``namespace/name``.

    An object without a namespace may be the same as one with, and keeps its name.

    Parameters
    ----------
    sources
        What each says; their namespaces may be in several files.
    """
    spaces: dict[str, set[str]] = {}
    for facts in sources:
        for server in facts.servers:
            if server.namespace:
                spaces.setdefault(server.name, set()).add(server.namespace)
    double = {name for name, found in spaces.items() if len(found) > 1}
    return [_renamed(facts, double) for facts in sources] if double else list(sources)


def _renamed(facts: SourceFacts, double: set[str]) -> SourceFacts:
    def name_of(name: str, namespace: str) -> str:
        return f"{namespace}/{name}" if namespace and name in double else name

    def link_of(link: Link) -> Link:
        if isinstance(link, LabelledServer):
            return link._replace(name=name_of(link.name, link.namespace))
        if isinstance(link, GroupMember):
            return link._replace(server=name_of(link.server, link.namespace))
        return link

    servers = [replace(one, name=name_of(one.name, one.namespace)) for one in facts.servers]
    return replace(facts, servers=tuple(servers), links=tuple(map(link_of, facts.links)))
