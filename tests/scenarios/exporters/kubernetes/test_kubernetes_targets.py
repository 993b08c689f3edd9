"""Exports to stacks of Kubernetes say what the plan says, and name what they cannot say."""

from __future__ import annotations

import json
import re
import shlex
from types import ModuleType
from typing import Any

import pytest
import yaml

from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.exporters.deployment import Deployment, ExportError, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes import aibrix, dynamo, gie, kserve, llm_d, production_stack
from scenarios.exporters.kubernetes.names import dns_label, object_name
from scenarios.exporters.kubernetes.pods import literal
from scenarios.exporters.targets import find_target
from scenarios.placement import PlacedAdapter, PlacedGPU, Placement
from tests.hostile_texts import HOSTILE_TEXTS
from tests.scenarios.exporters.kubernetes.kubernetes_plans import TARGETS, documents, of_kind, plan, problems

HOSTILE = [*HOSTILE_TEXTS, "$(HOME)", "$$", "a\\nb", "-x", "on", "1e3", "~", "&a *b !c", "A.B_C", "x" * 200]
"""Names that mean something to a shell, to YAML, to Kubernetes or to a template."""


def expanded(word: str) -> str:
    """A word as Kubernetes gives it to a container that has no variables."""
    return word.replace("$$", "$")


def container(document: dict[str, Any]) -> dict[str, Any]:
    (one,) = document["spec"]["template"]["spec"]["containers"]
    return dict(one)


def served_names(target: ModuleType, export: Export) -> set[str]:
    """Names of adapters in the fields in which clients' names stand."""
    if target is kserve:
        lists = [one["spec"]["model"]["lora"]["adapters"] for one in of_kind(export, "LLMInferenceService")]
        return {adapter["name"] for adapters in lists for adapter in adapters}
    if target is production_stack:
        return {one["spec"]["adapterSource"]["adapterName"] for one in of_kind(export, "LoraAdapter")}
    if target is aibrix:
        return {one["metadata"]["name"] for one in of_kind(export, "ModelAdapter")}
    if target is dynamo:
        return {one["spec"]["modelName"] for one in of_kind(export, "DynamoModel")}
    words = [expanded(w) for one in of_kind(export, "Deployment") for w in container(one)["args"]]
    return {json.loads(word)["name"] for word in words if word.startswith("{")}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_any_name_stays_a_name_or_is_refused(target: ModuleType, name: str) -> None:
    export = target.export(plan(served=name))
    made = dns_label(name) if target is aibrix or "/" in name or "{{" in name else name
    if target in (aibrix, kserve):
        assert made in served_names(target, export)
        assert (made == name) != any("Names of adapters" in one for one in export.lost)
        notes = [one["metadata"].get("annotations", {}) for one in documents(export)]
        kept = {one.get("lorapack/served-name") for one in notes}
        kept |= {x for one in notes for x in json.loads(one.get("lorapack/served-names", "{}")).values()}
        assert (made == name) != (name in kept)
    else:
        assert name in served_names(target, export)
    assert not [problem for document in documents(export) for problem in problems(document)]
    for file in export.files:
        for line in file.text.splitlines():
            assert line.isprintable()
        assert ".." not in file.path


