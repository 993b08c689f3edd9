"""Target ``gie``: a pool of the Gateway API's inference extension for each group, and weighted routes."""

from __future__ import annotations

from scenarios.exporters.deployment import Deployment
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.pods import manifest
from scenarios.exporters.kubernetes.pools import (
    INFERRED,
    MODEL_HEADER,
    PICKER_PORT,
    engine_objects,
    model_maps,
    pools,
    routes,
)
from scenarios.exporters.kubernetes.sentences import pod_sentences
from scenarios.exporters.kubernetes.steps import kubectl_commands
from scenarios.exporters.routers import PARTS
from scenarios.exporters.servers import head
from scenarios.exporters.steps_between.stepping import Stepping

NAME = "gie"
CHECKED = (
    "InferencePool v1: kubernetes-sigs/gateway-api-inference-extension api/v1/inferencepool_types.go "
    "@ca3d9dd4; HTTPRoute v1: kubernetes-sigs/gateway-api apis/v1/httproute_types.go @03775165"
)

STEPS = Stepping(kubectl_commands, named_at_start=True)


def pool_sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    """What is lost, and what is to be watched, with a pool for each group."""
    lost, cautions = pod_sentences(deployment)
    cautions += [
        f"Each pool names an endpoint picker, the Service POOL-epp at port {PICKER_PORT}, which is none of "
        "these files: install one for each pool.",
        f"Routes match the header {MODEL_HEADER}, which llm-d's payload processor sets from the ConfigMaps.",
        INFERRED,
        f"The gateway draws a pool for each request; shares are exact to 1 in {PARTS}.",
    ]
    return lost, cautions


def export(deployment: Deployment) -> Export:
    """Engines, pools and routes of a deployment."""
    deployment = in_cluster(deployment)
    lost, cautions = pool_sentences(deployment)
    comments = head(f"Inference extension: {deployment.settings.name}", lost, cautions)
    documents = {
        "engines.yaml": engine_objects(deployment),
        "pools.yaml": pools(deployment),
        "routes.yaml": routes(deployment),
        "models.yaml": model_maps(deployment),
    }
    files = tuple(manifest(path, objects, comments) for path, objects in documents.items())
    steps = tuple(f"kubectl apply -f {path}" for path in documents)
    return Export(files, (), tuple(lost), tuple(cautions), steps)
