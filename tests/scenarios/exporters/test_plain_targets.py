"""Exports to plain targets say what the plan says, whatever its names hold."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.exporters import compose, nim, ray_serve, routing, sglang, systemd, vllm
from scenarios.exporters.deployment import Deployment, ExportError, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.flag_releases import has_argument
from scenarios.exporters.routers import PARTS, whole_weights
from scenarios.exporters.servers import server_arguments
from scenarios.placement import PlacedAdapter, PlacedGPU, Placement
from tests.hostile_texts import HOSTILE_TEXTS

TARGETS = [vllm, systemd, compose, sglang, nim, ray_serve, routing]
HOSTILE = [*HOSTILE_TEXTS, "${HOME}", "a\\nb", "__proto__", "-x", "x" * 200]
"""Names that mean something to a shell, to YAML, to systemd, to Compose or to JavaScript."""


def plan(served: str = "fr-legal", source: str = "/loras/fr", **more: Any) -> Deployment:
    """Two GPUs: the first holds `one` and the base model, both hold `split`."""
    settings = {"image": "registry/nim:2.1.7", "adapters_bucket": "s3://weights/lora"} | more.pop(
        "settings", {}
    )
    gpus = (
        PlacedGPU(
            gpu=0,
            device="H100",
            max_loras=4,
            max_lora_rank=16,
            max_cpu_loras=6,
            adapters=("one", *more.pop("others", ()), "split", "base"),
            shares={"split": 0.251},
        ),
        PlacedGPU(
            gpu=3, device="H100", max_loras=2, max_lora_rank=64, adapters=("split",), shares={"split": 0.749}
        ),
    )
    placement = Placement(
        gpus=gpus,
        model=more.pop("model", "meta-llama/Llama-3.1-8B-Instruct"),
        engine_version=more.pop("version", "0.32.0"),
        engine=EngineConfig(**more),
        adapters={
            "one": PlacedAdapter(source=source, served_name=served),
            "base": PlacedAdapter(base=True),
        },
        export=ExportSettings(**settings),
    )
    return deployment_of(placement)


def text_of(export: Export, path: str) -> str:
    (file,) = (file for file in export.files if file.path == path)
    return file.text


def words_of(text: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith("exec "))
    return shlex.split(line)[1:]


def compose_words(service: dict[str, Any]) -> list[str]:
    return [word.replace("$$", "$") for word in service["command"]]


def unit_words(line: str) -> list[str]:
    """Words of ExecStart as systemd takes them apart: here all but the first two stand in double quotes."""
    words, inside, word = [], False, ""
    k = 0
    while k < len(line):
        if line[k] == "\\" and inside:
            word += line[k + 1]
            k += 1
        elif line[k] == '"':
            inside = not inside
        elif line[k] == " " and not inside:
            words.append(word)
            word = ""
        else:
            word += line[k]
        k += 1
    return [one.replace("%%", "%").replace("$$", "$") for one in [*words, word]]


def modules_of(words: list[str], flag: str = "--lora-modules") -> list[dict[str, Any]]:
    return [json.loads(word) for word in words[words.index(flag) + 1 :]]


def test_a_script_starts_what_was_judged() -> None:
    export = vllm.export(plan())
    words = words_of(text_of(export, "serve-g0.sh"))
    assert words[:3] == ["vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"]
    told = dict(pairwise(words))
    assert (told["--max-loras"], told["--max-lora-rank"], told["--max-cpu-loras"]) == ("4", "16", "6")
    assert (told["--max-model-len"], told["--dtype"], told["--block-size"]) == ("16384", "auto", "16")
    assert {"--enable-lora", "--max-num-seqs", "--gpu-memory-utilization"} <= set(words)
    names = {module["name"]: module["path"] for module in modules_of(words)}
    assert names == {"fr-legal": "/loras/fr", "split": "/adapters/split"}
    assert any("split" in one and "no source" in one for one in export.cautions)
    assert any("--to routing" in one for one in export.lost)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name_everywhere(name: str) -> None:
    deployment = plan(served=name, source=f"/loras/{name.replace('..', '_')}")
    words = words_of(text_of(vllm.export(deployment), "serve-g0.sh"))
    assert name in {module["name"] for module in modules_of(words)}
    (start,) = (
        line.removeprefix("ExecStart=")
        for line in text_of(systemd.export(deployment), "lorapack-g0.service").splitlines()
        if line.startswith("ExecStart=")
    )
    assert unit_words(start) == words
    services = yaml.safe_load(text_of(compose.export(deployment), "compose.yaml"))["services"]
    assert modules_of(compose_words(services["lorapack-g0"])) == modules_of(words)
    sgl = words_of(text_of(sglang.export(deployment), "serve-g0.sh"))
    assert name in {module["lora_name"] for module in modules_of(sgl, "--lora-paths")}
    routes = routing.export(deployment)
    assert name in json.loads(text_of(routes, "routing.json"))["routes"]
    envoy = yaml.safe_load(text_of(routes, "envoy.yaml"))
    assert name in json.dumps(envoy, ensure_ascii=False) or '"' in name or "\\" in name
    litellm = yaml.safe_load(text_of(routes, "litellm.yaml"))
    taken = name in {entry["model_name"] for entry in litellm["model_list"]}
    assert taken == (name != "é漢") == (not any("LiteLLM takes" in one for one in routes.lost))
    nginx = [line for line in text_of(routes, "nginx.conf").splitlines() if not line.startswith("#")]
    assert name not in "\n".join(nginx) or name in ("-x", "%i")
    for target in (vllm, nim, ray_serve):
        links = target.export(deployment).links
        assert not [link for link in links if ".." in link.path.split("/") or link.path.count("/") > 2]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
@pytest.mark.parametrize("name", ["a\nb", "a\u2028b"])
def test_a_line_break_is_refused_before_a_target_sees_it(target: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="served_name"):
        target.export(plan(served=name))


@pytest.mark.parametrize("target", [vllm, compose, sglang], ids=lambda target: target.NAME)
def test_a_name_that_leads_out_of_the_folder_is_refused_without_a_source(target: ModuleType) -> None:
    gpu = PlacedGPU(gpu=0, device="H", max_loras=1, max_lora_rank=8, adapters=("../../etc",))
    settings = ExportSettings(image="nim:1", adapters_bucket="gs://weights")
    placement = Placement(
        gpus=(gpu,), model="m", engine_version="0.32.0", engine=EngineConfig(), export=settings
    )
    with pytest.raises(ExportError, match="give it a source"):
        target.export(deployment_of(placement))


def test_bash_reads_the_scripts_and_hands_on_the_words(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    engine = tmp_path / "vllm"
    engine.write_text('#!/bin/bash\nprintf "%s\\0" "$CUDA_VISIBLE_DEVICES" "$@"\n', encoding="utf-8")
    engine.chmod(0o755)
    for name in HOSTILE:
        export = vllm.export(plan(served=name, source="/loras/$(touch x)"))
        text = text_of(export, "serve-g0.sh")
        script = tmp_path / "serve.sh"
        script.write_text(text, encoding="utf-8")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run([bash, script], env=environment, capture_output=True, cwd=tmp_path, check=True)
        given = done.stdout.decode().split("\0")[:-1]
        assert given == ["0", *words_of(text)[1:]]
    assert not (tmp_path / "x").exists()


def test_measured_figures_and_switches_at_rest_are_no_flags() -> None:
    speculation = {
        "method": "ngram",
        "num_speculative_tokens": 3,
        "mean_acceptance_length": 2.0,
        "step_factor": 1.1,
    }
    deployment = plan(speculative_config=speculation, data_parallel_size=2)
    values = server_arguments(deployment.groups[0], "0.32.0").values
    assert values["speculative_config"] == {"method": "ngram", "num_speculative_tokens": 3}
    assert not {"data_parallel_size", "enforce_eager", "quantization", "cpu_offload_gb"} & values.keys()


def test_arguments_that_a_release_lacks_are_left_out_and_named() -> None:
    export = vllm.export(plan(max_seq_len_to_capture=4096))
    assert "--max-seq-len-to-capture" not in text_of(export, "serve-g0.sh").split()
    assert any("max_seq_len_to_capture" in one for one in export.cautions)
    assert has_argument("max_seq_len_to_capture", "0.8.5.post1")
    assert not has_argument("lora_target_modules", "0.8.5")


def test_sglang_gets_a_slot_more_for_the_base_model() -> None:
    export = sglang.export(plan())
    slots = [
        words[words.index("--max-loras-per-batch") + 1]
        for words in (words_of(file.text) for file in export.files)
    ]
    assert slots == ["5", "2"]
    assert any("gpu_memory_utilization" in one for one in export.lost)
    assert any("twin plays vLLM" in one for one in export.cautions)


def test_too_few_hosts_are_refused() -> None:
    with pytest.raises(ExportError, match=r"name 1, and GPU 3 needs 2 of 2 engines each"):
        plan(settings={"hosts": ("a",), "gpus_per_host": 2})
    with pytest.raises(ExportError, match=r"name 3, and GPU 3 needs 4 of 1 engines each"):
        plan(tensor_parallel_size=2, settings={"hosts": ("a", "b", "c"), "gpus_per_host": 2})


@pytest.mark.parametrize("hosts", [(), ("a", "b")])
def test_an_engine_wider_than_a_host_is_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(ExportError) as refused:
        plan(tensor_parallel_size=4, settings={"hosts": hosts, "gpus_per_host": 2})
    assert str(refused.value) == (
        "export.gpus_per_host is 2, and each engine shares its model over 4 GPUs of a host; raise it, or "
        "plan with fewer"
    )


@pytest.mark.parametrize("settings", [{}, {"hosts": ("a", "b"), "gpus_per_host": 3}])
def test_an_engine_keeps_its_address_when_another_is_taken_away(settings: dict[str, Any]) -> None:
    def addresses(numbers: tuple[int, ...]) -> dict[int, tuple[str, int, tuple[int, ...]]]:
        gpus = [
            PlacedGPU(gpu=n, device="H100", max_loras=1, max_lora_rank=8, adapters=(f"a{n}",))
            for n in numbers
        ]
        placement = Placement(
            gpus=tuple(gpus), model="m", engine=EngineConfig(), export=ExportSettings(**settings)
        )
        return {g.number: (g.host, g.port, g.devices) for g in deployment_of(placement).groups}

    whole = addresses((0, 1, 4, 5))
    assert whole[4] == (("b", 8001, (1,)) if settings else ("127.0.0.1", 8004, (4,)))
    assert addresses((4, 1)) == {n: whole[n] for n in (1, 4)}


def test_no_two_engines_of_a_host_meet_on_a_port_or_a_gpu() -> None:
    deployment = plan(settings={"hosts": ("a",), "gpus_per_host": 4})
    ports = [(group.host, group.port) for group in deployment.groups]
    devices = [(group.host, number) for group in deployment.groups for number in group.devices]
    assert len(set(ports)) == len(ports)
    assert len(set(devices)) == len(devices)
    with pytest.raises(ExportError, match="over the router's 8003"):
        plan(settings={"router_port": 8003})
    assert plan(settings={"router_port": 8001}).settings.router_port == 8001  # no GPU has the number 1
    with pytest.raises(ExportError, match="beyond the last port"):
        plan(settings={"port": 65_535})


@pytest.mark.parametrize("shares", [{0: 0.251, 1: 0.749}, {0: 1.0}, dict.fromkeys(range(7), 1 / 7)])
def test_weights_are_exact_to_a_thousandth(shares: dict[int, float]) -> None:
    weights = whole_weights(shares)
    assert sum(weights.values()) == PARTS
    assert all(abs(weights[key] / PARTS - share) < 0.001 + 1e-9 for key, share in shares.items())
    assert min(weights.values()) >= 1


def test_ray_is_given_a_bucket_and_the_list_of_what_to_copy_into_it() -> None:
    export = ray_serve.export(plan(settings={"adapters_bucket": "abfss://lora@store.dfs.net/x/"}))
    (application,) = yaml.safe_load(text_of(export, "serve.yaml"))["applications"]
    paths = [one["lora_config"]["dynamic_lora_loading_path"] for one in application["args"]["llm_configs"]]
    assert paths == ["abfss://lora@store.dfs.net/x/g0", "abfss://lora@store.dfs.net/x/g3"]
    assert json.loads(text_of(export, "copies.json"))["copies"] == [
        {"from": "/loras/fr", "to": f"{paths[0]}/fr-legal"},
        {"from": "/adapters/split", "to": f"{paths[0]}/split"},
        {"from": "/adapters/split", "to": f"{paths[1]}/split"},
    ]
    remote = ray_serve.export(plan(source="s3://bucket/fr"))
    assert json.loads(text_of(remote, "copies.json"))["copies"][0]["from"] == "s3://bucket/fr"
    nested = ray_serve.export(plan(served="a/b"))
    assert any("none of one folder: one" in one for one in nested.lost)


def test_ray_without_a_bucket_is_refused() -> None:
    with pytest.raises(ExportError, match=r"adapters_bucket is missing.*s3://NAME/PATH"):
        ray_serve.export(plan(settings={"adapters_bucket": None}))


@pytest.mark.parametrize(
    "bucket",
    [
        "/adapters",
        "s3:/a",
        "http://a",
        "s3://",
        "s3://a//b",
        "s3://u:p@a",
        "s3://a b",
        "s3://a/$(x)",
        "s3://a\n",
    ],
)
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(ValueError, match="adapters_bucket"):
        plan(settings={"adapters_bucket": bucket})


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.NAME)
def test_what_is_lost_stands_in_a_file_too(target: ModuleType) -> None:
    export = target.export(plan(source="s3://bucket/fr"))
    texts = "\n".join(file.text for file in export.files)
    assert all(sentence in texts for sentence in export.lost)
    assert export.next_steps
    assert target.NAME
    assert target.CHECKED


@pytest.mark.skipif("LORAPACK_VLLM_PYTHON" not in os.environ, reason="names a Python that has vLLM")
def test_vllm_reads_its_words_as_they_were_meant() -> None:
    deployment = plan(enable_prefix_caching=False, lora_target_modules=("q_proj",))
    program = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "args = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "names = [m.name for m in args.lora_modules]\n"
        "print('READ', json.dumps([args.max_loras, args.max_lora_rank, args.max_cpu_loras, names]))\n"
    )
    words = words_of(text_of(vllm.export(deployment), "serve-g0.sh"))[2:]
    command = [os.environ["LORAPACK_VLLM_PYTHON"], "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (read,) = [line for line in done.stdout.splitlines() if line.startswith("READ ")] or [done.stderr]
    assert json.loads(read.removeprefix("READ ")) == [4, 16, 6, ["fr-legal", "split"]]


@pytest.mark.skipif(
    "LORAPACK_NGINX" not in os.environ, reason="says that nginx with njs is installed and may be run"
)
def test_nginx_routes_by_the_model_of_the_body(tmp_path: Path) -> None:
    import http.client
    import threading
    import time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    seen: Counter[int] = Counter()

    class Engine(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen[self.server.server_address[1]] += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    deployment = plan(served="__proto__", settings={"port": 18_300, "router_port": 18_399, "image": "x"})
    for file in routing.export(deployment).files:
        (tmp_path / file.path).write_text(file.text, encoding="utf-8")
    engines = [ThreadingHTTPServer(("127.0.0.1", g.port), Engine) for g in deployment.groups]
    for engine in engines:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
    command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    router = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.PIPE)

    def ask(model: object) -> int:
        link = http.client.HTTPConnection("127.0.0.1", 18_399, timeout=10)
        body = json.dumps({"model": model, "prompt": "x" * 20_000}).encode()
        link.request("POST", "/v1/completions", body)
        answer = link.getresponse()
        same = answer.read() == body
        assert same or answer.status != 200
        return answer.status

    try:
        time.sleep(1)
        assert ask("unknown") == ask("toString") == ask(3) == 404
        assert ask("__proto__") == 200
        assert seen == {18_300: 1}
        seen.clear()
        assert {ask("split") for _ in range(400)} == {200}
        assert 60 < seen[18_300] < 145  # of 400 a share of 0.251; within 5 standard deviations
    finally:
        router.terminate()
        router.wait(10)
        for engine in engines:
            engine.shutdown()
            engine.server_close()


@pytest.mark.skipif("LORAPACK_SYSTEMD" not in os.environ, reason="says that systemd-analyze may be run")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    engine = {"vllm": "/bin/true", "user": "root"}
    export = systemd.export(plan(served='a"b %i ${HOME}', settings=engine))
    for file in export.files:
        (tmp_path / file.path).write_text(file.text, encoding="utf-8")
    command = ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "lorapack" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
