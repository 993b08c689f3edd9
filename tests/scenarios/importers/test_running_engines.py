"""What sources tell of engines that run: whether they take adapters, their release and their image."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenarios import import_fleet

VARIABLE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
COMMAND = "vllm serve org/model --enable-lora --max-loras 4"

COMPOSE = """
services:
  one:
    image: vllm/vllm-openai:v0.11.0
    command: [org/model, --enable-lora]
    {more}
"""

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: one}}
spec:
  containers:
  - image: {image}
    command: [vllm, serve]
    args: [org/model, --enable-lora]
    {more}
"""


def notes(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return "\n".join(import_fleet(path).notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("start.sh", f"{COMMAND} &\n"),
        ("start.sh", f"export {VARIABLE}=0\n{COMMAND} &\n"),
        ("one.service", f"[Service]\nExecStart=/usr/bin/{COMMAND}\n"),
        ("run.sh", "docker run vllm/vllm-openai:v0.11.0 --model org/model --enable-lora\n"),
        ("compose.yaml", COMPOSE.format(more="")),
        ("pod.yaml", POD.format(image="vllm/vllm-openai:v0.11.0", more="")),
    ],
)
def test_an_engine_that_takes_no_adapters_while_it_runs_is_told_of(
    tmp_path: Path, name: str, text: str
) -> None:
    assert f"It is not told {VARIABLE}" in notes(tmp_path, name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("start.sh", f"export {VARIABLE}=True\n{COMMAND} &\n"),
        ("start.sh", f"{VARIABLE}=1 {COMMAND} &\n"),
        ("one.service", f"[Service]\nEnvironment={VARIABLE}=true\nExecStart=/usr/bin/{COMMAND}\n"),
        ("run.sh", f"docker run -e {VARIABLE}=1 vllm/vllm-openai:v0.11.0 --model org/model --enable-lora\n"),
        ("compose.yaml", COMPOSE.format(more=f"environment: {{{VARIABLE}: 'True'}}")),
        ("pod.yaml", POD.format(image="a/vllm:1", more=f"env: [{{name: {VARIABLE}, value: 'True'}}]")),
    ],
)
def test_an_engine_that_takes_adapters_is_told_to_be_asked(tmp_path: Path, name: str, text: str) -> None:
    told = notes(tmp_path, name, text)
    assert "its answer to /v1/models tells which are loaded" in told
    assert "It is not told" not in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one.service", f"[Service]\nEnvironmentFile=/etc/vllm\nExecStart=/usr/bin/{COMMAND}\n"),
        ("run.sh", "docker run --env-file e vllm/vllm-openai:v0.11.0 --model org/model --enable-lora\n"),
        ("run.sh", f"docker run -e {VARIABLE} vllm/vllm-openai:v0.11.0 --model org/model --enable-lora\n"),
        ("compose.yaml", COMPOSE.format(more=f"environment: [{VARIABLE}]")),
        ("compose.yaml", COMPOSE.format(more="env_file: not-here.env")),
        ("pod.yaml", POD.format(image="a/vllm:1", more="envFrom: [{configMapRef: {name: x}}]")),
        ("start.sh", "vllm serve org/model &\n"),  # without LoRA it takes none, and needs none
    ],
)
def test_of_variables_that_are_not_told_nothing_is_said(tmp_path: Path, name: str, text: str) -> None:
    assert VARIABLE not in notes(tmp_path, name, text)


def test_the_tag_of_an_image_tells_its_release_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(more=""))
    fleet = import_fleet(tmp_path)
    assert any("It runs vLLM 0.11.0." in note for note in fleet.notes)
    assert fleet.releases == ("0.11.0",)
    assert "image: vllm/vllm-openai:v0.11.0  " in fleet.text
    assert "compose.yaml, services.one.image" in fleet.text


@pytest.mark.parametrize(
    "image",
    ["vllm/vllm-openai", "lmcache/vllm-openai:v0.3.9", "nvcr.io/a/vllm-runtime:1.0", "x/vllm:v0.11.0"],
)
def test_a_tag_of_another_program_is_no_release(tmp_path: Path, image: str) -> None:
    (tmp_path / "pod.yaml").write_text(POD.format(image=image, more=""))
    assert import_fleet(tmp_path).releases == ()


@pytest.mark.parametrize(
    "image", ['"a: b # vllm:c"', '"vllm/$(x):v1"', '"../vllm:v1"', '"vllm:v1\\nx: y"', "vllm"]
)
def test_an_image_that_no_export_could_name_is_left_out(tmp_path: Path, image: str) -> None:
    (tmp_path / "pod.yaml").write_text(POD.format(image=image, more=""))
    assert "export" not in yaml.safe_load(import_fleet(tmp_path).text)


def test_servers_of_two_images_leave_the_choice_to_the_user(tmp_path: Path) -> None:
    for k in (10, 11):
        text = POD.format(image=f"vllm/vllm-openai:v0.{k}.0", more="").replace("name: one", f"name: s{k}")
        (tmp_path / f"{k}.yaml").write_text(text)
    fleet = import_fleet(tmp_path)
    assert any("Sources say image" in note for note in fleet.notes)
    assert fleet.releases == ("0.10.0", "0.11.0")
