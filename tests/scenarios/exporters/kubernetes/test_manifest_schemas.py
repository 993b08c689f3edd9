"""What is exported to Kubernetes keeps the schemas of what it names, and the schemas notice what does not."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.scenarios.exporters.kubernetes.kubernetes_plans import (
    BY_KIND,
    SCHEMAS,
    TARGETS,
    documents,
    plan,
    problems,
    schema,
    schema_name,
    validator_of,
)
from tests.scenarios.exporters.schema_mutations import Mutation, mutations

FULL = {"hub_secret": "hub", "api_key_secret": "keys", "storage_claim": "weights"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
@pytest.mark.parametrize(
    "deployment",
    [
        plan(),
        plan(source="/adapters/fr"),
        plan(source=None),
        plan(settings=FULL),
        plan(settings={"storage_claim": None}),
        plan(tensor_parallel_size=2, device="A100"),
        plan(served="Fr.Legal_v2"),
        plan(others=[f"a{k}" for k in range(9)]),
    ],
    ids=["hub", "folder", "unknown", "secrets", "no-volume", "two-gpus", "renamed", "many"],
)
def test_every_document_keeps_its_schema(target: ModuleType, deployment: Any) -> None:
    found = documents(target.export(deployment))
    assert found
    assert not [problem for document in found for problem in problems(document)]


@cache
def samples() -> dict[str, dict[str, Any]]:
    """One document of each schema, of those that targets export the one with the most in it."""
    best: dict[str, dict[str, Any]] = {}
    for deployment in (plan(settings=FULL), plan(settings=FULL, others=[f"a{k}" for k in range(9)])):
        for target in TARGETS:
            for document in documents(target.export(deployment)):
                name = schema_name(document)
                if len(str(document)) > len(str(best.get(name, ""))):
                    best[name] = document
    return best


def test_every_schema_has_a_document() -> None:
    assert set(samples()) == set(BY_KIND.values()) == {file.stem for file in SCHEMAS.glob("*.json")}
    for name in samples():
        Draft202012Validator.check_schema(schema(name))
        assert "$comment" in schema(name)


@pytest.mark.parametrize("mutation", mutations(samples(), schema))
def test_a_field_too_few_or_too_many_is_noticed(mutation: Mutation) -> None:
    validator = validator_of(mutation.schema)
    document = samples()[mutation.schema]
    assert validator.is_valid(document)
    assert not validator.is_valid(mutation.of(document))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("http_route", ("spec", "rules", 0, "backendRefs", 0, "weight"), 1_000_001),
        ("http_route", ("spec", "rules", 0, "backendRefs", 0, "weight"), 0.25),
        ("inference_pool", ("spec", "targetPorts"), []),
        ("inference_pool", ("spec", "targetPorts", 0, "number"), 70_000),
        ("inference_pool", ("spec", "endpointPickerRef", "failureMode"), "Open"),
        ("model_adapter", ("spec", "replicas"), 2),
        ("lora_adapter", ("spec", "adapterSource", "type"), "s3"),
        ("lora_adapter", ("spec", "loraAdapterDeploymentConfig", "replicas"), -1),
        ("llm_inference_service", ("spec", "model", "lora", "maxAdapters"), 0),
        ("llm_inference_service", ("spec", "model", "uri"), "/models/llama"),
        ("dynamo_model", ("spec", "modelType"), "LoRA"),
        ("dynamo_model", ("spec", "source", "uri"), "/adapters/x"),
        ("deployment", ("metadata", "name"), "Upper_Case"),
        ("deployment", ("spec", "template", "metadata", "labels"), {"a": "x" * 64}),
        ("deployment", ("spec", "template", "spec", "containers"), []),
        ("chart_values", ("servingEngineSpec", "modelSpec", 0, "replicaCount"), "1"),
    ],
)
def test_values_beyond_limits_are_noticed(name: str, path: tuple[Any, ...], value: object) -> None:
    document = deepcopy(samples()[name])
    target: Any = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    assert not validator_of(name).is_valid(document)
