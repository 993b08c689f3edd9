"""Servers are read as they were started, whatever file says it, and what our exports write is read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.exporters import compose, nim, ray_serve, sglang, systemd, vllm
from scenarios.exporters.deployment import Deployment, deployment_of
from scenarios.importers import importing
from scenarios.importers.facts import ImportOptions, ImportSourceError, ServerFacts, SourceFacts
from scenarios.importers.merging import merged
from scenarios.importers.recognition import kind_of, read_sources
from scenarios.importers.servers import KINDS, command_facts, server_of
from scenarios.importers.source import Source
from scenarios.placement import PlacedAdapter, PlacedGPU, Placement
from tests.hostile_texts import HOSTILE_TEXTS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "real_engine"
HOSTILE = [*HOSTILE_TEXTS, "${HOME}"]


def read(path: Path) -> SourceFacts:
    source = Source(path)
    kind = kind_of(source)
    assert kind is not None, path
    assert kind in KINDS, kind.name
    return kind.read(source, ImportOptions())


def saved(tmp_path: Path, text: str, name: str = "serve.sh") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def script(tmp_path: Path, text: str) -> SourceFacts:
    return read(saved(tmp_path, text))


def served(words: Sequence[str], environment: dict[str, str] | None = None) -> ServerFacts:
    server = server_of(words, environment or {}, "s", "here")
    assert server is not None
    return server


def engine(server: ServerFacts) -> dict[str, object]:
    return {name: said.value for name, said in server.engine.items()}


def sources(facts: SourceFacts) -> dict[str, str | None]:
    return {one.served_name: one.source.value if one.source else None for one in facts.adapters}


def test_a_command_of_vllm_is_read_as_vllm_reads_it() -> None:
    words = (
        "vllm serve org/m --max-loras 8 --max_lora_rank=32 --max-model-len 16k --max-num-batched-tokens 2K"
    )
    words += (
        " --no-enable-prefix-caching --enable-lora -tp 2 --dtype half --host h1 --port 8001 --api-key hush"
    )
    server = served(words.split())
    assert engine(server) == {
        "max_loras": 8,
        "max_lora_rank": 32,
        "max_model_len": 16_000,
        "max_num_batched_tokens": 2048,
        "enable_prefix_caching": False,
        "enable_lora": True,
        "tensor_parallel_size": 2,
        "dtype": "float16",
    }
    assert server.model is not None
    assert (server.model.value, server.address, server.notes) == ("org/m", "http://h1:8001", ())
    assert "hush" not in repr(server)
    assert server.engine["max_loras"].origin == "here, --max-loras"


@pytest.mark.parametrize(
    "begin",
    [
        "vllm serve m",
        "/opt/venv/bin/vllm serve m",
        "vllm serve --model m",
        "python -m vllm.entrypoints.openai.api_server --model m",
        "/usr/bin/python3.11 -u -m vllm.entrypoints.openai.api_server --model=m",
        "tini -- vllm serve m",
        "vllm serve --enable-lora m",
        "vllm serve --trust-remote-code m",
    ],
)
def test_servers_are_started_in_many_ways(begin: str) -> None:
    server = served([*begin.split(), "--max-loras", "3"])
    assert server.model is not None
    assert (server.model.value, engine(server)["max_loras"]) == ("m", 3)


@pytest.mark.parametrize(
    "words", [[], ["echo"], ["nginx", "-g", "daemon off;"], ["vllm", "bench"], ["serve", "m"]]
)
def test_other_commands_start_no_server(words: list[str]) -> None:
    assert server_of(words, {}, "x", "here") is None


def test_a_script_that_a_shell_is_given_is_read() -> None:
    text = 'export P=8001\nvllm serve m --port "$P" --max-loras 3 # fast\n'
    server = served(["/bin/sh", "-c", text], {})
    assert engine(server) == {"max_loras": 3}


def test_settings_come_as_json_or_with_dots() -> None:
    words = ["vllm", "serve", "m", "--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}']
    dotted = "vllm serve m --speculative_config.method ngram --speculative-config.num_speculative_tokens 3"
    expected = {"method": "ngram", "num_speculative_tokens": 3}
    assert engine(served(words)) == engine(served(dotted.split())) == {"speculative_config": expected}


def test_secrets_in_settings_are_not_copied() -> None:
    settings = {
        "kv_connector": "X",
        "extra": {"url": "redis://u:pw@h:1/0", "auth_token": "hush", "a": ["t://u:pw@h"]},
    }
    server = served(["vllm", "serve", "https://u:pw@h/m?k=v", "--kv-transfer-config", json.dumps(settings)])
    assert engine(server) == {
        "kv_transfer_config": {"kv_connector": "X", "extra": {"url": "redis://h:1/0", "a": ["t://h"]}}
    }
    assert server.model is not None
    assert server.model.value == "https://h/m"
    assert "pw" not in repr(server)


def test_what_no_scenario_has_is_told_by_name_alone() -> None:
    words = "vllm serve m --my-secret hush --max-lora-rank 48 --quantization gguf"
    words += " --max-model-len auto --config f.yaml"
    server = served(words.split())
    assert engine(server) == {}
    told = " ".join(server.notes)
    assert "hush" not in told
    for part in (
        "--my-secret",
        "--max-lora-rank is 48",
        "--quantization is gguf",
        "--max-model-len is auto",
        "--config",
    ):
        assert part in told


def test_both_forms_of_lora_modules_are_read() -> None:
    words = [
        "vllm",
        "serve",
        "m",
        "--lora-modules",
        "fr=/loras/fr",
        '{"name": "de", "path": "/d", "base_model_name": "b"}',
    ]
    words += ['[{"name": "es", "path": "org/es"}]', "--port", "1"]
    facts = command_facts(words, {}, "s", "here")
    assert facts is not None
    assert facts.server.adapters == ("fr", "de", "es")
    assert [one.source.value for one in facts.adapters if one.source] == ["/loras/fr", "/d", "org/es"]
    assert [one.base_model.value for one in facts.adapters if one.base_model] == ["b"]


def test_replicas_behind_one_server_are_counted() -> None:
    assert served(["vllm", "serve", "m", "-dp", "4"]).replicas == 4


def test_sglang_is_read_in_words_of_vllm() -> None:
    words = "python3 -m sglang.launch_server --model-path m --context-length 8192"
    words += " --max-running-requests 64 --tp 2"
    words += " --max-loaded-loras 32 --disable-radix-cache --mem-fraction-static 0.8 --lora-paths fr=/f /d"
    facts = command_facts(
        [*words.split(), '{"lora_name": "es", "lora_path": "/e", "pinned": true}'], {}, "", "here"
    )
    assert facts is not None
    assert engine(facts.server) == {
        "max_model_len": 8192,
        "max_num_seqs": 64,
        "tensor_parallel_size": 2,
        "max_cpu_loras": 32,
        "enable_prefix_caching": False,
        "max_loras": 8,
    }
    assert facts.server.adapters == ("fr", "/d", "es")
    told = " ".join(facts.server.notes)
    assert "plays vLLM" in told
    assert "--mem-fraction-static" in told


def test_a_container_of_nim_is_known_by_its_variables() -> None:
    server = served(
        ["--max-loras", "4", "--enable-lora"], {"NIM_PEFT_SOURCE": "/nowhere", "NIM_MODEL_NAME": "m"}
    )
    assert engine(server) == {"max_loras": 4, "enable_lora": True}
    assert server.model is not None
    assert server.model.value == "m"


def adapter(folder: Path, rank: int = 8) -> Path:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_the_folder_of_the_resolver_is_read_where_it_is(tmp_path: Path) -> None:
    adapter(tmp_path / "team" / "fr")
    words = ["vllm", "serve", "m"]
    facts = command_facts(words, {"VLLM_LORA_RESOLVER_CACHE_DIR": str(tmp_path)}, "", "here")
    assert facts is not None
    assert facts.server.adapters == ("team/fr",)
    gone = served(words, {"VLLM_LORA_RESOLVER_CACHE_DIR": "/nowhere/at/all"})
    assert any("/nowhere/at/all" in note for note in gone.notes)


def test_ranks_of_adapters_on_this_machine_are_read(tmp_path: Path) -> None:
    here = adapter(tmp_path / "store" / "v3", 32)
    facts = script(tmp_path, f"vllm serve m --lora-modules fr={here} de=/nowhere/de\n")
    assert {one.served_name: one.rank.value if one.rank else None for one in facts.adapters} == {
        "fr": 32,
        "de": None,
    }
    assert sources(facts) == {"fr": str(here), "de": "/nowhere/de"}


SCRIPT = r"""#!/bin/bash
# Engines of the shop; run `vllm serve` by hand to try one.
set -eu
MODEL=${MODEL:-org/m}
export CUDA_VISIBLE_DEVICES=0 HF_TOKEN=hush
EXTRA="--max-num-seqs 64 --enforce-eager"
# group: shop-g0, on host a
nohup vllm serve "$MODEL" --port 8000 \
    --max-loras 4 $EXTRA \
    --lora-modules fr='/loras/fr $HOME' "de=/loras/de" > g0.log 2>&1 &
