"""Words of a command line are those that the release takes, switches that are off included.

LORAPACK_VLLM_SOURCES names a folder with RELEASE/vllm, the Python files of wheels of vLLM, and
LORAPACK_VLLM_PYTHON a Python with what they import: vLLM for CPUs, gguf and diskcache, and for releases 0.9
transformers 4.52.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scenarios.engine import EngineConfig
from scenarios.exporters.engine_flags import flags
from scenarios.exporters.flag_releases import AS_PAIRS, AS_WORD, ONE_WAY, RELEASES, has_argument, switch_form
from scenarios.exporters.servers import server_flags
from tests.scenarios.exporters.test_plain_targets import plan, text_of, vllm, words_of

SOURCES = Path(os.environ.get("LORAPACK_VLLM_SOURCES", "/nowhere"))
OF_NO_COMMAND = {"enable_chunked_prefill": None, "enable_lora": None}
"""Switches that a plan may not switch off."""
VALUES: dict[str, Any] = {
    "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
    "watermark": 0.01,
    "scheduling_policy": "fcfs",
    "scheduler_cls": "vllm.core.scheduler.Scheduler",
    "preemption_mode": "recompute",
    "kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"},
    "kv_offloading_backend": "native",
    "kv_cache_dtype_skip_layers": ("0", "1"),
    "mamba_cache_dtype": "auto",
    "mamba_ssm_cache_dtype": "auto",
    "mamba_cache_mode": "align",
    "mamba_block_size": 16,
    "offload_backend": "auto",
    "limit_mm_per_prompt": {"image": 2},
    "cudagraph_capture_sizes": (1, 2, 4),
    "compilation_config": {"cudagraph_capture_sizes": [1, 2]},
    "performance_mode": "balanced",
    "attention_backend": "FLASH_ATTN",
    "moe_backend": "auto",
    "linear_backend": "auto",
    "all2all_backend": "allgather_reducescatter",
    "distributed_executor_backend": "mp",
    "model_impl": "auto",
    "lora_extra_vocab_size": 256,
    "lora_target_modules": ("q_proj", "v_proj"),
    "num_gpu_blocks_override": 1000,
    "kv_cache_dtype": "fp8",
    "lora_dtype": "bfloat16",
    "cpu_offload_gb": 2.0,
    "quantization": "fp8",
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
}


def every_argument(*, on: bool) -> dict[str, Any]:
    """A value for every argument: of switches one, of numbers 1."""
    values = {}
    for name, field in EngineConfig.model_fields.items():
        if name in VALUES:
            values[name] = VALUES[name]
        elif field.annotation in (bool, bool | None):
            values[name] = on or name in OF_NO_COMMAND
        elif field.default is None and name not in ("max_loras", "max_lora_rank", "max_cpu_loras"):
            values[name] = 1
    return values


@pytest.mark.parametrize(
    ("name", "release", "words"),
    [
        ("enforce_eager", "0.8.5", []),
        ("enforce_eager", "0.9.0", ["--no-enforce-eager"]),
        ("enforce_eager", None, ["--no-enforce-eager"]),
        ("disable_custom_all_reduce", "0.8.4", []),
        ("disable_custom_all_reduce", "0.8.5.post1", ["--no-disable-custom-all-reduce"]),
        ("disable_async_output_proc", "0.10.2", []),
        ("enable_prompt_adapter", "0.8.5", []),
        ("enable_prefix_caching", "0.8.0", ["--no-enable-prefix-caching"]),
        ("disable_chunked_mm_input", "0.8.4", ["--disable-chunked-mm-input=false"]),
        ("disable_chunked_mm_input", "0.8.5", ["--no-disable-chunked-mm-input"]),
    ],
)
def test_a_switch_that_is_off_is_said_as_its_release_takes_it(
    name: str, release: str | None, words: list[str]
) -> None:
    assert list(flags({name: False}, release)) == words


def test_a_switch_that_is_on_is_named_in_every_release() -> None:
    for name in (*ONE_WAY, "enable_prefix_caching"):
        assert list(flags({name: True}, "0.8.0")) == [f"--{name.replace('_', '-')}"]
    assert list(flags({"enable_chunked_prefill": True}, "0.8.0")) == ["--enable-chunked-prefill=true"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ('{"image": 2, "video": 1}', "image=2,video=1"),
        ({"image": 2}, "image=2"),
        ('{"image": {"count": 2}}', '{"image": {"count": 2}}'),
        ('{"image": true}', '{"image": true}'),
        ("image=2", "image=2"),
        ("3", "3"),
    ],
)
def test_limits_of_pictures_are_pairs_before_they_are_json(given: object, word: str) -> None:
    assert list(flags({"limit_mm_per_prompt": given}, "0.8.4")) == ["--limit-mm-per-prompt", word]
    later = given if isinstance(given, str) else json.dumps(given)
    assert list(flags({"limit_mm_per_prompt": given}, "0.8.5")) == ["--limit-mm-per-prompt", later]


def test_tables_of_switches_name_arguments_of_ours() -> None:
    known = EngineConfig.model_fields.keys()
    assert {*ONE_WAY, *AS_WORD, *AS_PAIRS, *RELEASES} <= known | {"enable_lora"}
    assert switch_form("enable_prefix_caching", "0.8.0") == "either"


def test_a_script_for_an_old_release_has_no_switch_that_it_refuses() -> None:
    deployment = plan(version="0.8.5", enable_sleep_mode=False, disable_cascade_attn=False)
    words = words_of(text_of(vllm.export(deployment), "serve-g0.sh"))
    assert not [word for word in words if word.startswith("--no-")]
    newer = plan(version="0.9.0", enable_sleep_mode=False, disable_cascade_attn=False)
    assert {"--no-enable-sleep-mode", "--no-disable-cascade-attn"} <= set(
        server_flags(newer.groups[0], newer)
    )


@pytest.mark.parametrize(("release", "held"), [("0.8.5", False), ("0.9.0", True), (None, True)])
def test_a_resolver_is_used_where_the_release_has_one(release: str | None, held: bool) -> None:
    export = vllm.export(plan(version=release))
    assert bool(export.links) == held
    assert any(file.path == "serve-resolver-g0.sh" for file in export.files) == held
    assert any("does not know" in one for one in export.lost) != held


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser
except ImportError:
    from vllm.utils import FlexibleArgumentParser
import vllm
assert vllm.__file__.startswith(sys.argv[1]), vllm.__file__
print("IMPORTED")
parser = make_arg_parser(FlexibleArgumentParser())
for words in json.load(sys.stdin):
    read = vars(parser.parse_args(words))
    print("READ", json.dumps({k: v for k, v in read.items() if isinstance(v, bool | int | float | str)}))
"""


