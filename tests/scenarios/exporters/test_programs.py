"""The programs themselves read what is exported for them; each is named by an environment variable.

LORAPACK_RAY_PYTHON, LORAPACK_LITELLM_PYTHON, LORAPACK_SGLANG_PYTHON and LORAPACK_VLLM_PYTHON name Pythons
that have these packages, LORAPACK_COMPOSE_PYTHON one with compose-spec; LORAPACK_ENVOY and LORAPACK_COMPOSE
are commands, and LORAPACK_COMPOSE_SCHEMA is the JSON schema of the specification.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from scenarios.exporters import compose, nim, ray_serve, routing, sglang
from scenarios.exporters.deployment import Deployment
from tests.scenarios.exporters.test_flags_of_releases import every_argument
from tests.scenarios.exporters.test_plain_targets import HOSTILE, compose_words, plan, text_of, words_of
from tests.scenarios.exporters.test_program_schemas import PLANS

DEPLOYMENTS = [plan(**more) for more in PLANS] + [
    plan(served=name, source=f"/loras/{name.replace('..', '_')}") for name in HOSTILE
]


def needs(variable: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(variable not in os.environ, reason=f"{variable} names the program")


def told_by(variable: str, program: str, *words: str, given: object = None) -> list[Any]:
    """What a program prints after READ, a JSON value a line."""
    done = subprocess.run(
        [os.environ[variable], "-c", program, *words],
        input=json.dumps(given),
        env={**os.environ, "ENGINE_API_KEY": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("READ ")]


RAY = """
import json, sys
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.serve.schema import ServeDeploySchema
for given in json.load(sys.stdin):
    schema = ServeDeploySchema.model_validate(given)
    for config in schema.applications[0].args["llm_configs"]:
        read = LLMConfig.model_validate(config)
        lora = read.lora_config
        told = [read.model_id, lora.dynamic_lora_loading_path, lora.max_num_adapters_per_replica]
        print("READ", json.dumps(told))
"""


@needs("LORAPACK_RAY_PYTHON")
def test_ray_takes_its_configurations() -> None:
    given = [yaml.safe_load(text_of(ray_serve.export(one), "serve.yaml")) for one in DEPLOYMENTS]
    read = told_by("LORAPACK_RAY_PYTHON", RAY, given=given)
    one = [["lorapack-g0", "s3://weights/lora/g0", 6], ["lorapack-g3", "s3://weights/lora/g3", 2]]
    assert read == one * len(given)


ENGINE = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
for given in json.load(sys.stdin):
    read = AsyncEngineArgs(model="m", **given)
    print("READ", json.dumps([read.max_loras, read.max_cpu_loras, read.tensor_parallel_size]))
"""


