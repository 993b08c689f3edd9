"""Steps of declarative targets: each folder changes what its step says, and nothing that runs on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from scenarios import EngineConfig, ExportSettings, PlacedAdapter, PlacedGPU, Placement, export_steps
from scenarios.exporters.deployment import ExportError
from scenarios.exporters.exported import Export
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload, Wave
from scenarios.exporters.steps_between.stepping import Stepping
from scenarios.exporters.targets import find_steps, targets

AT_START = ["systemd", "compose", "gie", "llm-d", "sglang"]
WHILE_IT_RUNS = ["aibrix", "production-stack", "routing", "vllm"]
READY = "until curl --fail --silent http://127.0.0.1:8002/health; do sleep 5; done"
REFUSED = ["kserve", "ray-serve", "nim", "dynamo"]


def gpu(number: int, *names: str, **shares: float) -> PlacedGPU:
    return PlacedGPU(
        gpu=number,
        device="H100",
        max_loras=2,
        max_lora_rank=8,
        max_cpu_loras=9,
        adapters=names,
        shares=shares,
    )


def placement(*gpus: PlacedGPU, release: str = "0.32.0", **engine: Any) -> Placement:
    names = {name for one in gpus for name in one.adapters}
    return Placement(
        gpus=gpus,
        model="org/base",
        engine_version=release,
        engine=EngineConfig(**engine),
        adapters={name: PlacedAdapter(source=f"org/{name}") for name in names},
        export=ExportSettings(namespace="ml"),
    )


def restarted(to: str, **engine: Any) -> Export:
    """GPU 1 is replaced by GPU 2, which has one adapter more; GPU 0 goes on."""
    running = placement(gpu(0, "a"), gpu(1, "b"), **engine)
    after = placement(gpu(0, "a"), gpu(2, "b", "c"))
    actions = (Start(2), Switch("b", {2: 1.0}), Switch("c", {2: 1.0}), Stop(1))
    return export_steps(running, [Wave(actions, (gpu(0, "a"), gpu(1, "b"), gpu(2, "b", "c")), after)], to)


def moved(to: str) -> Export:
    """Adapter b goes from GPU 0 to 1, while both run."""
    running, after = placement(gpu(0, "a", "b"), gpu(1, "c")), placement(gpu(0, "a"), gpu(1, "b", "c"))
    actions: tuple[Action, ...] = (Load(1, "b"), Switch("b", {1: 1.0}), Unload(0, "b"))
    return export_steps(running, [Wave(actions, (gpu(0, "a", "b"), gpu(1, "b", "c")), after)], to)


def text(export: Export, path: str) -> str:
    return next(file.text for file in export.files if file.path == path)


def objects(export: Export, path: str) -> list[tuple[str, str]]:
    """Kinds and names in a file; nothing where there is no such file."""
    found = [file for file in export.files if file.path == path]
    return [(one["kind"], one["metadata"]["name"]) for file in found for one in yaml.safe_load_all(file.text)]


def commands(export: Export, step: str) -> list[str]:
    lines = text(export, f"{step}/apply.sh").splitlines()
    return [line for line in lines[3:] if not line.startswith("#")]


def test_every_target_says_how_it_is_changed_or_why_it_cannot_be() -> None:
    kinds = {
        name: one.STEPS.named_at_start if isinstance(one.STEPS, Stepping) else None
        for name, one in targets().items()
    }
    assert [name for name, kind in kinds.items() if kind] == ["systemd", "compose", "gie", "llm-d", "sglang"]
    assert sorted(name for name, kind in kinds.items() if kind is False) == sorted(WHILE_IT_RUNS)
    assert sorted(name for name, kind in kinds.items() if kind is None) == sorted(REFUSED)


@pytest.mark.parametrize("to", REFUSED)
def test_a_target_whose_files_cannot_say_steps_is_refused_with_the_reason(to: str) -> None:
    with pytest.raises(ExportError, match=f"--from cannot be exported to {to}: .*interrupt the service"):
        find_steps(to)


@pytest.mark.parametrize("to", ["gie", "llm-d"])
def test_an_engine_that_runs_on_is_in_no_folder_and_what_is_no_more_is_deleted(to: str) -> None:
    export = restarted(to, max_model_len=2048)
    below = "pools/" if to == "llm-d" else ""
    assert objects(export, "wave-1/1-load/engines.yaml") == [("Deployment", "lorapack-g2")]
    assert objects(export, f"wave-1/1-load/{below}pools.yaml") == [("InferencePool", "lorapack-g2")]
    assert objects(export, f"wave-1/2-switch/{below}routes.yaml") == [("HTTPRoute", "lorapack-r-g2")]
    assert objects(export, "wave-1/2-switch/delete.yaml") == [
        ("HTTPRoute", "lorapack-r-g1"),
        ("ConfigMap", "lorapack-r-g1"),
    ]
    assert objects(export, "wave-1/3-unload/delete.yaml") == [
        ("Deployment", "lorapack-g1"),
        ("InferencePool", "lorapack-g1"),
    ]
    assert commands(export, "wave-1/1-load")[:2] == [
        "kubectl apply -f engines.yaml",
        "kubectl -n ml rollout status deployment/lorapack-g2 --timeout=1h",
    ]
    switch = commands(export, "wave-1/2-switch")
    assert switch.index(f"kubectl apply -f {below}routes.yaml") < switch.index(
        f"kubectl apply -f {below}models.yaml"
    )
    assert switch[-1] == "kubectl delete --ignore-not-found -f delete.yaml"
    assert "wait until no request is left on lorapack-g1" in text(export, "wave-1/3-unload/apply.sh")


def test_aibrix_loads_an_adapter_beside_before_its_selector_lets_go_of_the_old_pod() -> None:
    export = moved("aibrix")
    assert export.next_steps == ("./wave-1/1-load/apply.sh", "./wave-1/3-unload/apply.sh")
    (one,) = yaml.safe_load_all(text(export, "wave-1/1-load/adapters.yaml"))
    assert one["spec"]["podSelector"]["matchLabels"]["lorapack-set-0-1"] == "true"
    (one,) = yaml.safe_load_all(text(export, "wave-1/3-unload/adapters.yaml"))
    assert one["spec"]["podSelector"]["matchLabels"]["lorapack-group"] == "lorapack-g1"
    assert not objects(export, "wave-1/1-load/engines.yaml")
    label = "kubectl -n ml label pods -l lorapack-group={} --overwrite {}"
    assert commands(export, "wave-1/1-load") == [
        label.format("lorapack-g0", "lorapack-set-0-1=true"),
        label.format("lorapack-g1", "lorapack-set-0-1=true"),
        "kubectl apply -f adapters.yaml",
    ]
    assert commands(export, "wave-1/3-unload") == [
        "kubectl apply -f adapters.yaml",
        label.format("lorapack-g0", "lorapack-set-0-1-"),
        label.format("lorapack-g1", "lorapack-set-0-1-"),
    ]


def test_the_script_says_where_it_looks_for_what_runs() -> None:
    export = moved("vllm")
    assert "GPU 0 at 127.0.0.1:8000 and GPU 1 at 127.0.0.1:8001" in export.cautions[0]
    assert export.kind == "vllm, steps"


def test_steps_that_a_target_cannot_say_are_told_to_be_none() -> None:
    running = placement(gpu(0, "a", a=0.5), gpu(1, "a", a=0.5))
    after = placement(gpu(0, "a", a=0.25), gpu(1, "a", a=0.75))
    wave = Wave((Switch("a", {0: 0.25, 1: 0.75}),), (gpu(0, "a"), gpu(1, "a")), after)
    export = export_steps(running, [wave], "aibrix")
    assert not export.files
    assert any("There is no file" in sentence for sentence in export.cautions)
    assert export_steps(running, [wave], "gie").next_steps == ("./wave-1/2-switch/apply.sh",)


def test_production_stack_deletes_the_adapters_that_it_unloads() -> None:
    export = moved("production-stack")
    assert [kind for kind, _ in objects(export, "wave-1/1-load/adapters.yaml")] == ["LoraAdapter"]
    assert objects(export, "wave-1/3-unload/delete.yaml") == [("LoraAdapter", "lorapack-g0-b")]
    assert commands(export, "wave-1/3-unload") == ["kubectl delete --ignore-not-found -f delete.yaml"]


def test_the_chart_says_the_arguments_of_engines_that_run_as_they_run() -> None:
    export = restarted("production-stack", max_model_len=2048)
    engines = yaml.safe_load(text(export, "wave-1/1-load/values.yaml"))["servingEngineSpec"]["modelSpec"]
    lengths = {one["name"]: one["vllmConfig"]["maxModelLen"] for one in engines}
    assert lengths["lorapack-g0"] == lengths["lorapack-g1"] == 2048
    assert lengths["lorapack-g2"] != 2048


def test_another_release_than_runs_is_refused_where_one_file_says_all_engines() -> None:
    running, after = placement(gpu(0, "a"), release="0.31.0"), placement(gpu(1, "a"))
    wave = Wave((Start(1), Switch("a", {1: 1.0}), Stop(0)), (gpu(0, "a"), gpu(1, "a")), after)
    with pytest.raises(ExportError, match=r"runs vLLM 0\.31\.0"):
        export_steps(running, [wave], "production-stack")
    assert export_steps(running, [wave], "compose").files


def test_compose_makes_no_container_anew_and_removes_those_of_no_service() -> None:
    export = restarted("compose")
    line = "docker compose up --detach --no-recreate --remove-orphans"
    assert commands(export, "wave-1/1-load") == [line, READY]
    assert commands(export, "wave-1/3-unload") == [line]
    services = [
        list(yaml.safe_load(text(export, f"wave-1/{step}/compose.yaml"))["services"])
        for step in ("1-load", "3-unload")
    ]
    assert services == [["lorapack-g0", "lorapack-g1", "lorapack-g2"], ["lorapack-g0", "lorapack-g2"]]


def test_systemd_reloads_its_units_and_stops_and_removes_that_of_a_stopped_engine() -> None:
    export = restarted("systemd")
    assert commands(export, "wave-1/1-load") == [
        "sudo cp lorapack-g2.service lorapack.target /etc/systemd/system/",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now lorapack-g2.service",
        READY,
    ]
    assert commands(export, "wave-1/3-unload") == [
        "sudo systemctl disable --now lorapack-g1.service",
        "sudo rm -f /etc/systemd/system/lorapack-g1.service",
        "sudo cp lorapack.target /etc/systemd/system/",
        "sudo systemctl daemon-reload",
    ]


@pytest.mark.parametrize("to", ["systemd", "compose", "sglang", "routing"])
def test_routes_are_switched_by_the_files_of_routers(to: str, tmp_path: Path) -> None:
    export = restarted(to)
    router = tmp_path / "router"
    router.mkdir()
    _write(export, tmp_path)
    environment = {"LORAPACK_ROUTES": str(router), "LORAPACK_RELOAD": "true", "PATH": "/usr/bin:/bin"}
    script = str(tmp_path / "wave-1/2-switch/apply.sh")
    subprocess.run(["bash", script], env=environment, check=True, timeout=30)
    assert {"nginx.conf", "envoy.yaml", "routing.json"} <= {path.name for path in router.iterdir()}
    bare = subprocess.run(["bash", script], env={}, check=False, capture_output=True, text=True, timeout=30)
    assert bare.returncode != 0
    assert "LORAPACK_ROUTES" in bare.stderr


@pytest.mark.parametrize("to", [*AT_START, "aibrix", "production-stack", "routing"])
def test_scripts_are_bash_and_the_sentence_says_how_many_gpus_it_takes_beside_others(
    to: str, tmp_path: Path
) -> None:
    export = restarted(to)
    _write(export, tmp_path)
    for script in export.next_steps:
        subprocess.run(["bash", "-n", script], cwd=tmp_path, check=True, timeout=30)
    assert "on 4 GPUs at once" in export.cautions[0]


def test_an_adapter_that_is_served_later_keeps_its_source_while_it_waits() -> None:
    running, last = placement(gpu(0, "a")), placement(gpu(1, "a", "new"))
    early = last.with_gpus([gpu(0, "a")])
    waves = [
        Wave((Start(1),), (gpu(0, "a"), gpu(1, "a", "new")), early),
        Wave(
            (Switch("a", {1: 1.0}), Switch("new", {1: 1.0}), Stop(0)),
            (gpu(0, "a"), gpu(1, "a", "new")),
            last,
        ),
    ]
    export = export_steps(running, waves, "compose")
    files: Sequence[str] = [
        text(export, f"wave-{wave}/{step}/compose.yaml") for wave, step in ((1, "1-load"), (2, "3-unload"))
    ]
    services = [yaml.safe_load(one)["services"]["lorapack-g1"] for one in files]
    assert services[0] == services[1]
    assert "org/new" in files[0]


def _write(export: Export, folder: Path) -> None:
    for file in export.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