def releases() -> list[str]:
    """Releases whose sources lie at RELEASE/vllm, from 0.8.0 on."""
    found = [path.parent.name for path in SOURCES.glob("*/vllm") if path.parent.name[0].isdigit()]
    parts = {name: tuple(map(int, name.split("."))) for name in found}
    return sorted((name for name in found if parts[name] >= (0, 8)), key=parts.__getitem__)


def read_by(python: str, folder: Path, lines: list[list[str]]) -> list[Mapping[str, Any]]:
    command = [python, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, check=False)
    if "IMPORTED" not in done.stdout:
        pytest.skip(f"its modules do not import there: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("READ ")]


@pytest.mark.skipif("LORAPACK_VLLM_PYTHON" not in os.environ, reason="names a Python that has vLLM")
@pytest.mark.skipif(not SOURCES.is_dir(), reason="LORAPACK_VLLM_SOURCES: folder of releases of vLLM")
@pytest.mark.parametrize("release", releases())
def test_the_parser_of_a_release_takes_every_argument(release: str, tmp_path: Path) -> None:
    (tmp_path / "vllm").symlink_to(SOURCES / release / "vllm")  # alone, without its metadata
    lines, given = [], []
    for on in (True, False):
        values = every_argument(on=on)
        deployment = plan(version=release, settings={"gpus_per_host": 8, "image": "x"}, **values)
        words = words_of(text_of(vllm.export(deployment), "serve-g0.sh"))
        lines.append([f"--model={words[2]}", *words[3:]])
        given.append({name: value for name, value in values.items() if isinstance(value, bool)})
    for values, read in zip(given, read_by(os.environ["LORAPACK_VLLM_PYTHON"], tmp_path, lines), strict=True):
        assert (read["max_loras"], read["max_lora_rank"], read["max_cpu_loras"]) == (4, 16, 6)
        held = {name: value for name, value in values.items() if has_argument(name, release)}
        assert {name: bool(read.get(name)) for name in held} == held
