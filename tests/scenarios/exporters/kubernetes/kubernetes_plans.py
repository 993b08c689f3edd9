"""Plans that tests of the targets to Kubernetes export, and their documents."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.exporters.deployment import Deployment, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes import aibrix, dynamo, gie, kserve, llm_d, production_stack
from scenarios.placement import PlacedAdapter, PlacedGPU, Placement

TARGETS = [production_stack, aibrix, gie, llm_d, kserve, dynamo]
SCHEMAS = Path(__file__).parents[1] / "schemas"
IMAGE = "registry:5000/engine/vllm:0.32.0"

BY_KIND = {
    ("apps/v1", "Deployment"): "deployment",
    ("v1", "Service"): "service",
    ("v1", "ConfigMap"): "model_map",
    ("inference.networking.k8s.io/v1", "InferencePool"): "inference_pool",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "http_route",
    ("llm-d.ai/v1", "EndpointPickerConfig"): "endpoint_picker",
    ("model.aibrix.ai/v1alpha1", "ModelAdapter"): "model_adapter",
    ("production-stack.vllm.ai/v1alpha1", "LoraAdapter"): "lora_adapter",
    ("serving.kserve.io/v1alpha2", "LLMInferenceService"): "llm_inference_service",
    ("nvidia.com/v1alpha1", "DynamoModel"): "dynamo_model",
    ("nvidia.com/v1alpha1", "DynamoGraphDeployment"): "dynamo_graph",
    (None, None): "chart_values",
}


def plan(served: str = "fr-legal", source: str | None = "org/fr-legal", **more: Any) -> Deployment:
    """Two GPUs: the first holds `one` and the base model, both hold `split`."""
    settings = {"image": IMAGE, "storage_claim": "weights"} | more.pop("settings", {})
    one = ("one", *more.pop("others", ()))
    gpus = (
        PlacedGPU(
            gpu=0,
            device="H100",
            max_loras=4,
            max_lora_rank=16,
            max_cpu_loras=6,
            adapters=(*one, "split", "base"),
            shares={"split": 0.251},
        ),
        PlacedGPU(
            gpu=3,
            device=more.pop("device", "H100"),
            max_loras=2,
            max_lora_rank=64,
            adapters=("split",),
            shares={"split": 0.749},
        ),
    )
    placement = Placement(
        gpus=gpus,
        model=more.pop("model", "meta-llama/Llama-3.1-8B-Instruct"),
        engine_version=more.pop("version", "0.32.0"),
        engine=EngineConfig(**more),
        adapters={
            "one": PlacedAdapter(source=source, served_name=served),
            "split": PlacedAdapter(source="s3://bucket/split"),
            "base": PlacedAdapter(base=True),
        },
        export=ExportSettings(**settings),
    )
    return deployment_of(placement)


def documents(export: Export, path: str | None = None) -> list[dict[str, Any]]:
    """The documents of an export's files, or of one of them."""
    files = [file for file in export.files if path in (None, file.path)]
    return [one for file in files for one in yaml.load_all(file.text, yaml.CSafeLoader)]


def of_kind(export: Export, kind: str) -> list[dict[str, Any]]:
    return [one for one in documents(export) if one.get("kind") == kind]


def schema_name(document: dict[str, Any]) -> str:
    return BY_KIND[document.get("apiVersion"), document.get("kind")]


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


@cache
def validator_of(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def problems(document: dict[str, Any]) -> list[str]:
    """What a document breaks of its schema."""
    errors = validator_of(schema_name(document)).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]
