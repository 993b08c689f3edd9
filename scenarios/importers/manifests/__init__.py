"""Manifests of Kubernetes, values of a chart, and routes of requests."""

from scenarios.importers.manifests.chart_values import is_chart_values, read_chart_values
from scenarios.importers.manifests.linking import linked as linked
from scenarios.importers.manifests.litellm import is_litellm, read_litellm
from scenarios.importers.manifests.manifests import is_manifest, read_manifests
from scenarios.importers.manifests.namespaces import told_apart as told_apart
from scenarios.importers.manifests.routes import is_routing, read_routing
from scenarios.importers.source import Kind

KINDS = (
    Kind("routes that lorapack exported", is_routing, lambda source, _: read_routing(source)),
    Kind("values of production-stack's chart", is_chart_values, lambda source, _: read_chart_values(source)),
    Kind("a configuration of LiteLLM's proxy", is_litellm, lambda source, _: read_litellm(source)),
    Kind("Kubernetes manifests", is_manifest, read_manifests),
)
"""In the order in which they are tried."""
