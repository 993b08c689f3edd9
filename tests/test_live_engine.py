"""The harness of benchmarks around a real vLLM: servers start, are waited for, and always end."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]

SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""Serves, also /health where a file of that name lies, and has a child."""


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, as a benchmark that is started by its path imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("live_engine")
    for name in [name for name in sys.modules if name.partition(".")[0] == "live_engine"]:
        del sys.modules[name]


def part(harness: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{harness.__name__}.{name}")


@pytest.fixture
def environment(harness: ModuleType, tmp_path: Path) -> object:
    """An environment that has this Python, and no vLLM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    (folder / "vllm").write_text("#!/bin/bash\necho 'vllm: ValueError: no memory for you'\nexit 3\n")
    (folder / "vllm").chmod(0o755)
    return part(harness, "environments").environment_at(folder / "vllm")


def is_alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_and_its_children_have_ended_after_an_error(
    harness: ModuleType, environment: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "health").write_text("")
    monkeypatch.chdir(tmp_path)
    (port,) = part(harness, "processes").free_ports(1)
    servers, log = part(harness, "servers"), tmp_path / "logs" / "server.log"
    words = [sys.executable, "-c", SERVER, str(port)]
    numbers: list[int] = []
    with (  # noqa: PT012 - the error comes from within
        pytest.raises(RuntimeError, match="in the middle"),
        servers.serving(words, environment, log, port=port, limit_s=30) as server,
    ):
        server.check()
        numbers += [server.process.pid, int(log.read_text().split()[1])]
        assert all(map(is_alive, numbers))
        assert part(harness, "processes").is_taken(port)
        raise RuntimeError("in the middle")
    end = time.monotonic() + 10
    while any(map(is_alive, numbers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, numbers))
    with pytest.raises(servers.ServerError, match="has ended with"):
        server.check()


def test_a_start_that_fails_is_told_with_what_the_log_says(
    harness: ModuleType, environment: object, tmp_path: Path
) -> None:
    servers = part(harness, "servers")
    (port,) = part(harness, "processes").free_ports(1)
    with (
        pytest.raises(servers.ServerError, match=r"fails at its start.*\n.*ValueError: no memory for you"),
        servers.serving(["vllm", "serve"], environment, tmp_path / "log", port=port, limit_s=30),
    ):
        pass


def test_a_start_that_takes_too_long_is_ended(
    harness: ModuleType, environment: object, tmp_path: Path
) -> None:
    servers = part(harness, "servers")
    (port,) = part(harness, "processes").free_ports(1)
    with (
        pytest.raises(servers.ServerError, match="hangs at its start"),
        servers.serving(["sleep", "60"], environment, tmp_path / "log", port=port, limit_s=1),
    ):
        pass


def test_servers_side_by_side_are_kept_on_cores_and_have_logs_of_their_own(
    harness: ModuleType, environment: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "health").write_text("")
    (tmp_path / "server.py").write_text(SERVER.replace("sys.argv[1]", "sys.argv[2]"))
    monkeypatch.chdir(tmp_path)
    servers, ports = part(harness, "servers"), part(harness, "processes").free_ports(2)
    scripts = [tmp_path / f"serve_{k}.sh" for k in range(2)]
    for script, port in zip(scripts, ports, strict=True):
        script.write_text(f"exec {sys.executable} server.py --port {port}\n")
    with servers.side_by_side(scripts, environment, tmp_path / "logs") as started:
        cores = [os.sched_getaffinity(server.process.pid) for server in started]
        assert [server.url for server in started] == [f"http://127.0.0.1:{port}" for port in ports]
        assert all(len(one) == 1 for one in cores)
        assert len(set.union(*cores)) == min(2, os.cpu_count() or 1)
        assert [server.log for server in started] == [tmp_path / "logs" / f"serve_{k}.log" for k in range(2)]
    assert not any(map(part(harness, "processes").is_taken, ports))


def test_a_script_without_a_port_is_refused(harness: ModuleType, environment: object, tmp_path: Path) -> None:
    servers, script = part(harness, "servers"), tmp_path / "serve.sh"
    script.write_text("exec sleep 60\n")
    with (
        pytest.raises(RuntimeError, match=r"serve\.sh has no port"),
        servers.side_by_side([script], environment, tmp_path),
    ):
        pass


def test_a_taken_port_is_refused_before_anything_starts(
    harness: ModuleType, environment: object, tmp_path: Path
) -> None:
    import socket

    servers = part(harness, "servers")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with (
            pytest.raises(servers.ServerError, match=f"port {port} .* is taken"),
            servers.serving(["vllm"], environment, tmp_path / "log", port=port),
        ):
            pass
    assert not (tmp_path / "log").exists()


def test_servers_inherit_nothing_of_another_vllm_and_find_their_own(
    harness: ModuleType, environment: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    variables = environment.variables(**part(harness, "servers").SWAPS)
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables
    assert "PYTHONPATH" not in variables
    assert variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert variables["PATH"].split(os.pathsep)[0] == str(environment.vllm.parent)


def test_an_environment_without_the_command_is_refused_with_its_path(
    harness: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"bin/vllm: no such file; give the vllm command"):
        part(harness, "environments").environment_at(tmp_path / "bin" / "vllm")


def test_each_run_is_made_once_before_any_is_made_again(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    foretelling, made = part(harness, "foretelling"), []

    def run(case: SimpleNamespace, urls: list[str], seed: int) -> list[str]:
        made.append((case.name, seed))
        return [f"{case.name} on {url}, {len(made)}" for url in urls]

    monkeypatch.setattr(foretelling, "run_case", run)
    monkeypatch.setattr(foretelling, "foretold", lambda case, _: f"{case.name} foretold")
    cases = [SimpleNamespace(name=name, requests=range(3)) for name in ("half", "near")]
    half, near = foretelling.compare(cases, None, ["one", "two"], rounds=2)
    assert made == [("half", 1), ("near", 1), ("half", 3), ("near", 3)]
    assert (half.told, near.told, near.requests) == ("half foretold", "near foretold", 3)
    assert half.seen == ("half on one, 1", "half on two, 1", "half on one, 3", "half on two, 3")


def test_a_router_without_a_configuration_is_refused(harness: ModuleType, tmp_path: Path) -> None:
    servers, routers = part(harness, "servers"), part(harness, "routers")
    (port,) = part(harness, "processes").free_ports(1)
    with (
        pytest.raises(servers.ServerError, match=r"nginx refuses .*nginx\.conf|its module njs"),
        routers.routing(tmp_path, tmp_path / "log", port=port),
    ):
        pass
