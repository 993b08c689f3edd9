"""The script of steps: run against servers that keep vLLM's rules, with names that mean harm."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scenarios import EngineConfig, ExportSettings, PlacedAdapter, PlacedGPU, Placement
from scenarios.exporters.deployment import Deployment, ExportError, Group, deployment_of
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload, Wave
from scenarios.exporters.steps_between.steps import steps_script
from scenarios.exporters.steps_between.waves import deployed_waves
from tests.hostile_texts import HOSTILE_TEXTS

NAMES = [*HOSTILE_TEXTS, "plain", "x" * 200]
FEW = ["plain", "a;b"]


class Engine:
    """A server that loads and unloads as vllm/entrypoints/openai/models/serving.py does."""

    def __init__(self, held: set[str]) -> None:
        engine, self.held, self.log, self.refuses, self.swaps = self, held, list[str](), "", True

        class Handler(BaseHTTPRequestHandler):
            def answer(self, code: int, text: str = "") -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self) -> None:
                if self.path == "/v1/models":
                    self.answer(200, json.dumps({"data": [{"id": one} for one in sorted(engine.held)]}))
                elif self.path == "/metrics":
                    self.answer(200, 'vllm:num_requests_running{engine="0"} 0.0\n')
                else:
                    self.answer(200 if self.path == "/health" else 404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not engine.swaps:
                    return self.answer(404)
                if not body:
                    return self.answer(422)
                name, loads = body["lora_name"], self.path == "/v1/load_lora_adapter"
                if name == engine.refuses or (name in engine.held) == loads:
                    return self.answer(400)
                (engine.held.add if loads else engine.held.remove)(name)
                engine.log.append(f"{self.path} {name} {body.get('lora_path', '')}".strip())
                return self.answer(200)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    both = [Engine(set(NAMES)), Engine({"other"})]
    yield both
    for one in both:
        one.server.shutdown()
        one.server.server_close()


def gpu(number: int, *names: str) -> PlacedGPU:
    return PlacedGPU(
        gpu=number, device="H100", max_loras=1, max_lora_rank=8, max_cpu_loras=99, adapters=names
    )


def placement(*gpus: PlacedGPU) -> Placement:
    names = {name for one in gpus for name in one.adapters}
    return Placement(
        gpus=gpus,
        model="m",
        engine=EngineConfig(),
        adapters={name: PlacedAdapter(source=f"/loras/{name}") for name in names},
        export=ExportSettings(),
    )


def routes(deployment: Deployment) -> list[ExportedFile]:
    table = {route.served_name: dict(route.shares) for route in deployment.routes}
    return [ExportedFile("routing.json", json.dumps(table)), ExportedFile("nginx.conf", "events {}\n")]


def serve(group: Group, _deployment: Deployment) -> list[str]:
    return ["vllm", "serve", "m's", "--port", str(group.port)]


def moved(names: Sequence[str] = NAMES) -> Export:
    """Adapters from GPU 0 to 1, all but one."""
    actions: tuple[Action, ...] = (
        *(Load(1, name) for name in names),
        *(Switch(name, {1: 1.0}) for name in names),
        *(Unload(0, name) for name in names),
    )
    running = placement(gpu(0, *names, "last"), gpu(1, "other"))
    after = placement(gpu(0, "last"), gpu(1, "other", *names))
    wave = Wave(actions, (gpu(0, *names, "last"), gpu(1, "other", *names)), after)
    return steps_script(deployed_waves(running, [wave]), serve, routes)


def run(folder: Path, export: Export, engines: list[Engine], **env: str) -> subprocess.CompletedProcess[str]:
    for file in export.files:
        text = file.text
        for k, one in enumerate(engines):
            text = text.replace(f"127.0.0.1:{8000 + k}", f"127.0.0.1:{one.server.server_port}")
        (folder / file.path).parent.mkdir(exist_ok=True)
        (folder / file.path).write_text(text, encoding="utf-8")
    settings = {"LORAPACK_RELOAD": "true", "LORAPACK_SETTLE": "0", "LORAPACK_TIMEOUT": "5"} | env
    command = ["bash", str(folder / "steps.sh")]
    return subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
def test_hostile_names_arrive_as_they_are_and_nothing_else_happens(
    tmp_path: Path, engines: list[Engine]
) -> None:
    engines[0].held.add("last")
    done = run(tmp_path, moved(), engines)
    assert done.returncode == 0, done.stderr
    assert engines[0].held == {"last"}
    assert engines[1].held == {"other", *NAMES}
    assert engines[1].log == [f"/v1/load_lora_adapter {name} /loras/{name}" for name in NAMES]
    assert json.loads((tmp_path / "routing.json").read_text(encoding="utf-8"))["a;b"] == {"1": 1.0}
    assert (tmp_path / "nginx.conf").read_text() == "events {}\n"
    assert not (tmp_path / "x").exists()


def test_engines_that_take_no_adapters_while_they_run_are_found_before_the_first_wave(
    tmp_path: Path, engines: list[Engine]
) -> None:
    engines[0].held = {"last", *FEW}
    engines[0].swaps = False
    done = run(tmp_path, moved(FEW), engines)
    assert done.returncode != 0
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in done.stderr
    assert engines[1].held == {"other"}
    assert not (tmp_path / "routing.json").exists()


def test_the_routers_files_are_put_where_it_reads_them(tmp_path: Path, engines: list[Engine]) -> None:
    engines[0].held = {"last", *FEW}
    router = tmp_path / "router"
    router.mkdir()
    done = run(tmp_path, moved(FEW), engines, LORAPACK_ROUTES=str(router))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in router.iterdir()) == ["nginx.conf", "routing.json"]
    assert not (tmp_path / "routing.json").exists()


def test_a_failed_load_leaves_routes_and_engines_as_they_were_and_the_script_goes_on_later(
    tmp_path: Path, engines: list[Engine]
) -> None:
    engines[0].held = {"last", *FEW}
    engines[1].refuses = "a;b"
    done = run(tmp_path, moved(FEW), engines)
    assert done.returncode != 0
    assert "stopped in wave 1; all is still served" in done.stderr
    assert not (tmp_path / "routing.json").exists()
    assert engines[0].held == {"last", *FEW}
    engines[1].refuses = ""
    assert run(tmp_path, moved(FEW), engines).returncode == 0
    assert engines[0].held == {"last"}
    assert run(tmp_path, moved(FEW), engines).returncode == 0  # all waves are done


def test_a_failed_switch_unloads_nothing(tmp_path: Path, engines: list[Engine]) -> None:
    engines[0].held = set(FEW)
    done = run(tmp_path, moved(FEW), engines, LORAPACK_RELOAD="false")
    assert done.returncode != 0
    assert engines[0].held == set(FEW)


def test_the_script_says_what_it_needs(tmp_path: Path, engines: list[Engine]) -> None:
    done = run(tmp_path, moved(FEW), engines, LORAPACK_RELOAD="")
    assert done.returncode != 0
    assert "set LORAPACK_RELOAD" in done.stderr
    assert not engines[1].log


def replaced() -> tuple[Placement, Wave]:
    """GPU 0 replaced by GPU 2."""
    actions = (Start(2), Load(2, "last"), Switch("last", {2: 1.0}), Stop(0))
    running = placement(gpu(0, "last"), gpu(1, "other"))
    after = placement(gpu(1, "other"), gpu(2, "last"))
    return running, Wave(actions, (gpu(0, "last"), gpu(1, "other"), gpu(2, "last")), after)


def test_an_engine_is_started_waited_for_drained_and_stopped(tmp_path: Path, engines: list[Engine]) -> None:
    running, wave = replaced()
    export = steps_script(deployed_waves(running, [wave]), serve, routes)
    script = next(f for f in export.files if f.path == "engine-wave-1-g2.sh")
    assert """exec vllm serve 'm'"'"'s' --port 8002""" in script.text
    fresh = Engine(set())
    stopped = tmp_path / "stop"
    stopped.write_text('#!/bin/bash\necho "$@" >"$(dirname "$0")/stopped"\n')
    stopped.chmod(0o755)
    done = run(tmp_path, export, [*engines, fresh], LORAPACK_STOP=str(stopped), LORAPACK_START="false")
    fresh.server.shutdown()
    fresh.server.server_close()
    assert done.returncode == 0, done.stderr
    assert fresh.held == {"last"}
    assert (tmp_path / "stopped").read_text() == "lorapack-g0 127.0.0.1 8000\n"


def test_engines_keep_their_addresses_through_all_states_of_a_wave() -> None:
    running, wave = replaced()
    (one,) = deployed_waves(running, [wave])
    states = [one.load, one.switch, one.unload]
    assert [[(g.number, g.port) for g in state.groups] for state in states] == [
        [(0, 8000), (1, 8001), (2, 8002)],
        [(0, 8000), (1, 8001), (2, 8002)],
        [(1, 8001), (2, 8002)],
    ]
    assert [
        dict(route.shares) for state in states for route in state.routes if route.served_name == "last"
    ] == [
        {0: 1.0},
        {2: 1.0},
        {2: 1.0},
    ]


def test_addresses_in_the_steps_are_those_of_exports_before_and_after() -> None:
    running, wave = replaced()
    (one,) = deployed_waves(running, [wave])

    def addresses(deployment: Deployment) -> dict[int, tuple[str, int, tuple[int, ...]]]:
        return {group.number: (group.host, group.port, group.devices) for group in deployment.groups}

    assert addresses(deployment_of(running)).items() <= addresses(one.load).items()
    assert addresses(deployment_of(wave.placement)) == addresses(one.unload)


def test_adapters_without_a_source_are_refused() -> None:
    running, wave = replaced()
    bare = running.model_copy(update={"adapters": {}})
    after = wave.placement.model_copy(update={"adapters": {}})
    waves = deployed_waves(bare, [Wave(wave.actions, wave.engines, after)])
    with pytest.raises(ExportError, match='adapter "last" has no source to load'):
        steps_script(waves, serve, routes)