# group: shop-g1
CUDA_VISIBLE_DEVICES=1 exec vllm serve "$MODEL" --host 10.0.0.2 --port=8001 --max-loras "$SLOTS"; echo "vllm"
docker run -d --gpus '"device=2"' --name shop-g2 -e A=b -p 127.0.0.1:8002:8000 --ipc=host \
  vllm/vllm-openai:v0.14.0 --model org/m --max-loras 2 --max-model-len 1K
cat <<EOF
vllm serve in-a-text --max-loras 9
EOF
if true; then vllm serve other --port 9; fi
"""


def test_a_script_with_several_servers_is_read(tmp_path: Path) -> None:
    facts = script(tmp_path, SCRIPT)
    servers = {one.name: one for one in facts.servers}
    assert list(servers) == ["shop-g0", "shop-g1", "shop-g2", "localhost:9"]
    assert engine(servers["shop-g0"]) == {"max_loras": 4, "max_num_seqs": 64, "enforce_eager": True}
    assert servers["shop-g0"].origin == "serve.sh line 8"
    assert sources(facts) == {"fr": "/loras/fr $HOME", "de": "/loras/de"}
    assert engine(servers["shop-g1"]) == {}
    assert any("--max-loras is $SLOTS" in note for note in servers["shop-g1"].notes)
    assert servers["shop-g1"].address == "http://10.0.0.2:8001"
    assert engine(servers["shop-g2"]) == {"max_loras": 2, "max_model_len": 1024}
    assert servers["shop-g2"].address == "http://127.0.0.1:8002"
    assert {one.model.value for one in facts.servers if one.model} == {"org/m", "other"}
    assert "hush" not in repr(facts)


def test_two_servers_without_names_stay_two(tmp_path: Path) -> None:
    facts = script(tmp_path, "vllm serve m &\nvllm serve m &\n")
    assert [one.name for one in facts.servers] == ["serve", "serve-2"]


@pytest.mark.parametrize(
    "text",
    [
        "To start it, run vllm serve model.\n",
        "# vllm serve model\n",
        'echo "vllm serve m"\n',
        "```\nvllm serve m\n```\n",
        "import subprocess\nsubprocess.run(['vllm', 'serve', 'm'])\n",
        "pip install vllm\n",
        "apiVersion: v1\nkind: Pod\nspec:\n  args: |\n    vllm serve m\n",
        "",
    ],
)
def test_text_that_only_speaks_of_servers_is_no_script(tmp_path: Path, text: str) -> None:
    source = Source(saved(tmp_path, text, "x.txt"))
    assert not any(kind.fits(source) for kind in KINDS)


def test_a_variable_that_doubles_itself_is_stopped(tmp_path: Path) -> None:
    doubling = "X=aaaaaaaaaaaaaaaa\n" + 'X="$X$X"\n' * 40 + "vllm serve $X\n"
    path = saved(tmp_path, "vllm serve m\n" + doubling)
    with pytest.raises(ImportSourceError, match="line 18 has a word of more than 1,000,000"):
        KINDS[-1].read(Source(path), ImportOptions())


def test_a_unit_of_systemd_is_read(tmp_path: Path) -> None:
    text = r"""[Unit]
