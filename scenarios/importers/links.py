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
    namespace
        Its namespace; empty: not said.
    """

    name: str
    labels: Mapping[str, str]
    replicas: int
    namespace: str = ""


class LabelRequirement(NamedTuple):
    """What a selector asks of a label beyond a value (LabelSelectorRequirement of Kubernetes' meta/v1).

    Parameters
    ----------
    key
        The label.
    operator
        ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``.
    values
        Of the first two.
    """

    key: str
    operator: str
    values: tuple[str, ...]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels have what is asked; a label that is not there is in no set."""
        value = labels.get(self.key)
        if self.operator in ("In", "NotIn"):
            return (value in self.values) == (self.operator == "In")
        return (value is not None) == (self.operator == "Exists")


class SelectedAdapter(NamedTuple):
    """An adapter that is loaded by the servers with some labels.

    Parameters
    ----------
    served_name
        As of `AdapterFacts.served_name`.
    labels
        What the servers have; empty, and no requirements: it is not said which they are.
    pods
        How many of their pods load it; None: all.
    base_model
        What the object calls its base model, which in some stacks is the name of a group of servers.
    origin
        Where it is said.
    requirements
        What else is asked of the servers' labels.
    namespace
        Namespace of the object, and of the servers; empty: not said.
    instances
        Names of the pods that have loaded it; empty: not said.
    """

    served_name: str
    labels: Mapping[str, str]
    pods: int | None
    base_model: str | None
    origin: str
    requirements: tuple[LabelRequirement, ...] = ()
    namespace: str = ""
    instances: tuple[str, ...] = ()


class Backend(NamedTuple):
    """A pool or a service: the servers with some labels, by one name.

    Parameters
    ----------
    name
        Kind and name: ``InferencePool/lorapack-g0``.
    labels
        What its servers have.
    namespace
        Its namespace, and that of its servers; empty: not said.
    """

    name: str
    labels: Mapping[str, str]
    namespace: str = ""


class BackendReference(NamedTuple):
    """How a route names a `Backend`.

    Parameters
    ----------
    name
        Kind and name.
    namespace
        The backend's; empty: that of the route.
    """

    name: str
    namespace: str = ""


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
        Weight of each backend.
    origin
        Where it is said.
    namespace
        Namespace of the route; empty: not said.
    """

    key: str
    is_model: bool
    weights: Mapping[BackendReference, float]
    origin: str
    namespace: str = ""


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
    namespace
        That of the server; empty: not said.
    """

    group: str
    server: str
    names: tuple[str, ...]
    weight: float
    origin: str
    namespace: str = ""


Link = LabelledServer | SelectedAdapter | Backend | NamedKey | KeyRoute | GroupMember
