"""Target ``llm-d``: pools behind llm-d's router, or one pool whose router asks pods what they serve."""

from __future__ import annotations

from scenarios.exporters.deployment import Deployment
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.kubernetes.gie import pool_sentences
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.pods import Object, manifest
from scenarios.exporters.kubernetes.pools import (
    engine_objects,
    model_maps,
    pool,
    pools,
    route_to,
    routes,
)
from scenarios.exporters.kubernetes.sentences import base_sentence
from scenarios.exporters.kubernetes.steps import kubectl_commands
from scenarios.exporters.servers import head
from scenarios.exporters.steps_between.stepping import Stepping
from scenarios.exporters.yaml_text import yaml_text

NAME = "llm-d"
CHECKED = (
    "EndpointPickerConfig llm-d.ai/v1: llm-d/llm-d-router, README of served-model-filter @50a39269; pools as "
    "target gie"
)

STEPS = Stepping(
    kubectl_commands,
    named_at_start=True,
    cautions=("The steps are those of pools; one-pool needs engines.yaml of them alone, and no routes.",),
)
LIST_INTERVAL = "5s"
"""How often the router asks engines for their models: the value of served-model-filter's own example."""


def export(deployment: Deployment) -> Export:
    """Engines with pools and routes, and the variant of one pool."""
    deployment = in_cluster(deployment)
    lost, cautions = pool_sentences(deployment)
    if deployment.split:
        lost.append("Shares, in one-pool: the router chooses by load among the pods that hold an adapter.")
    cautions.append(
        "Each endpoint picker reads endpoint-picker.yaml of its folder at its start, as --config-file."
    )
    cautions.append(
        "one-pool is instead of pools: its served-model-filter is Alpha and wants "
        "--allow-experimental-plugins=true on the endpoint picker."
    )
    if deployment.settings.api_key_secret is not None:
        cautions.append(
            "Engines that want a key answer /v1/models with 401 to the router, whose filter then keeps every "
            "pod: one-pool needs engines without one."
        )
    cautions += [f"In one-pool: {sentence}" for sentence in base_sentence(deployment)]
    comments = head(f"llm-d: {deployment.settings.name}", lost, cautions)
    name = deployment.settings.name
    documents: dict[str, list[Object]] = {
        "engines.yaml": engine_objects(deployment),
        "pools/pools.yaml": pools(deployment),
        "pools/routes.yaml": routes(deployment),
        "pools/models.yaml": model_maps(deployment),
        "pools/endpoint-picker.yaml": [picker_config(filtered=False)],
        "one-pool/pool.yaml": [pool(name, {"lorapack-pool": name}, deployment)],
        "one-pool/route.yaml": [route_to(name, deployment)],
        "one-pool/endpoint-picker.yaml": [picker_config(filtered=True)],
    }
    files = tuple(
        ExportedFile(path, yaml_text(objects, comments))
        if path.endswith("endpoint-picker.yaml")  # a file that the picker reads, and no object
        else manifest(path, objects, comments)
        for path, objects in documents.items()
    )
    steps = (
        "kubectl apply -f engines.yaml",
        "kubectl apply -f pools/pools.yaml -f pools/routes.yaml -f pools/models.yaml  # or:",
        "kubectl apply -f one-pool/pool.yaml -f one-pool/route.yaml",
    )
    return Export(files, (), tuple(lost), tuple(cautions), steps)


def picker_config(*, filtered: bool) -> Object:
    """The configuration of an endpoint picker, a file that it reads at its start and no object.

    Parameters
    ----------
    filtered
        Whether it asks each pod which models it serves, and leaves out those without the one asked for.
    """
    chain = ["lora-affinity-scorer", "queue-scorer", "max-score-picker"]
    config: Object = {"apiVersion": "llm-d.ai/v1", "kind": "EndpointPickerConfig"}
    sources: list[Object] = []
    if filtered:
        chain.insert(0, "served-model-filter")
        sources = [
            {"type": "models-data-source", "parameters": {"interval": LIST_INTERVAL}},
            {"type": "models-data-extractor"},
        ]
    config["plugins"] = [*sources, *({"type": plugin} for plugin in chain)]
    if filtered:
        extractors = [{"pluginRef": "models-data-extractor"}]
        config["dataLayer"] = {"sources": [{"pluginRef": "models-data-source", "extractors": extractors}]}
    references = [{"pluginRef": plugin} for plugin in chain]
    config["schedulingProfiles"] = [{"name": "default", "plugins": references}]
    return config
