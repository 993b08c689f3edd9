"""Manifests of Kubernetes: adapters, engines and graphs, value by value."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from scenarios.importers.facts import ImportOptions, ImportSourceError, ServerFacts, SourceFacts
from scenarios.importers.manifests import KINDS
from scenarios.importers.source import Source
from tests.scenarios.importers.manifest_texts import CASE, DEPLOYMENT, GRAPHS, KSERVE, VALUES


def read(path: Path) -> SourceFacts:
    source = Source(path)
    kind = next(kind for kind in KINDS if kind.fits(source))
    return kind.read(source, ImportOptions())


def said(tmp_path: Path, text: str, name: str = "m.yaml") -> SourceFacts:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read(path)


def server(facts: SourceFacts) -> ServerFacts:
    (one,) = facts.servers
    return one


def engine(facts: SourceFacts) -> dict[str, object]:
    return {name: value.value for name, value in server(facts).engine.items()}


def sources(facts: SourceFacts) -> dict[str, str | None]:
    return {one.served_name: one.source and one.source.value for one in facts.adapters}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "aibrix.yaml",
            {"code-a": "huggingface://example/code-a", "code-b": "huggingface://example/code-b"},
        ),
        ("production_stack.yaml", {"topics": "example/topics"}),
        ("gie_configmap.yaml", {"reviews": "example/reviews_r8"}),
    ],
)
def test_the_three_forms_say_names_and_sources_and_no_rank_or_rate(
    file: str, expected: dict[str, str]
) -> None:
    facts = read(CASE / file)
    assert sources(facts) == expected
    assert all(one.rank is None and one.rate is None for one in facts.adapters)
    assert not facts.servers


def test_origins_name_file_document_and_key() -> None:
    first, second = read(CASE / "aibrix.yaml").adapters
    assert first.origin == "aibrix.yaml, document 1: metadata.name"
    assert second.source is not None
    assert second.source.origin == "aibrix.yaml, document 2: spec.artifactURL"


def test_the_syncers_base_model_is_that_of_the_model_if_it_has_one(tmp_path: Path) -> None:
    text = (CASE / "gie_configmap.yaml").read_text()
    (one,) = said(tmp_path, text.replace("source:", "base-model: org/own, source:")).adapters
    assert one.base_model is not None
    assert one.base_model.value == "org/own"
    (other,) = said(tmp_path, text).adapters
    assert other.base_model is not None
    assert other.base_model.value == "meta-llama/Llama-3.1-8B-Instruct"


def test_a_list_as_json_and_packed_says_the_same(tmp_path: Path) -> None:
    item = {
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": "code-a", "labels": None},
        "spec": {"artifactURL": "huggingface://example/code-a", "podSelector": {"matchLabels": {"a": "b"}}},
    }
    path = tmp_path / "list.json.gz"
    whole = {"apiVersion": "v1", "kind": "List", "items": [item, item | {"metadata": {"name": "code-b"}}]}
    path.write_bytes(gzip.compress(json.dumps(whole, indent=2).encode()))
    assert list(sources(read(path))) == ["code-a", "code-b"]


def test_users_and_passwords_of_addresses_are_not_copied(tmp_path: Path) -> None:
    text = (CASE / "aibrix.yaml").read_text().replace("huggingface://", "https://me:secret@hub/")
    assert "secret" not in str(said(tmp_path, text))


def test_what_is_not_known_is_passed_over_and_told(tmp_path: Path) -> None:
    text = (CASE / "aibrix.yaml").read_text() + "\n---\napiVersion: example.com/v1\nkind: Other\n---\n# end\n"
    facts = said(tmp_path, text)
    assert len(facts.adapters) == 2
    assert facts.notes == ("m.yaml: passed over example.com Other.",)


def test_objects_of_two_namespaces_are_told_of_and_none_is_taken(tmp_path: Path) -> None:
    text = (CASE / "aibrix.yaml").read_text()
    one = text.replace("{name: code-a}", "{name: code-a, namespace: blue}")
    assert said(tmp_path, one).settings["namespace"].value == "blue"
    two = said(tmp_path, one.replace("{name: code-b}", "{name: code-b, namespace: green}"))
    assert not two.settings
    assert "namespaces blue and green" in two.notes[0]


def test_a_daemon_set_has_the_pods_that_its_status_says(tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("kind: Deployment", "kind: DaemonSet").replace("  replicas: 3\n", "")
    unsaid = server(said(tmp_path, text))
    assert unsaid.replicas == 1
    assert any("on how many nodes it runs is not said" in note for note in unsaid.notes)
    one = server(said(tmp_path, text + "status: {desiredNumberScheduled: 5}\n"))
    assert (one.replicas, one.adapters) == (5, ("fr", "cost$"))
    assert not any("DaemonSet" in note for note in one.notes)
    none = said(tmp_path, text + "status: {desiredNumberScheduled: 0}\n")
    assert not none.servers


@pytest.mark.parametrize("number", ["-1", "true", "'2'", "1.5", "[1]", "5000", "1e3"])
def test_a_wrong_number_of_daemons_is_refused(tmp_path: Path, number: str) -> None:
    text = DEPLOYMENT.replace("kind: Deployment", "kind: DaemonSet")
    with pytest.raises(ImportSourceError, match="desiredNumberScheduled"):
        said(tmp_path, f"{text}status: {{desiredNumberScheduled: {number}}}\n")


TERMS = """\
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: {terms}
"""
L40S = "{matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L40S]}]}"


@pytest.mark.parametrize(
    ("terms", "device"),
    [
        (f"[{L40S}]", "NVIDIA-L40S"),
        (f"[{L40S}, {L40S}]", "NVIDIA-L40S"),
        (f"[{L40S}, {L40S.replace('L40S', 'A100')}]", None),  # either node will do
        (f"[{L40S}, {{matchExpressions: [{{key: zone, operator: Exists}}]}}]", None),
        (f"[{L40S.replace('In,', 'NotIn,')}]", None),
        (f"[{L40S.replace('[NVIDIA-L40S]', '[NVIDIA-L40S, NVIDIA-A100]')}]", None),
        ("[]", None),
    ],
)
def test_a_kind_of_gpu_may_be_asked_for_by_affinity(tmp_path: Path, terms: str, device: str | None) -> None:
    text = re.sub(r" *nodeSelector: \{[^}]*\}\n", "", DEPLOYMENT)
    assert text != DEPLOYMENT
    text = text.replace(
        "    spec:\n      containers", f"    spec:\n{TERMS.format(terms=terms)}      containers"
    )
    one = server(said(tmp_path, text))
    assert (one.device.value if one.device else None) == device


def test_a_deployment_says_its_engine_replicas_adapters_and_gpu(tmp_path: Path) -> None:
    facts = said(tmp_path, DEPLOYMENT)
    one = server(facts)
    assert one.name == "fr-engine"
    assert one.replicas == 3
    assert one.model is not None
    assert one.model.value == "org/base"
    assert one.device is not None
    assert one.device.value == "NVIDIA-H100-80GB-HBM3"
    assert one.adapters == ("fr", "cost$")
    assert engine(facts)["max_lora_rank"] == 32
    assert engine(facts)["max_loras"] == 4
    assert sources(facts)["fr"] == "/adapters/fr"
    assert "top-secret" not in str(facts)


def test_a_model_may_be_the_first_word_after_an_images_own_command(tmp_path: Path) -> None:
    facts = said(tmp_path, DEPLOYMENT.replace("[--model, org/base,", "[org/other,"))
    assert server(facts).model is not None
    assert "org/other" in str(server(facts).model)


@pytest.mark.parametrize(
    "command",
    [
        "[vllm, serve, org/base, --max-loras, '2']",
        "[/opt/venv/bin/vllm, serve, org/base, --max-loras, '2']",
        "[python3, -m, vllm.entrypoints.openai.api_server, --model, org/base, --max_loras=2]",
        "[/bin/sh, -c, 'exec vllm serve org/base --max-loras 2']",
    ],
)
def test_commands_are_read_in_each_of_their_forms(command: str, tmp_path: Path) -> None:
    text = DEPLOYMENT[: DEPLOYMENT.index("          args:")] + f"          command: {command}\n"
    facts = said(tmp_path, text)
    assert engine(facts)["max_loras"] == 2
    assert "org/base" in str(server(facts).model)


def test_a_router_of_vllm_is_no_engine(tmp_path: Path) -> None:
    text = DEPLOYMENT[: DEPLOYMENT.index("          args:")] + "          args: [--port, '80']\n"
    facts = said(tmp_path, text)
    assert not facts.servers
    assert "passed over apps Deployment" in facts.notes[0]


def test_an_engine_without_replicas_does_not_run(tmp_path: Path) -> None:
    facts = said(tmp_path, DEPLOYMENT.replace("replicas: 3", "replicas: 0"))
    assert not facts.servers
    assert facts.notes == ("fr-engine has no replicas: it is left out.",)


def test_a_leader_of_workers_says_the_engine(tmp_path: Path) -> None:
    spec = DEPLOYMENT.replace("apps/v1", "leaderworkerset.x-k8s.io/v1").replace(
        "Deployment", "LeaderWorkerSet"
    )
    head, pod = spec.split("  template:\n")
    inner = "".join(f"  {line}\n" for line in pod.splitlines())
    worker = "    workerTemplate: {spec: {containers: [{name: w, command: [ray, start]}]}}\n"
    facts = said(tmp_path, f"{head}  leaderWorkerTemplate:\n    leaderTemplate:\n{inner}{worker}")
    assert engine(facts)["max_loras"] == 4


def test_a_pods_folder_of_adapters_is_not_looked_for_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "adapters" / "fr"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    variable = f'{{name: VLLM_LORA_RESOLVER_CACHE_DIR, value: "{folder.parent}"}}'
    text = DEPLOYMENT.replace(
        '{name: RANK, value: "32"}', f'{{name: RANK, value: "32"}}\n            - {variable}'
    )
    facts = said(tmp_path, text)
    assert server(facts).adapters == ("fr", "cost$")  # those of the command alone
    assert all(one.rank is None for one in facts.adapters)
    assert any("of its pod (VLLM_LORA_RESOLVER_CACHE_DIR)" in note for note in server(facts).notes)


def test_kserves_numbers_of_slots_are_those_of_the_adapters_where_none_is_said(tmp_path: Path) -> None:
    facts = said(tmp_path, KSERVE)
    one = server(facts)
    assert engine(facts) == {
        "max_model_len": 4096,
        "max_num_seqs": 64,
        "max_loras": 3,
        "max_lora_rank": 64,
        "max_cpu_loras": 3,
        "tensor_parallel_size": 2,
    }
    assert "KServe's maxAdapters" in one.engine["max_loras"].origin
    assert (one.name, one.replicas, one.adapters) == ("llama", 2, ("fr", "de", "it"))
    assert one.model is not None
    assert one.model.value == "org/base"
    assert one.served_model_name is not None
    assert one.served_model_name.value == "llama"
    assert sources(facts)["de"] == "pvc://weights/de"


def test_kserves_numbers_that_are_said_count(tmp_path: Path) -> None:
    lora = "lora:\n      maxAdapters: 2\n      maxCpuAdapters: 8\n      name_is_not_read: 1"
    values = engine(said(tmp_path, KSERVE.replace("lora:", lora).replace("v1alpha2", "v1alpha1")))
    assert (values["max_loras"], values["max_cpu_loras"]) == (2, 8)


def test_a_service_of_kserve_that_scales_has_its_least_replicas(tmp_path: Path) -> None:
    scaled = KSERVE.replace("replicas: 2", "scaling: {minReplicas: 4, maxReplicas: 9}")
    assert server(said(tmp_path, scaled)).replicas == 4


@pytest.mark.parametrize("version", GRAPHS)
def test_graphs_of_dynamo_say_their_workers(version: str, tmp_path: Path) -> None:
    facts = said(tmp_path, GRAPHS[version])
    assert (server(facts).name, server(facts).replicas) == ("worker", 2)
    assert engine(facts)["max_lora_rank"] == 64


def test_a_base_model_of_dynamo_is_no_adapter(tmp_path: Path) -> None:
    text = "apiVersion: nvidia.com/v1alpha1\nkind: DynamoModel\nmetadata: {name: m}\n"
    assert not said(tmp_path, text + "spec: {modelName: m, baseModelName: m, modelType: base}").adapters


def test_values_of_the_chart_say_engines_as_the_chart_starts_them(tmp_path: Path) -> None:
    facts = said(tmp_path, VALUES)
    values = engine(facts)
    assert (values["max_loras"], values["max_lora_rank"], values["max_model_len"]) == (4, 64, 8192)
    assert values["enable_prefix_caching"] is False  # the chart says so where nothing is said
    one = server(facts)
    assert one.served_model_name is not None
    assert one.served_model_name.value == "chat"
    assert one.device is not None
    assert one.device.value == "NVIDIA-L40S"
    assert sources(facts) == {"fr": "/adapters/fr"}
    assert any("maxLoraRank, which the chart makes no argument" in note for note in one.notes)


@pytest.mark.parametrize(
    "text",
    [
        "metadata:\n  name: {{ .Release.Name }}\n",
        "{{- range .Values.adapters }}\nmetadata: {}\n{{- end }}\n",
        'metadata:\n  name: "{{ .Values.name }}"\n',
        'metadata: {{ include "x" . }}\n',
    ],
)
def test_a_template_of_helm_is_to_be_rendered(text: str, tmp_path: Path) -> None:
    with pytest.raises(ImportSourceError, match=r"template of Helm.*`helm template`, or give the values"):
        said(tmp_path, f"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\n{text}")


def test_a_chats_template_is_none_of_helms(tmp_path: Path) -> None:
    chat = DEPLOYMENT.replace("[--model", "['--chat-template={{- messages }} {{ x }}', --model")
    assert server(said(tmp_path, chat)).adapters == ("fr", "cost$")