@pytest.mark.parametrize("source", [f"/adapters/{name}" for name in HOSTILE] + ["hf://a b", "s3://b/$(x)"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_any_source_stays_a_source_or_is_lost(target: ModuleType, source: str) -> None:
    export = target.export(plan(source=source))
    assert not [problem for document in documents(export) for problem in problems(document)]
    assert "fr-legal" in served_names(target, export) or any("left out: one" in s for s in export.lost)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_a_target_is_found_by_name_and_says_the_same_twice(target: ModuleType) -> None:
    assert find_target(target.NAME) is target
    assert target.export(plan()) == target.export(plan())
    assert re.search(r"@[0-9a-f]{8}", target.CHECKED)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_what_is_lost_stands_above_every_file(target: ModuleType) -> None:
    export = target.export(plan(device="A100"))
    assert any("H100, A100" in sentence for sentence in export.lost)
    for file in export.files:
        assert all(f"# - {sentence}\n" in file.text for sentence in (*export.lost, *export.cautions))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_names_too_long_for_kubernetes_are_refused(target: ModuleType) -> None:
    known = plan()
    gpu = PlacedGPU(gpu=10**60, device="H100", max_loras=1, max_lora_rank=8, adapters=("x",))
    group = known.groups[0]
    long = type(group)(**{**vars(group), "gpu": gpu, "name": f"lorapack-g{10**60}"})
    deployment = Deployment(**{**vars(known), "groups": (long, known.groups[1])})
    with pytest.raises(ExportError, match="too long"):
        target.export(deployment)


@pytest.mark.parametrize("target", [production_stack, aibrix, gie, llm_d], ids=lambda target: target.NAME)
def test_without_image_and_release_nothing_is_invented(target: ModuleType) -> None:
    with pytest.raises(ExportError, match=r"export\.image"):
        target.export(plan(settings={"image": None}, version=None))


@pytest.mark.parametrize("target", [aibrix, gie, llm_d], ids=lambda target: target.NAME)
def test_engines_are_started_with_what_was_judged(target: ModuleType) -> None:
    first, second = of_kind(target.export(plan(tensor_parallel_size=2)), "Deployment")
    for one, slots, rank in ((first, "4", "16"), (second, "2", "64")):
        words = container(one)["args"]
        assert container(one)["command"] == ["vllm", "serve"]
        assert words[0] == "meta-llama/Llama-3.1-8B-Instruct"
        assert words[words.index("--max-loras") + 1] == slots
        assert words[words.index("--max-lora-rank") + 1] == rank
        assert words[words.index("--tensor-parallel-size") + 1] == "2"
        assert container(one)["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
        assert container(one)["startupProbe"]["httpGet"] == {"path": "/health", "port": "http"}
        selector = one["spec"]["selector"]["matchLabels"]
        assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    assert first["spec"]["selector"] != second["spec"]["selector"]


def test_secrets_and_volumes_are_named_and_never_written_out() -> None:
    settings = {"hub_secret": "hub", "api_key_secret": "keys", "storage_claim": "disk"}
    (first, _) = of_kind(gie.export(plan(settings=settings)), "Deployment")
    variables = {one["name"]: one for one in container(first)["env"]}
    assert variables["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert variables["VLLM_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "api-key"}}
    claims = [v.get("persistentVolumeClaim") for v in first["spec"]["template"]["spec"]["volumes"]]
    assert {"claimName": "disk", "readOnly": True} in claims
    mounted = {one["name"]: one["mountPath"] for one in container(first)["volumeMounts"]}
    assert mounted["weights"] == "/adapters"


def test_a_folder_that_no_volume_holds_is_named() -> None:
    export = gie.export(plan(source="/elsewhere/fr", settings={"storage_claim": None}))
    assert any("No volume holds /elsewhere/fr" in sentence for sentence in export.cautions)
    assert any("name a claim that does" in sentence for sentence in export.cautions)
    model = gie.export(plan(model="/models/llama"))
    assert any("The claim weights is mounted at /adapters, and /models/llama" in s for s in model.cautions)
    held = gie.export(plan(source="/adapters/fr"))
    assert not any("/adapters/fr" in sentence for sentence in held.cautions)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "/adapters/one"),
        ({"storage_claim": None, "adapters_dir": "/mnt/loras"}, "/mnt/loras/one"),
        ({"storage_claim": None}, "/home/me/adapters/one"),
    ],
)
def test_a_folder_of_this_machine_is_looked_for_where_pods_have_it(
    settings: dict[str, Any], where: str
) -> None:
    export = gie.export(plan(source="/home/me/adapters/one", settings=settings))
    (first, _) = of_kind(export, "Deployment")
    assert f'"path": "{where}"' in " ".join(container(first)["args"])
    moved = any(f"copy /home/me/adapters/one to {where}" in sentence for sentence in export.cautions)
    assert moved is (where != "/home/me/adapters/one")


