"""Small random workloads for schedulers, in which different things are scarce.

Nothing is imported that an environment of vLLM's may lack: `record_schedules` runs there.
"""

from __future__ import annotations

import random
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cache
from typing import Any

KINDS = ("plain", "cached", "async", "async_cached")
"""With prefix caching or not, with asynchronous scheduling or not."""

FAMILIES = {
    "slots": ("slots",),
    "blocks": ("blocks",),
    "slots_and_blocks": ("slots", "blocks"),
    "budget": ("budget",),
    "seats": ("seats", "slots"),
    "mixed": ("slots", "blocks", "budget", "seats"),
}
"""What is scarce in each family."""

N_REQUESTS = 50
VOCABULARY = 1 << 30
Row = tuple[float, int, int, int, int, int, int]
"""Arrival, prompt tokens, output tokens, adapter (0: base model), group, shared tokens, parent (or -1)."""

Workload = dict[str, Any]


def draw_workload(
    rng: random.Random, family: str, kind: str, version: str, offered: Container[str]
) -> Workload:
    """An engine, a latency and requests; everything that is not scarce is plentiful.

    Parameters
    ----------
    family, kind
        One of ``FAMILIES`` and of ``KINDS``.
    version, offered
        The version of vLLM, and which arguments its scheduler has.
    """
    scarce, caching = FAMILIES[family], "cached" in kind
    engine: dict[str, Any] = {
        "version": version,
        "max_loras": rng.choice([1, 2, 3]) if "slots" in scarce else 16,
        "max_num_seqs": rng.choice([4, 8, 16]) if "seats" in scarce else 128,
        "max_num_batched_tokens": rng.choice([128, 256, 512]) if "budget" in scarce else 2048,
        "num_blocks": rng.choice([100, 140, 200] if not caching else [140, 200, 300]) + 1
        if "blocks" in scarce
        else 3001,
        "block_size": 16,
        "max_model_len": 4096,
        "async_scheduling": "async" in kind,
        "enable_prefix_caching": caching,
    }
    if rng.random() < 0.4:
        engine["long_prefill_token_threshold"] = rng.choice([32, 48, 100])
    if "scheduler_reserve_full_isl" in offered and rng.random() < 0.25:
        engine["scheduler_reserve_full_isl"] = False
    if "watermark" in offered and "blocks" in scarce and rng.random() < 0.5:
        engine["watermark"] = rng.choice([0.02, 0.05])
    latency = {
        "base_s": rng.choice([0.008, 0.0105, 0.02]),
        "per_token_s": rng.choice([2e-5, 4.4e-5, 1e-4]),
        "per_adapter_s": rng.choice([0.0, 2e-4, 1e-3]),
    }
    rows = draw_requests(rng, engine, "blocks" in scarce, caching)
    requests = rows if caching else [row[:4] for row in rows]
    return {"engine": engine, "latency": latency, "requests": requests, "horizon_s": None}


def draw_requests(rng: random.Random, engine: dict[str, Any], crowded: bool, caching: bool) -> list[Row]:
    """Requests of popular and rare adapters, some at one instant; with caching also shared texts.

    If crowded they come fast and have long answers, so that blocks run out while they run.
    """
    rows: list[Row] = []
    now = 0.0
    adapters, rate, now = (
        rng.choice([4, 8, 20]),
        rng.choice([30.0, 60.0] if crowded else [4.0, 12.0, 30.0]),
        0.0,
    )
    popularity = [1 / (1 + k) for k in range(adapters)]
    room = (engine["num_blocks"] - 1) * engine["block_size"] // 3
    system = [rng.choice([0, 24, 100, 333, 700]) for _ in range(adapters + 1)]
    for number in range(N_REQUESTS):
        if not 20 <= number < 30:  # these ten arrive together
            now = round(now + rng.expovariate(rate), 6)
        adapter = 1 + rng.choices(range(adapters), popularity)[0]
        prompt = min(1000, room, max(1, int(rng.lognormvariate(4.5, 1.2))))
        output = min(150, room, max(1, int(rng.lognormvariate(4.0 if crowded else 3.0, 1.0))))
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
