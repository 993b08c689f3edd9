"""Replay of recorded schedules: the same workload through the twin's scheduler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twin.loop import run
from twin.requests import Requests
from twin.setup import EngineSetup, SchedulerRules, StepTables


def replay(schedule: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    d: Mapping[str, Any] = json.loads(Path(schedule).read_text()) if isinstance(schedule, str | Path) else schedule
    e, l, R = d["engine"], d["latency"], d["requests"]
    a = np.array([r[3] for r in R], np.int32)
    rq = Requests(np.array([r[0] for r in R], float), np.array([r[1] for r in R], np.int32), np.array([r[2] for r in R], np.int32), a, int(a.max()) + 1)
    T = e["max_num_batched_tokens"]
    n = max(rq.n_adapters, e["max_loras"])
    tb = StepTables(l["base_s"] + l["per_token_s"] * np.arange(T + 1), l["per_adapter_s"] * np.arange(n + 1), np.zeros(n + 1))
    new = not e["version"].startswith("0.8")
    s = EngineSetup(e["max_loras"], n, e["max_num_seqs"], T, e.get("long_prefill_token_threshold", 0), e["block_size"], e["num_blocks"] - 1, SchedulerRules(reserve_full_isl=e.get("scheduler_reserve_full_isl", False), watermark=e.get("watermark", 0), lone_request_ignores_threshold=new), tb, np.zeros(n), np.zeros(n))
    rec = run(rq, s, record_steps=True)
    rows = [[r[0], *map(int, r[1:])] for r in rec.steps.tolist()]
    return {**d, "result": {"ttft_s": (rec.first_token_s - rq.arrival_s).tolist(), "finish_s": rec.finish_s.tolist(), "preemptions": rec.preemptions.tolist(), "steps": {"columns": d["result"]["steps"]["columns"], "rows": rows}}}
