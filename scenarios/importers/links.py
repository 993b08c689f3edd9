"""What objects of a cluster say only together: labels of servers, and who is held or reached by labels.

One file may hold the engines, another the adapters and a third the routes; so what a file says of them is
kept as links, which are followed when all sources are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class LabelledServer(NamedTuple):
    """A server, and what others find it by.

    Parameters
    ----------
    name
        As of `ServerFacts.name`.
    labels
        Labels of its pods, or what stands for them in a stack.
    replicas
        Number of its pods.
    """

    name: str
    labels: Mapping[str, str]
    replicas: int


class SelectedAdapter(NamedTuple):
    """An adapter that is loaded by the servers with some labels.

    Parameters
    ----------
    served_name
        As of `AdapterFacts.served_name`.
    labels
        What the servers have; empty: it is not said which they are.
    pods
        How many of their pods load it; None: all.
    base_model
        What the object calls its base model, which in some stacks is the name of a group of servers.
    origin
        Where it is said.
    """

    served_name: str
    labels: Mapping[str, str]
    pods: int | None
    base_model: str | None
    origin: str


class Backend(NamedTuple):
    """A pool or a service: the servers with some labels, by one name.

    Parameters
    ----------
    name
        Kind and name: ``InferencePool/lorapack-g0``.
    labels
        What its servers have.
    """

    name: str
    labels: Mapping[str, str]


class NamedKey(NamedTuple):
    """Names that a header stands for.

    Parameters
    ----------
    key
        Value of the header.
    names
        Names that clients ask for.
    """

    key: str
    names: tuple[str, ...]


class KeyRoute(NamedTuple):
    """Where requests with a header's value go.

    Parameters
    ----------
    key
        Value of the header.
    is_model
        Whether it is the name that clients ask for; else one that stands for names, and itself a name only
        if it is that of the base model.
    weights
        Weight by the name of a `Backend`.
    origin
        Where it is said.
    """

    key: str
    is_model: bool
    weights: Mapping[str, float]
    origin: str


class GroupMember(NamedTuple):
    """A server that shares the requests of each name with others of its group, by weight.

    Parameters
    ----------
    group
        Name of the group.
    server
        As of `ServerFacts.name`.
    names
        What it serves.
    weight
        Its weight.
    origin
        Where it is said.
    """

    group: str
    server: str
    names: tuple[str, ...]
    weight: float
    origin: str


Link = LabelledServer | SelectedAdapter | Backend | NamedKey | KeyRoute | GroupMember