Description=vllm serve not-this
[Service]
Environment="CUDA_VISIBLE_DEVICES=3" SLOTS=4 "MODEL=org/m"
ExecStartPre=/bin/true
ExecStart=/usr/bin/env vllm serve ${MODEL} --max-loras $SLOTS \
  # a comment
  --lora-modules "fr=/loras/%i/fr" 'de=/l/100%%' "{\"name\": \"a\\u0022b\", \"path\": \"/p\"}" --port 80$$0
[Install]
ExecStart=vllm serve not-this-either
"""
    facts = read(saved(tmp_path, text, "vllm@7.service"))
    (server,) = facts.servers
    assert (server.name, engine(server)) == ("vllm@7", {"max_loras": 4})
    assert sources(facts) == {"fr": "/loras/7/fr", "de": "/l/100%", 'a"b': "/p"}


def test_a_file_of_compose_is_read(tmp_path: Path) -> None:
    text = """name: shop
services:
  g0:
    image: vllm/vllm-openai:v0.14.0
    command: --model org/m --max-loras ${SLOTS:-4} --lora-modules 'fr=/loras/$$x'
    environment: [HF_TOKEN=hush]
    ports: ["127.0.0.1:8003:8000"]
    deploy: {replicas: 2, resources: {reservations: {devices: [{device_ids: ["0"]}]}}}
  g1:
    image: mine
    entrypoint: [python3, -m, sglang.launch_server]
    command: [--model-path, org/m, --max-loras-per-batch, 3]
    env_file: secrets.env
  g2:
    image: mine
    command: ["sh", "-c", "exec vllm serve org/m --max-loras $$SLOTS"]
    environment: {SLOTS: 5}
  web: {image: nginx}