@pytest.mark.parametrize("target", [gie, llm_d], ids=lambda target: target.NAME)
def test_shares_are_weights_of_pools(target: ModuleType) -> None:
    export = target.export(plan())
    maps = {
        one["data"]["baseModel"]: yaml.safe_load(one["data"].get("adapters", "[]"))
        for one in of_kind(export, "ConfigMap")
    }
    (split,) = (key for key in maps if key.startswith("lorapack-r-split-"))
    assert maps == {
        "meta-llama/Llama-3.1-8B-Instruct": [],
        "lorapack-r-g0": ["fr-legal"],
        split: ["split"],
    }
    weights = {}
    for route in of_kind(export, "HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        if "matches" in rule:
            ((header,),) = (match["headers"] for match in rule["matches"])
            assert header["name"] == "X-Gateway-Base-Model-Name"
            weights[header["value"]] = {one["name"]: one["weight"] for one in rule["backendRefs"]}
    assert weights == {
        "meta-llama/Llama-3.1-8B-Instruct": {"lorapack-g0": 1000},
        "lorapack-r-g0": {"lorapack-g0": 1000},
        split: {"lorapack-g0": 251, "lorapack-g3": 749},
    }
    pools = {one["metadata"]["name"]: one["spec"]["selector"] for one in of_kind(export, "InferencePool")}
    assert pools["lorapack-g3"] == {"matchLabels": {"lorapack-group": "lorapack-g3"}}
    assert any("nobody has tried it" in sentence for sentence in export.cautions)


def test_one_more_backend_than_a_rule_holds_is_refused() -> None:
    gpus = [
        PlacedGPU(gpu=k, device="H100", max_loras=1, max_lora_rank=8, adapters=("x",), shares={"x": 1 / 17})
        for k in range(17)
    ]

    wide = deployment_of(
        Placement(gpus=tuple(gpus), model="org/model", engine_version="0.32.0", engine=EngineConfig())
    )
    with pytest.raises(ExportError, match="at most 16"):
        gie.export(wide)


@pytest.mark.parametrize("name", ["é漢", "two  blanks", "blank ", "a" * 300 + "é"])
def test_a_base_model_that_no_header_holds_is_refused(name: str) -> None:
    with pytest.raises(ExportError, match="no header holds"):
        gie.export(plan(settings={"served_model_name": name}))


def test_the_variant_of_one_pool_filters_by_what_pods_serve() -> None:
    export = llm_d.export(plan())
    (config,) = documents(export, "one-pool/endpoint-picker.yaml")
    order = [one["pluginRef"] for one in config["schedulingProfiles"][0]["plugins"]]
    assert order[0] == "served-model-filter"
    declared = {one["type"] for one in config["plugins"]}
    assert {"models-data-source", "models-data-extractor", *order} <= declared
    (source,) = config["dataLayer"]["sources"]
    assert source["extractors"] == [{"pluginRef": "models-data-extractor"}]
    (plain,) = documents(export, "pools/endpoint-picker.yaml")
    assert "served-model-filter" not in str(plain)
    assert any("--allow-experimental-plugins=true" in sentence for sentence in export.cautions)
    (pool,) = documents(export, "one-pool/pool.yaml")
    selector = pool["spec"]["selector"]["matchLabels"]
    for one in of_kind(export, "Deployment"):
        assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_kserve_says_all_three_numbers_in_every_service() -> None:
    first, second = of_kind(kserve.export(plan()), "LLMInferenceService")
    assert first["spec"]["model"]["lora"] == {
        "adapters": [
            {"name": "fr-legal", "uri": "hf://org/fr-legal"},
            {"name": "split", "uri": "s3://bucket/split"},
        ],
        "maxRank": 16,
        "maxAdapters": 4,
        "maxCpuAdapters": 6,
    }
    assert second["spec"]["model"]["lora"]["maxCpuAdapters"] == 2
    assert "annotations" not in first["spec"]
    (variable,) = first["spec"]["template"]["containers"][0]["env"]
    words = shlex.split(expanded(variable["value"]))
    assert words[words.index("--max-model-len") + 1] == "16384"
    assert not [word for word in words if "lora" in word]


@pytest.mark.parametrize(("others", "routed"), [(5, False), (6, True)])
def test_kserve_routes_eight_adapters_by_a_regular_expression(others: int, routed: bool) -> None:
    names = [f"a{k}" for k in range(others)]  # beside fr-legal and split
    first, _ = of_kind(kserve.export(plan(others=names)), "LLMInferenceService")
    strategy = first["spec"].get("annotations", {}).get("serving.kserve.io/lora-model-routing-strategy")
    assert (strategy == "regex") is routed


def test_kserve_loses_folders_outside_its_claim_and_refuses_such_a_model() -> None:
    inside = kserve.export(plan(source="/adapters/fr"))
    assert "pvc://weights/fr" in inside.files[0].text
    export = kserve.export(plan(source="/elsewhere/fr", settings={"storage_claim": None}))
    assert any("left out: one" in sentence for sentence in export.lost)
    with pytest.raises(ExportError, match="pvc://"):
        kserve.export(plan(model="/models/llama"))
    held = kserve.export(plan(model="/adapters/llama"))
    (first, _) = of_kind(held, "LLMInferenceService")
    assert first["spec"]["model"]["uri"] == "pvc://weights/llama"


def test_aibrix_holds_adapters_to_groups_by_labels() -> None:
    export = aibrix.export(plan())
    adapters = {one["metadata"]["name"]: one["spec"] for one in of_kind(export, "ModelAdapter")}
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(export, "Deployment")
    }

    def holders(name: str) -> set[str]:
        wanted = adapters[name]["podSelector"]["matchLabels"].items()
        return {pod for pod, labels in pods.items() if wanted <= labels.items()}

    assert holders("fr-legal") == {"lorapack-g0"}
    assert holders("split") == {"lorapack-g0", "lorapack-g3"}
    assert "replicas" not in adapters["fr-legal"]
    assert adapters["fr-legal"]["artifactURL"] == "huggingface://org/fr-legal"
    assert adapters["split"]["artifactURL"] == "/adapters/split"  # a bucket wants AIBrix's sidecar
    assert any("fetch each" in sentence for sentence in export.lost)
    assert all(labels["adapter.model.aibrix.ai/enabled"] == "true" for labels in pods.values())
    (service,) = of_kind(export, "Service")
    words = container(of_kind(export, "Deployment")[0])["args"]
    assert service["metadata"]["name"] == adapters["split"]["baseModel"]
    assert service["metadata"]["name"] in words
    assert any("Shares" in sentence for sentence in export.lost)
    assert any("one pod or by all" in sentence for sentence in export.cautions)


