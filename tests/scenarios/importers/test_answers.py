"""Answers of /v1/models beside sources that tell of the same servers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from scenarios import import_fleet
from scenarios.importers.answers import with_answers
from scenarios.importers.facts import MODELS, ImportSourceError, ServerFacts

MODEL = "meta-llama/Llama-3.1-8B-Instruct"

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: llama, namespace: llm}}
spec:
  replicas: {replicas}
  template:
    metadata: {{labels: {{app: llama}}}}
    spec:
      nodeSelector: {{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}}
      containers:
      - image: vllm/vllm-openai:v0.11.0
        env: [{{name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "True"}}]
        command: [vllm, serve]
        args: [{model}, --served-model-name, llama-8b, --enable-lora, --max-loras=4{more}]
"""

ADAPTER = """
---
apiVersion: model.aibrix.ai/v1alpha1
kind: ModelAdapter
metadata: {{name: {name}, namespace: llm}}
spec:
  baseModel: llama-8b
  podSelector: {{matchLabels: {{app: llama}}}}
  artifactURL: s3://lora/{name}
  replicas: 1
status: {{phase: Running, instances: [{pod}]}}
"""


def answer(
    folder: Path, name: str, adapters: Sequence[str], root: str = MODEL, model: str = "llama-8b"
) -> Path:
    """An answer of /v1/models as vLLM writes it."""
    cards = [{"id": model, "object": "model", "owned_by": "vllm", "root": root, "parent": None}]
    cards += [
        {"id": one, "object": "model", "owned_by": "vllm", "root": f"/srv/loaded/{one}", "parent": model}
        for one in adapters
    ]
    path = folder / name
    path.write_text(json.dumps({"object": "list", "data": cards}))
    return path


def engines(folder: Path, replicas: int = 2, more: str = "") -> Path:
    path = folder / "engines.yaml"
    path.write_text(DEPLOYMENT.format(replicas=replicas, model=MODEL, more=more))
    return path


def script(folder: Path, *commands: str) -> Path:
    path = folder / "start.sh"
    path.write_text("".join(f"vllm serve {MODEL} --enable-lora --max-loras 4 {one} &\n" for one in commands))
    return path


def held(paths: Sequence[Path]) -> list[list[str]]:
    """Adapters of each GPU of what runs now."""
    text = import_fleet(paths, "devices=H100-80GB").placement_text
    return [gpu["adapters"] for gpu in yaml.safe_load(text)["gpus"]]


def test_answers_of_all_replicas_fill_the_replicas(tmp_path: Path) -> None:
    sources = [
        engines(tmp_path),
        answer(tmp_path, "one.json", ["a", "b"]),
        answer(tmp_path, "two.json", ["c"]),
    ]
    assert held(sources) == [["a", "b"], ["c"]]
    assert yaml.safe_load(import_fleet(sources).placement_text)["gpus"][0]["max_loras"] == 4


def test_the_status_of_aibrix_adapters_names_their_pods(tmp_path: Path) -> None:
    path = engines(tmp_path)
    pods = {"a": "llama-7c9-x", "b": "llama-7c9-y", "c": "llama-7c9-x"}
    path.write_text(path.read_text() + "".join(ADAPTER.format(name=n, pod=p) for n, p in pods.items()))
    assert held([path]) == [["a", "c"], ["b"]]
    assert not any("Only some pods" in note for note in import_fleet(path).notes)
    # The answers are of the pods that hold the same, whatever their files are called.
    both = [path, answer(tmp_path, "m1.json", ["b"]), answer(tmp_path, "m2.json", ["a", "c"])]
    assert held(both) == [["a", "c"], ["b"]] or held(both) == [["b"], ["a", "c"]]
    text = import_fleet(both).text
    assert "s3://lora/a" in text  # what the manifest says counts more
    assert "/srv/loaded" not in text


PODS = {"x": ["a", "new"], "y": ["b"]}


def test_an_answer_named_by_a_pod_replaces_what_its_status_says(tmp_path: Path) -> None:
    path = engines(tmp_path)
    path.write_text(path.read_text() + ADAPTER.format(name="a", pod="llama-7c9-x"))
    sources = [
        path,
        answer(tmp_path, "llama-7c9-x.json", ["a", "new"]),
        answer(tmp_path, "llama-7c9-y.json", []),
    ]
    assert held(sources) == [["a", "new"]] or held(sources)[0] == ["a", "new"]


def test_files_named_by_ports_say_which_server_answered(tmp_path: Path) -> None:
    path = script(tmp_path, "--port 8000", "--port 8001")
    sources = [path, answer(tmp_path, "models-8001.json", ["b"]), answer(tmp_path, "models-8000.json", ["a"])]
    assert held(sources) == [["a"], ["b"]]


def test_answers_are_of_the_servers_that_were_started_with_their_adapters(tmp_path: Path) -> None:
    path = script(tmp_path, "--port 8000 --lora-modules a=/l/a", "--port 8001 --lora-modules b=/l/b c=/l/c")
    sources = [path, answer(tmp_path, "x.json", ["b", "c"]), answer(tmp_path, "y.json", ["a", "later"])]
    assert held(sources) == [["a", "later"], ["b", "c"]]