"""
    facts = read(saved(tmp_path, text, "compose.yaml"))
    servers = {one.name: one for one in facts.servers}
    assert list(servers) == ["g0", "g1", "g2"]
    assert (servers["g0"].replicas, servers["g0"].address) == (2, "http://127.0.0.1:8003")
    assert [engine(servers[name])["max_loras"] for name in servers] == [4, 3, 5]
    assert sources(facts) == {"fr": "/loras/$x"}
    assert "hush" not in repr(facts)
    assert any("env_file" in note for note in facts.notes)


def test_a_configuration_of_ray_serve_is_read(tmp_path: Path) -> None:
    adapter(tmp_path / "lora" / "g0" / "fr", 16)
    text = """applications:
- args:
    llm_configs:
    - model_loading_config: {model_id: base-g0, model_source: org/m}
      engine_kwargs: {max_loras: 4, enable_lora: true, max_lora_rank: 16, trust_remote_code: true, odd: 1}
      lora_config: {dynamic_lora_loading_path: "s3://bucket/g0"}
      deployment_config: {autoscaling_config: {min_replicas: 2, max_replicas: 4}}
      accelerator_type: H100
    - other.yaml
"""
    facts = read(saved(tmp_path, text, "serve.yaml"))
    (server,) = facts.servers
    assert (server.name, server.replicas, server.adapters) == ("base-g0", 2, ("fr",))
    assert engine(server) == {"max_loras": 4, "enable_lora": True, "max_lora_rank": 16}
    assert server.device is not None
    assert server.device.value == "H100"
    assert any("odd" in note for note in server.notes)
    assert any("other.yaml" in note for note in facts.notes)


def models(*cards: dict[str, object]) -> str:
    return json.dumps({"object": "list", "data": list(cards)})


BASE = {
    "id": "base",
    "object": "model",
    "owned_by": "vllm",
    "root": "org/m",
    "parent": None,
    "max_model_len": 4096,
}
LORA = {"id": "fr", "object": "model", "owned_by": "vllm", "root": "/loras/fr", "parent": "base"}


def test_an_answer_of_models_tells_adapters_and_base(tmp_path: Path) -> None:
    facts = read(saved(tmp_path, models(BASE, {**BASE, "id": "alias"}, LORA), "shop-g3.json"))
    (server,) = facts.servers
    assert (server.name, server.adapters, facts.base_names) == ("shop-g3", ("fr",), ("base", "alias"))
    assert server.model is not None
    assert (server.model.value, engine(server)) == ("org/m", {"max_model_len": 4096})
    assert sources(facts) == {"fr": "/loras/fr"}


LOG = (
    "(APIServer pid=1) INFO 11-29 03:14:00 [api_utils.py:286] non-default args: {'model_tag': 'org/m', "
    "'lora_modules': [LoRAModulePath(name='fr', path='/loras/fr', base_model_name=None), "
    "LoRAModulePath(name=\"d'e\", path='/l\\'d', base_model_name=None)], 'host': '10.0.0.1', 'port': 8001, "
    "'api_key': ['hush'], 'served_model_name': ['base'], 'model': 'org/m', "
    "'enable_lora': True, 'max_loras': 4}\n"
    "(EngineCore pid=2) INFO 11-29 03:14:19 [core.py:133] Initializing a V1 LLM engine (v0.32.0) "
    "with config: model='org/m', dtype=torch.bfloat16, max_seq_len=2048, tensor_parallel_size=1\n"
)


def test_a_start_up_log_tells_its_arguments_and_adapters(tmp_path: Path) -> None:
    facts = read(saved(tmp_path, LOG, "server.log"))
    (server,) = facts.servers
    assert (server.address, server.adapters) == ("http://10.0.0.1:8001", ("fr", "d'e"))
    assert {"max_loras": 4, "max_model_len": 2048}.items() <= engine(server).items()
    assert sources(facts) == {"fr": "/loras/fr", "d'e": "/l'd"}
    assert facts.base_names == ("base",)
    assert "hush" not in repr(facts)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the files of a real server beside the checkout")
def test_files_of_a_real_server_are_read() -> None:
    log = read(SHARED / "logs" / "server.log")
    assert len(log.adapters) == 16
    assert engine(log.servers[0])["max_loras"] == 4
    (server,) = read(SHARED / "serve.sh").servers
    assert engine(server)["max_num_seqs"] == 64
    assert any("--max-loras is $3" in note for note in server.notes)


def plan(name: str = "fr", source: str = "/loras/fr", **more: Any) -> Deployment:
    """Two GPUs: the first holds `one` and the base model, both hold `split`."""
    placement = Placement(
        gpus=(
            PlacedGPU(
                gpu=0,
                device="H100",
                max_loras=4,
                max_lora_rank=16,
                max_cpu_loras=6,
                adapters=("one", "split", "base"),
                shares={"split": 0.25},
            ),
            PlacedGPU(
                gpu=3,
                device="H100",
                max_loras=2,
                max_lora_rank=64,
                adapters=("split",),
                shares={"split": 0.75},
            ),
        ),
        model="meta-llama/Llama-3.1-8B-Instruct",
        engine_version="0.32.0",
        engine=EngineConfig(max_num_seqs=128, enable_prefix_caching=False),
        adapters={
            "one": PlacedAdapter(source=source, served_name=name),
            "split": PlacedAdapter(source="/loras/split"),
            "base": PlacedAdapter(base=True),
        },
        export=ExportSettings(**more),
    )
    return deployment_of(placement)


def written(target: ModuleType, deployment: Deployment, folder: Path) -> Path:
    export = target.export(deployment)
    for file in export.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["fr", *HOSTILE, "x" * 200])
@pytest.mark.parametrize("target", [vllm, systemd, compose, sglang])
def test_exports_are_read_back(tmp_path: Path, target: ModuleType, name: str) -> None:
    deployment = plan(name)
    folder = written(target, deployment, tmp_path)
    facts = read_sources([folder], ImportOptions())
    servers = merged(facts).servers
    assert list(servers) == ["lorapack-g0", "lorapack-g3"]
    assert servers["lorapack-g0"].adapters == (name, "split")
    assert servers["lorapack-g3"].adapters == ("split",)
    slots = [engine(server)["max_loras"] for server in servers.values()]
    assert slots == ([5, 2] if target is sglang else [4, 2])
    assert [engine(server)["max_num_seqs"] for server in servers.values()] == [128, 128]
    assert {server.model.value for server in servers.values() if server.model} == {
        "meta-llama/Llama-3.1-8B-Instruct"
    }
    assert {one.served_name: one.source.value for f in facts for one in f.adapters if one.source} == {
        name: "/loras/fr",
        "split": "/loras/split",
    }


@pytest.mark.parametrize("target", [nim, ray_serve, vllm])
def test_exports_with_folders_of_links_are_read_back(tmp_path: Path, target: ModuleType) -> None:
    store = tmp_path / "store"
    adapter(store / "v3", 32)
    adapter(store / "split", 8)
    more = {"image": "nvcr.io/nim/meta/m:2"} if target is nim else {}
    more |= {"adapters_bucket": "s3://weights"} if target is ray_serve else {}
    deployment = plan("fr", str(store / "v3"), adapters_dir=str(store), **more)
    out = written(target, deployment, tmp_path / "out")
    for link in target.export(deployment).links:
        path = out / link.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(store / ("v3" if path.name == "fr" else "split"))
    facts = read_sources([out], ImportOptions())
    servers = merged(facts).servers
    assert list(servers) == ["lorapack-g0", "lorapack-g3"]
    assert set(servers["lorapack-g0"].adapters) == {"fr", "split"}
    assert set(servers["lorapack-g3"].adapters) == {"split"}
    ranks = {one.served_name: one.rank.value for f in facts for one in f.adapters if one.rank}
    assert ranks == {"fr": 32, "split": 8}


def test_an_imported_script_becomes_a_scenario_and_a_placement(tmp_path: Path) -> None:
    adapter(tmp_path / "loras" / "fr", 32)
    saved(
        tmp_path, f"# group: shop-g3\nvllm serve org/m --max-loras 2 --lora-modules fr={tmp_path}/loras/fr\n"
    )
    fleet = importing.import_fleet(tmp_path / "serve.sh", ["devices=H100-80GB"])
    assert "rank: 32" in fleet.text
    assert "gpu: 3" in fleet.placement_text
    assert "max_loras: 2" in fleet.placement_text
