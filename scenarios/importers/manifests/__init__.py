"""Manifests of Kubernetes, and routes of requests."""

from scenarios.importers.manifests.manifests import is_manifest, read_manifests
from scenarios.importers.manifests.routes import is_routing, read_routing
from scenarios.importers.source import Kind

KINDS = (
    Kind("routes that lorapack exported", is_routing, lambda source, _: read_routing(source)),
    Kind("Kubernetes manifests", is_manifest, read_manifests),
)
"""In the order in which they are tried."""
