"""Damaged and hostile files of servers are read as far as they can be meant, or refused in one sentence."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.servers import KINDS, server_of
from scenarios.importers.source import Kind, Source

BY_NAME = {kind.name: kind for kind in KINDS}
MODULES = '{"name": "de", "path": "/l/de"}'
FILES = {
    "shell script that starts servers": (
        "#!/bin/bash\n# group: g0\nexport A=1\nvllm serve m --max-loras 4 --max-lora-rank 16 \\\n"
        f"  --lora-modules fr=/l/fr '{MODULES}' --port 8000 > log 2>&1 &\n"
        "docker run -d --name g1 vllm/vllm-openai:v0.14.0 --model m --max-loras 2\n"
    ),
    "systemd unit": (
        "[Unit]\nDescription=x\n[Service]\nEnvironment=A=1 B=2\n"
        "ExecStart=vllm serve m --max-loras 4 --max-lora-rank 16 \\\n"
        '  --lora-modules fr=/l/fr "x=/y" --port 8000\n'
        "Restart=always\n"
    ),
    "file of Docker Compose": (
        "services:\n  g0:\n    image: vllm/vllm-openai:v1\n"
        "    command: [--model, m, --max-loras, '4', --max-lora-rank, 16,"
        " --lora-modules, fr=/l/fr]\n"
        "    environment: {A: b}\n    ports: ['1:2']\n    volumes: ['/a:/b']\n    deploy: {replicas: 2}\n"
    ),
    "configuration of Ray Serve LLM": (
        "applications:\n- args:\n    llm_configs:\n"
        "    - model_loading_config: {model_id: g0, model_source: m}\n"
        "      engine_kwargs: {max_loras: 4, max_lora_rank: 16}\n"
        "      lora_config: {dynamic_lora_loading_path: /nowhere}\n"
        "      deployment_config: {num_replicas: 2}\n      accelerator_type: H100\n"
    ),
    "answer of /v1/models": json.dumps(
        {
            "object": "list",
            "data": [
                {"id": "base", "owned_by": "vllm", "root": "m", "parent": None, "max_model_len": 16},
                {"id": "fr", "owned_by": "vllm", "root": "/l/fr", "parent": "base"},
            ],
        }
    ),
    "start-up log of vLLM": (
        "INFO 11-29 03:14:00 [api_utils.py:286] non-default args: {'model': 'm', 'lora_modules': "
        "[LoRAModulePath(name='fr', path='/l/fr', base_model_name=None)], "
        "'max_loras': 4, 'max_lora_rank': 16}\n"
        "INFO 11-29 03:14:19 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m', "
        "dtype=torch.bfloat16, max_seq_len=2048\n"
    ),
}
REPLACED = [
    "",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "9" * 5000,
    "nan",
    "[]",
    "{}",
    "[[[[",
    '"',
    "'",
    "x" * 5000,
]
REPLACED += [
    "\x1b[31m",
    "é漢",
    "../../etc",
    "$(touch x)",
    "`x`",
    "{{ x }}",
    "%i",
    "a: b # c",
    "!!python/object:os.system x",
]
REPLACED += [
    "*a",
    "&a [*a]",
    "\\",
    "\\x",
    "\x00",
    "a\nb",
    "--",
    "---\n",
    "<<: 7",
    "1_000",
    "0x10",
    "5" * 300 + "k",
]
"""What stands in the place of a value."""


def outcome(kind: Kind, path: Path) -> SourceFacts | str:
    """What a kind reads, or why it does not; whether it fits must not fail."""
    began = time.monotonic()
    found: SourceFacts | str = ""
    with suppress(ImportSourceError):
        kind.fits(Source(path))
    try:
        found = kind.read(Source(path), ImportOptions())
    except ImportSourceError as error:
        found = str(error)
    assert time.monotonic() - began < 5
    if isinstance(found, str):
        assert str(path) in found
        assert found.isprintable()
        assert len(found) < 2000
    return found


def test_every_kind_has_a_file_that_is_read(tmp_path: Path) -> None:
    assert list(FILES) != []
    assert set(FILES) == set(BY_NAME)
    for name, text in FILES.items():
        path = tmp_path / "g0.service"
        path.write_text(text, encoding="utf-8")
        fitting = [kind.name for kind in KINDS if kind.fits(Source(path))]
        assert fitting[:1] == [name]
        facts = outcome(BY_NAME[name], path)
        assert isinstance(facts, SourceFacts)
        assert "max_loras" in facts.servers[0].engine or name == "answer of /v1/models"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", range(1, 40))
def test_files_that_are_cut_off_are_read_or_refused(tmp_path: Path, name: str, part: int) -> None:
    text = FILES[name]
    path = tmp_path / "x"
    path.write_text(text[: len(text) * part // 40], encoding="utf-8")
    outcome(BY_NAME[name], path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("value", REPLACED, ids=range(len(REPLACED)))
def test_values_of_any_kind_are_read_or_refused(tmp_path: Path, name: str, value: str) -> None:
    for place in ("4", "16", "m", "/l/fr", "base", "fr", "g0", "2"):
        path = tmp_path / "x"
        path.write_text(FILES[name].replace(place, value), encoding="utf-8")
        outcome(BY_NAME[name], path)
        path.write_text(FILES[name].replace(place, value, 1), encoding="utf-8")
        outcome(BY_NAME[name], path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe\xfd",
        b"\x1f\x8b\x08\x00garbage",
        b"[" * 200_000,
        b"{" * 200_000,
        b'"' * 100_001,
        b"'" * 100_001,
        b"$(" * 50_000,
        b"${" * 50_000,
        b"`" * 100_001,
        b"\\\n" * 50_000,
        b"(" * 100_000,
        b"a=" * 50_000,
        b"<<" * 50_000,
        b"a: " * 50_000,
        b"- " * 50_000,
        b"vllm serve " * 20_000,
        b"vllm serve m --" + b"a." * 5000 + b"b 1",
        b"vllm serve m --lora-modules " + b"[" * 5000,
    ],
    ids=range(20),
)
def test_garbage_is_refused_or_read_without_delay(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    found = outcome(BY_NAME[name], path)
    if not data.startswith(b"vllm"):
        assert isinstance(found, str)


@pytest.mark.parametrize(
    "flags",
    [
        "--max-loras abc",
        "--max-loras",
        "--max-loras 4.5.6",
        "--max-loras 1Q",
        "--max-model-len 1.5K",
        "--enable-lora=perhaps",
        "--gpu-memory-utilization lots",
        "--dtype",
        "--speculative-config {",
        "--speculative-config 7",
        "--kv-transfer-config [1]",
        "--speculative-config.method",
        "--speculative-config.a 1 --speculative-config.a.b 2",
        "--speculative-config..a 1",
        "--cudagraph-capture-sizes 1 x",
        "--lora-modules fr",
        "--lora-modules {",
        '--lora-modules {"name":"x"}',
        '--lora-modules {"name":7,"path":"y"}',
        '--lora-modules {"name":"","path":"y"}',
        "--lora-modules [1]",
    ],
)
def test_flags_that_vllm_refuses_are_refused_with_their_place(flags: str) -> None:
    with pytest.raises(ImportSourceError, match=r"^here, "):
        server_of(["vllm", "serve", "m", *flags.split(" ")], {}, "x", "here")


@pytest.mark.parametrize(
    "flags", ["--max-loras 0", "--max-loras 99999", "--block-size 7", "--watermark 1e999"]
)
def test_values_that_no_scenario_has_are_left_out_and_told(flags: str) -> None:
    server = server_of(["vllm", "serve", "m", *flags.split(" ")], {}, "x", "here")
    assert server is not None
    assert (dict(server.engine), len(server.notes)) == ({}, 1)