def test_production_stack_gives_each_group_a_model_of_its_own() -> None:
    export = production_stack.export(plan(settings={"hub_secret": "hub"}))
    (values,) = documents(export, "values.yaml")
    first, second = values["servingEngineSpec"]["modelSpec"]
    assert (first["repository"], first["tag"]) == ("registry:5000/engine/vllm", "0.32.0")
    assert first["vllmConfig"]["maxLoras"] == 4
    assert "--enable-lora" not in first["vllmConfig"]["extraArgs"]  # enableLoRA says it
    assert second["vllmConfig"]["extraArgs"][-2:] == ["--max-cpu-loras", "2"]
    adapters = of_kind(export, "LoraAdapter")
    by_name = [(one["spec"]["adapterSource"]["adapterName"], one["spec"]["baseModel"]) for one in adapters]
    assert by_name == [("fr-legal", first["name"]), ("split", first["name"]), ("split", second["name"])]
    assert adapters[0]["spec"]["adapterSource"]["credentialsSecretRef"] == {"name": "hub", "key": "token"}
    assert adapters[1]["spec"]["adapterSource"]["type"] == "local"
    assert len({one["metadata"]["name"] for one in adapters}) == 3
    assert any("first pod" in sentence for sentence in export.cautions)


@pytest.mark.parametrize("image", ["vllm/vllm-openai", "x/y@sha256:00", "host:5000/vllm"])
def test_production_stack_refuses_an_image_without_a_tag(image: str) -> None:
    with pytest.raises(ExportError, match="REPOSITORY:TAG"):
        production_stack.export(plan(settings={"image": image}))