@needs("LORAPACK_VLLM_PYTHON")
def test_the_engine_takes_what_ray_hands_on() -> None:
    given = []
    for deployment in [*DEPLOYMENTS, plan(**every_argument(on=True))]:
        (application,) = yaml.safe_load(text_of(ray_serve.export(deployment), "serve.yaml"))["applications"]
        given += [one["engine_kwargs"] for one in application["args"]["llm_configs"]]
    read = told_by("LORAPACK_VLLM_PYTHON", ENGINE, given=given)
    widths = [one.get("tensor_parallel_size", 1) for one in given]
    slots = [(4, 6), (2, 2)] * (len(given) // 2)
    assert read == [[*two, width] for two, width in zip(slots, widths, strict=True)]


LITELLM = """
import asyncio, collections, json, sys
from litellm.proxy.proxy_server import ProxyConfig
async def main(path):
    router = (await ProxyConfig().load_config(router=None, config_file_path=path))[0]
    names = [one["model_name"] for one in router.model_list]
    drawn = collections.Counter()
    for _ in range(400):
        drawn[router.get_available_deployment(model="split")["litellm_params"]["api_base"]] += 1
    print("READ", json.dumps([names, drawn]))
for path in sys.argv[1:]:
    asyncio.run(main(path))
"""


@needs("LORAPACK_LITELLM_PYTHON")
def test_litellm_takes_its_configurations_and_draws_by_the_shares(tmp_path: Path) -> None:
    paths = []
    for k, one in enumerate(DEPLOYMENTS):
        paths.append(tmp_path / f"{k}.yaml")
        paths[-1].write_text(text_of(routing.export(one), "litellm.yaml"), encoding="utf-8")
    read = told_by("LORAPACK_LITELLM_PYTHON", LITELLM, *map(str, paths))
    assert len(read) == len(DEPLOYMENTS)
    for deployment, (names, drawn) in zip(DEPLOYMENTS, read, strict=True):
        first, second = deployment.groups
        served = [deployment.routes[0].served_name]
        served = [name for name in served if name != "é漢"]  # what no header of an answer holds
        assert names == [*served, "split", "split", deployment.base_name]
        assert set(drawn) == {f"http://{group.host}:{group.port}/v1" for group in (first, second)}
        assert 57 < drawn[f"http://{first.host}:{first.port}/v1"] < 144  # 400 of 0.251, five deviations


SGLANG = """
import argparse, json, sys
from sglang.srt.arg_groups.lora_hook import check_lora_server_args
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(allow_abbrev=False)
ServerArgs.add_cli_args(parser)
for words in json.load(sys.stdin):
    read = parser.parse_args(words)
    check_lora_server_args(ServerArgs.from_cli_args(read))
    names = [one["lora_name"] for one in read.lora_paths]
    print("READ", json.dumps([read.max_loras_per_batch, read.max_loaded_loras, read.max_lora_rank, names]))
"""


@needs("LORAPACK_SGLANG_PYTHON")
def test_sglang_takes_its_words() -> None:
    given = [words_of(text_of(sglang.export(one), "serve-g0.sh"))[3:] for one in DEPLOYMENTS]
    read = told_by("LORAPACK_SGLANG_PYTHON", SGLANG, given=given)
    names = [[one.routes[0].served_name, "split"] for one in DEPLOYMENTS]
    assert read == [[5, 6, 16, one] for one in names]


@needs("LORAPACK_COMPOSE_SCHEMA")
def test_the_schema_of_compose_takes_the_services() -> None:
    schema = json.loads(Path(os.environ["LORAPACK_COMPOSE_SCHEMA"]).read_text(encoding="utf-8"))
    for one in DEPLOYMENTS:
        for target in (compose, nim):
            document = yaml.safe_load(text_of(target.export(one), "compose.yaml"))
            assert not [error.message for error in Draft202012Validator(schema).iter_errors(document)]
            document["services"]["lorapack-g0"]["gpu"] = 1
            assert not Draft202012Validator(schema).is_valid(document)


COMPOSE = """
import json, sys
from compose_spec import PyCompose
for text in json.load(sys.stdin):
    read = PyCompose.from_yaml(text)
    read.validate()
    print("READ", json.dumps(sorted(read.service_names())))
"""


@needs("LORAPACK_COMPOSE_PYTHON")
def test_a_parser_of_compose_takes_the_services() -> None:
    given = [text_of(t.export(one), "compose.yaml") for one in DEPLOYMENTS for t in (compose, nim)]
    read = told_by("LORAPACK_COMPOSE_PYTHON", COMPOSE, given=given)
    assert read == [["lorapack-g0", "lorapack-g3"]] * len(given)


@needs("LORAPACK_COMPOSE")
@pytest.mark.parametrize("name", HOSTILE)
def test_compose_puts_no_variable_in_the_place_of_a_name(name: str, tmp_path: Path) -> None:
    text = text_of(compose.export(plan(served=name)), "compose.yaml")
    document = yaml.safe_load(text)
    del document["name"]  # Compose before 2 does not know it
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [*os.environ["LORAPACK_COMPOSE"].split(), "-f", "compose.yaml", "config"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    service = yaml.safe_load(done.stdout)["services"]["lorapack-g0"]
    assert compose_words(service) == compose_words(document["services"]["lorapack-g0"])


@needs("LORAPACK_ENVOY")
def test_envoy_takes_its_configurations(tmp_path: Path) -> None:
    for one in DEPLOYMENTS:
        (tmp_path / "envoy.yaml").write_text(text_of(routing.export(one), "envoy.yaml"), encoding="utf-8")
        command = [os.environ["LORAPACK_ENVOY"], "--mode", "validate", "--config-path", "envoy.yaml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


@needs("LORAPACK_ENVOY")
def test_envoy_routes_by_the_header_and_draws_by_the_shares(tmp_path: Path) -> None:
    names = ['a"b', "é漢", "${HOME}", "a: b # c"]
    deployment = plan(served=names[0], others=names[1:], settings={"port": 18_400, "router_port": 18_499})
    (tmp_path / "envoy.yaml").write_text(text_of(routing.export(deployment), "envoy.yaml"), encoding="utf-8")
    command = [os.environ["LORAPACK_ENVOY"], "--config-path", "envoy.yaml", "--use-dynamic-base-id"]

    def ask(name: str) -> int:
        link = http.client.HTTPConnection("127.0.0.1", 18_499, timeout=10)
        headers = {"x-gateway-model-name": name.encode(), "Content-Type": "application/json"}
        link.request("POST", "/v1/chat/completions", json.dumps({"model": name}), headers)
        return link.getresponse().status

    with engines(deployment) as seen, router(command, tmp_path, ask):
        assert ask("unknown") == 404
        assert [ask(name) for name in names] == [200] * len(names)
        assert seen == [(18_400, name) for name in names]
        check_split(seen, ask)


@needs("LORAPACK_LITELLM_PYTHON")
def test_litellm_routes_by_the_model_and_draws_by_the_shares(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if name != "é漢"]
    others = [*names[1:], "é", "a/b/c", "azure/x", "gpt-4o"]
    deployment = plan(served=names[0], others=others, settings={"port": 18_500, "router_port": 18_599})
    (tmp_path / "l.yaml").write_text(text_of(routing.export(deployment), "litellm.yaml"), encoding="utf-8")
    program = str(Path(os.environ["LORAPACK_LITELLM_PYTHON"]).with_name("litellm"))
    key = f"sk-{'0123456789' * 4}"
    variables = {"ENGINE_API_KEY": "none", "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [program, "--config", "l.yaml", "--port", "18599", "--host", "127.0.0.1"]

    def ask(name: str) -> int:
        link = http.client.HTTPConnection("127.0.0.1", 18_599, timeout=60)
        body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        link.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return link.getresponse().status

    with engines(deployment) as seen, router(command, tmp_path, ask, **variables):
        assert ask("unknown") == 400
        assert [ask(name) for name in (*names, *others)] == [200] * len([*names, *others])
        assert seen == [(18_500, name) for name in (*names, *others)]
        check_split(seen, ask)


def check_split(seen: list[tuple[int, str]], ask: Callable[[str], int]) -> None:
    """Of 400 requests of an adapter with shares of 0.251 and 0.749, within five deviations."""
    seen.clear()
    assert {ask("split") for _ in range(400)} == {200}
    first, second = sorted(Counter(port for port, _ in seen).values())
    assert first + second == 400
    assert 57 < first < 144


@contextmanager
def engines(deployment: Deployment) -> Iterator[list[tuple[int, str]]]:
    """Servers in the place of engines; what they are asked for, by port."""
    seen: list[tuple[int, str]] = []

    class Engine(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
            seen.append((self.server.server_address[1], model))
            message = {"role": "assistant", "content": "x"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": model}
            answer = json.dumps({**body, "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", group.port), Engine) for group in deployment.groups]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield seen
    for server in servers:
        server.shutdown()
        server.server_close()


@contextmanager
def router(command: list[str], folder: Path, ask: Callable[[str], int], **variables: str) -> Iterator[None]:
    """A router that answers, in a folder."""
    with (folder / "router.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "router.log").read_text(encoding="utf-8")[-2000:]
            with suppress(OSError):
                ask("unknown")
                break
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(10)