def test_one_answer_of_one_server_counts_more_than_its_command(tmp_path: Path) -> None:
    path = script(tmp_path, "--lora-modules a=/l/a b=/l/b")
    assert held([path, answer(tmp_path, "x.json", ["b"])]) == [["b"]]


def test_engines_of_one_data_parallel_server_answer_as_one(tmp_path: Path) -> None:
    path = script(tmp_path, "--data-parallel-size 2")
    assert held([path, answer(tmp_path, "x.json", ["a"])]) == [["a"], ["a"]]


def test_answers_alone_are_servers(tmp_path: Path) -> None:
    assert held([answer(tmp_path, "x.json", ["a"]), answer(tmp_path, "y.json", ["b"])]) == [["a"], ["b"]]


def test_replicas_that_did_not_answer_are_told_of(tmp_path: Path) -> None:
    fleet = import_fleet(
        [engines(tmp_path, 3, ", --lora-modules, a=/l/a"), answer(tmp_path, "x.json", ["a", "b"])]
    )
    assert any("1 of its 3 replicas answered" in note for note in fleet.notes)
    assert [gpu["adapters"] for gpu in yaml.safe_load(fleet.placement_text)["gpus"]] == [
        ["a", "b"],
        ["a"],
        ["a"],
    ]


@pytest.mark.parametrize(
    ("commands", "answers", "words"),
    [
        (("--port 8000", "--port 8001"), (("x.json", ["a"]),), "may be the answer of"),
        (("--port 8000",), (("x.json", ["a"]), ("y.json", ["b"])), "is one answer more than"),
    ],
)
def test_an_answer_that_may_be_several_servers_is_refused(
    tmp_path: Path, commands: tuple[str, ...], answers: tuple[tuple[str, list[str]], ...], words: str
) -> None:
    sources = [script(tmp_path, *commands), *(answer(tmp_path, name, held) for name, held in answers)]
    with pytest.raises(ImportSourceError, match=words):
        import_fleet(sources)


def test_an_answer_of_a_model_that_no_server_has_is_refused(tmp_path: Path) -> None:
    path = answer(tmp_path, "x.json", ["a"], "mistralai/Mistral-7B", "mistral")
    with pytest.raises(ImportSourceError, match="answers for mistral, which no server of the sources has"):
        import_fleet([script(tmp_path, "--port 8000"), path])


def test_names_by_which_a_model_is_asked_are_no_other_model(tmp_path: Path) -> None:
    module = json.dumps({"name": "a", "path": "/l/a", "base_model_name": "llama-8b"})
    path = script(tmp_path, f"--served-model-name llama-8b --lora-modules '{module}'")
    fleet = import_fleet([path, answer(tmp_path, "x.json", ["a"], root="/models/llama")])
    assert yaml.safe_load(fleet.text)["model"] == MODEL


def test_the_place_that_engines_are_told_counts_more_than_where_weights_were_read(tmp_path: Path) -> None:
    folder = tmp_path / "adapters" / "a"
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    path = script(tmp_path, "--lora-modules a=/srv/adapters/a")
    for sources in ([tmp_path / "adapters", path], [path, tmp_path / "adapters"]):
        fleet = import_fleet(sources)
        assert yaml.safe_load(fleet.text)["adapters"][0]["source"] == "/srv/adapters/a"
        assert not any("several places" in note for note in fleet.notes)


HOSTILE = ['a"b', "a\nb", "a: b # c", "../../etc", "$(touch x)", "{{ x }}", "é漢", "x" * 200]


@pytest.mark.parametrize("pod", HOSTILE)
def test_names_of_pods_are_text_and_nothing_else(tmp_path: Path, pod: str) -> None:
    path = engines(tmp_path)
    path.write_text(path.read_text() + ADAPTER.format(name="a", pod=json.dumps(pod)))
    assert held([path]) == [["a"]] or ["a"] in held([path])


@pytest.mark.parametrize("value", ["5", "{a: b}", "[{a: b}]", "[[a]]", "[true]", "text"])
def test_a_status_that_is_damaged_is_refused_with_its_place(tmp_path: Path, value: str) -> None:
    path = engines(tmp_path)
    text = ADAPTER.format(name="a", pod="x").replace("instances: [x]", f"instances: {value}")
    path.write_text(path.read_text() + text)
    with pytest.raises(ImportSourceError, match=r"engines\.yaml: document 2, status\.instances"):
        import_fleet(path)


@pytest.mark.parametrize("status", ["status: null", "status: {}", "status: {instances: null}", ""])
def test_without_a_status_it_is_told_that_pods_are_not_known(tmp_path: Path, status: str) -> None:
    path = engines(tmp_path)
    text = ADAPTER.format(name="a", pod="x").replace("status: {phase: Running, instances: [x]}", status)
    path.write_text(path.read_text() + text)
    assert any("Only some pods load a" in note for note in import_fleet(path).notes)


def test_answers_of_a_thousand_servers_are_told_apart_at_once() -> None:
    servers = {
        f"localhost:{port}": ServerFacts(f"localhost:{port}", "start.sh", (f"a{port}",))
        for port in range(8000, 9000)
    }
    asked = [ServerFacts(f"m{port}", "m", (f"a{port}", "b"), asked=MODELS) for port in range(8000, 9000)]
    told = with_answers(servers, asked)
    assert all(server.adapters == (f"a{name[-4:]}", "b") for name, server in told.items())