def test_dynamo_names_the_group_as_base_model_and_switches_its_allocator_off() -> None:
    export = dynamo.export(plan())
    (graph,) = of_kind(export, "DynamoGraphDeployment")
    models = of_kind(export, "DynamoModel")
    pairs = [(one["spec"]["modelName"], one["spec"]["baseModelName"]) for one in models]
    assert pairs == [("fr-legal", "lorapack-g0"), ("split", "lorapack-g0"), ("split", "lorapack-g3")]
    services = graph["spec"]["services"]
    assert {one["modelRef"]["name"] for one in services.values() if "modelRef" in one} == {
        p[1] for p in pairs
    }
    for one in services.values():
        variables = {v["name"]: v.get("value") for v in one["extraPodSpec"]["mainContainer"]["env"]}
        assert variables["DYN_LORA_ALLOCATION_ENABLED"] == "false"
    with pytest.raises(ExportError, match=r"export\.image"):
        dynamo.export(plan(settings={"image": None}))


def test_dynamo_is_told_which_resource_a_gpu_is() -> None:
    (graph,) = of_kind(dynamo.export(plan(settings={"gpu_resource": "amd.com/gpu"})), "DynamoGraphDeployment")
    limits = [one["resources"]["limits"] for one in graph["spec"]["services"].values() if "resources" in one]
    assert limits == [{"gpu": "1", "gpuType": "amd.com/gpu"}] * 2
    assert not problems(graph)


@pytest.mark.parametrize(("engines", "refused"), [(24, False), (25, True)])
def test_dynamo_refuses_more_engines_than_a_graph_holds(engines: int, refused: bool) -> None:
    gpus = [
        PlacedGPU(gpu=k, device="H100", max_loras=1, max_lora_rank=8, adapters=(f"a{k}",))
        for k in range(engines)
    ]
    settings = ExportSettings(image="nvcr.io/x/dynamo:1")
    told = {f"a{k}": PlacedAdapter(source=f"org/a{k}") for k in range(engines)}
    deployment = deployment_of(
        Placement(gpus=tuple(gpus), model="org/m", engine=EngineConfig(), adapters=told, export=settings)
    )
    if refused:
        with pytest.raises(ExportError, match="gpus are 25, and a graph of Dynamo's has 24 engines at most"):
            dynamo.export(deployment)
        return
    (graph,) = of_kind(dynamo.export(deployment), "DynamoGraphDeployment")
    assert not problems(graph)


@pytest.mark.parametrize("text", [*HOSTILE, "", "-", "9lives", "a" * 63, "a" * 64, "İ", "a--b"])
def test_names_are_labels_of_dns(text: str) -> None:
    name = dns_label(text)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 63
    assert dns_label(name) == name
    assert len(object_name("lorapack-g12345678", text)) <= 63


def test_names_that_differ_stay_apart() -> None:
    names = [*HOSTILE, "a b", "a_b", "a.b", "a-b", "A-b", "x" * 201, "x" * 202]
    assert len({dns_label(name) for name in names}) == len(names)
    assert dns_label("fr-legal") == "fr-legal"


def test_what_looks_like_a_variable_is_not_replaced() -> None:
    assert literal("$(HOME) $$ $x") == "$$(HOME) $$$$ $$x"
    assert expanded(literal("$(HOME) $$ $x")) == "$(HOME) $$ $x"
