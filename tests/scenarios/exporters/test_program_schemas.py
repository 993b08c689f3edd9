"""What is exported to programs without a cluster keeps the schemas of what it names."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from scenarios.engine.config import Quantization
from scenarios.exporters import compose, nim, ray_serve, routing, sglang
from scenarios.exporters.deployment import Deployment
from scenarios.exporters.exported import Export
from tests.scenarios.exporters.schema_mutations import Mutation, mutations
from tests.scenarios.exporters.test_plain_targets import HOSTILE, plan, text_of, words_of

SCHEMAS = Path(__file__).parent / "schemas" / "programs"


@cache
def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))


@cache
def validator_of(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def sglang_flags(words: list[str]) -> dict[str, Any]:
    """Flags of a command line of SGLang with what follows each, as the schema states them."""
    flags: dict[str, Any] = {}
    for word in words[3:]:
        if word.startswith("--"):
            name, separator, value = word.partition("=")
            flags[name] = [value] if separator else []
        else:
            flags[name].append(word)
    modules = flags.pop("--lora-paths", None)
    plain = {name: (given[0] if given else True) for name, given in flags.items()}
    return plain if modules is None else {**plain, "--lora-paths": [json.loads(one) for one in modules]}


def yaml_of(export: Export, path: str) -> dict[str, Any]:
    return dict(yaml.load(text_of(export, path), yaml.CSafeLoader))


def documents(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """A document of each schema."""
    routes = routing.export(deployment)
    return {
        "compose": yaml_of(compose.export(deployment), "compose.yaml"),
        "nim_compose": yaml_of(nim.export(deployment), "compose.yaml"),
        "ray_serve": yaml_of(ray_serve.export(deployment), "serve.yaml"),
        "sglang_words": sglang_flags(words_of(text_of(sglang.export(deployment), "serve-g0.sh"))),
        "litellm": yaml_of(routes, "litellm.yaml"),
        "envoy": yaml_of(routes, "envoy.yaml"),
    }


@cache
def samples() -> dict[str, dict[str, Any]]:
    return documents(plan(quantization="fp8", tensor_parallel_size=2, pipeline_parallel_size=2))


def problems(found: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{name}: {error.json_path}: {error.message}"
        for name, document in found.items()
        for error in validator_of(name).iter_errors(document)
    ]


PLANS = [
    {},
    {"source": "s3://bucket/fr"},
    {"source": "org/fr"},
    {"settings": {"hosts": ("a", "b.example"), "gpus_per_host": 2, "port": 9000}},
    {"settings": {"image": f"host.example:5000/x/y@sha256:{0:064d}"}},
    {"model": "/models/llama", "settings": {"served_model_name": "llama"}},
    {"tensor_parallel_size": 2, "kv_cache_dtype": "fp8", "enable_prefix_caching": False},
    {"version": "0.8.5", "compilation_config": {"cudagraph_capture_sizes": [1, 2]}},
    {"dtype": "bfloat16", "max_model_len": 4096},
    *({"quantization": one} for one in get_args(Quantization)),
]


@pytest.mark.parametrize("more", PLANS, ids=str)
def test_every_document_keeps_its_schema(more: dict[str, Any]) -> None:
    assert not problems(documents(plan(**more)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_breaks_no_schema(name: str) -> None:
    found = documents(plan(served=name, source=f"/loras/{name.replace('..', '_')}"))
    assert not problems(found)


def test_every_schema_has_a_document_and_says_where_it_is_from() -> None:
    assert samples().keys() == {file.stem for file in SCHEMAS.glob("*.json")}
    for name in samples():
        Draft202012Validator.check_schema(schema(name))
        assert "$comment" in schema(name)


@pytest.mark.parametrize("mutation", mutations(samples(), schema))
def test_a_field_too_few_or_too_many_is_noticed(mutation: Mutation) -> None:
    validator = validator_of(mutation.schema)
    document = samples()[mutation.schema]
    assert validator.is_valid(document)
    assert not validator.is_valid(mutation.of(document))


_CONFIG = ("applications", 0, "args", "llm_configs", 0)
_ROUTES = ("static_resources", "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config")
_SERVICE = ("services", "lorapack-g0")


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("compose", ("name",), "Upper"),
        ("compose", ("services",), {}),
        ("compose", (*_SERVICE, "ports"), [8000]),
        ("compose", (*_SERVICE, "restart"), "sometimes"),
        ("compose", (*_SERVICE, "command"), [1]),
        ("compose", (*_SERVICE, "volumes", 0, "type"), "folder"),
        ("compose", (*_SERVICE, "volumes", 0, "read_only"), "yes"),
        ("nim_compose", (*_SERVICE, "command"), ["--enable-lora"]),
        ("nim_compose", (*_SERVICE, "command", 2), "many"),
        ("nim_compose", (*_SERVICE, "environment", "NIM_PEFT_SOURCE"), "peft"),
        ("ray_serve", (*_CONFIG, "lora_config", "dynamic_lora_loading_path"), "/adapters/g0"),
        ("ray_serve", (*_CONFIG, "lora_config", "max_num_adapters_per_replica"), 0),
        ("ray_serve", (*_CONFIG, "engine_kwargs"), {"max-loras": 4}),
        ("ray_serve", (*_CONFIG, "model_loading_config", "model_id"), 3),
        ("ray_serve", ("applications", 0, "route_prefix"), "v1"),
        ("sglang_words", ("--dtype",), "fp8"),
        ("sglang_words", ("--quantization",), "marlin24"),
        ("sglang_words", ("--max-loras-per-batch",), "0"),
        ("sglang_words", ("--lora-paths",), []),
        ("sglang_words", ("--lora-paths", 0, "pinned"), "no"),
        ("litellm", ("model_list", 0, "litellm_params", "weight"), 0.25),
        ("litellm", ("model_list", 0, "litellm_params", "api_base"), "127.0.0.1:8000"),
        ("litellm", ("router_settings", "routing_strategy"), "weighted"),
        ("litellm", ("model_list",), []),
        ("envoy", ("static_resources", "clusters", 0, "type"), "DNS"),
        ("envoy", (*_ROUTES, "stat_prefix"), ""),
        ("envoy", (*_ROUTES, "route_config", "virtual_hosts", 0, "domains"), []),
        ("envoy", (*_ROUTES, "route_config", "virtual_hosts", 0, "routes", 0, "route", "timeout"), "1h"),
        ("envoy", ("static_resources", "listeners", 0, "address", "socket_address", "port_value"), 70_000),
    ],
)
def test_values_beyond_limits_are_noticed(name: str, path: tuple[Any, ...], value: object) -> None:
    document = deepcopy(samples()[name])
    target: Any = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    assert not validator_of(name).is_valid(document)


@pytest.mark.parametrize("adapters", [1, 3, 12])
def test_sglang_may_load_as_many_adapters_as_it_is_given(adapters: int) -> None:
    deployment = plan(others=[f"a{k}" for k in range(adapters)])
    for file in sglang.export(deployment).files:
        flags = sglang_flags(words_of(file.text))
        loaded = int(flags["--max-loaded-loras"])
        assert loaded >= int(flags["--max-loras-per-batch"])
        assert loaded >= len(flags["--lora-paths"])
