"""A small model on a small machine, whose step cost is known, and what minutes measure of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scenarios import EngineConfig, HistogramLengths
from twin import EngineProfile, Requests
from twin.architectures import read_architecture
from twin.engine.records import SERIES
from twin.engine.rules import rules_of
from twin.engine.run import simulate_requests
from twin.measured.client_view import client_view
from twin.measured.replayed import run_setup
from twin.measured.runs import RecordedRun
from twin.measured.sent_requests import write_requests
from twin.memory import memory_model
from twin.profile import Frontend, Provenance, ServedLengths
from twin.step_cost import CostTerm, LoadCost, StepCost

MODEL = "tiny-llama"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}

ENGINE = EngineConfig(
    max_model_len=2048,
    max_num_seqs=64,
    max_num_batched_tokens=2048,
    block_size=32,
    kv_cache_memory_bytes=2**30,
    async_scheduling=False,
)

# Knots that are none of the fit's, and a price of tokens that falls, as matrices become worth their while.
TRUTH = StepCost(
    terms=(
        CostTerm(name="step", seconds=5e-3),
        CostTerm(name="lora", seconds=1.5e-3, lora=True),
        CostTerm(name="tokens_0_12", seconds=1e-3, tokens_above=0, tokens_cap=12),
        CostTerm(name="tokens_12", seconds=2.2e-4, tokens_above=12),
        CostTerm(name="adapters", seconds=1.3e-3, lora=True, adapters_power=1),
        CostTerm(name="decode", seconds=1.5e-4, per="decode"),
        CostTerm(name="context", seconds=8e-7, per="context"),
        CostTerm(name="waiting", seconds=2e-5, per="waiting"),
    )
)

LOADS = LoadCost(gpu_s=0.008, gpu_padding_s=0.002, disk_s=0.05, disk_rank_s=0.001)

ADAPTERS, RANKS = 16, (8, 16, 32)
KV_TOKENS = 262_144


def truth(folder: Path, step: StepCost = TRUTH) -> EngineProfile:
    """The engine behind the measurements."""
    config = folder / "config.json"
    config.write_text(json.dumps(CONFIG))
    shape = HistogramLengths(edges=(1, 64, 512), weights=(3, 1))
    return EngineProfile(
        name="truth",
        model=MODEL,
        device="CPU",
        gpu_memory_gib=4.0,
        engine_version="0.32.0",
        rules=rules_of("0.32.0").scheduling(False),
        measured=ENGINE,
        memory=memory_model(read_architecture(config, MODEL), "0.32.0"),
        step=step,
        loads=LOADS,
        frontend=Frontend(first_token_s=0.004),
        lengths=ServedLengths(prompt=shape, output=shape, max_total_tokens=2048),
        provenance=Provenance(source="known", command="none", runs=0, probes=0),
    )


@dataclass(frozen=True)
class Stage:
    """One run: what is sent, to an engine with so many slots."""

    name: str
    requests: Requests
    group: str
    seconds: float = math.inf
    slots: int = 4
    rank: int = 32


def lengths(rng: np.random.Generator, n: int, mean: float, most: int) -> np.ndarray:
    """Lengths with a long tail."""
    drawn = rng.lognormal(math.log(mean) - 0.5 * 0.8**2, 0.8, n)
    return np.clip(np.ceil(drawn), 1, most).astype(np.int32)


def mixed(
    rate: float, seconds: float, seed: int, prompt: float = 64, output: float = 24, skew: float = 1.0
) -> Requests:
    """Requests at Poisson's instants, of adapters of which the k-th is asked for as 1/k**skew."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(rate * seconds)
    shares = 1 / np.arange(1, ADAPTERS + 1) ** skew
    return Requests(
        arrival_s=np.sort(rng.random(n)) * seconds,
        prompt_tokens=lengths(rng, n, prompt, 700),
        output_tokens=lengths(rng, n, output, 300),
        adapter=rng.choice(ADAPTERS, n, p=shares / shares.sum()).astype(np.int32),
        n_adapters=ADAPTERS,
    )


def in_flight(batch: int, turns: int, adapters: int, prompt: int = 32, output: int = 40) -> Requests:
    """So many clients, each of which sends its next request when it has the answer."""
    n = batch * turns
    which = np.arange(n, dtype=np.int32)
    return Requests(
        arrival_s=np.zeros(n),
        prompt_tokens=np.full(n, prompt, dtype=np.int32),
        output_tokens=np.full(n, output, dtype=np.int32),
        adapter=(which % batch % adapters).astype(np.int32),
        n_adapters=ADAPTERS,
        follows=np.where(which < batch, -1, which - batch).astype(np.int32),
    )


def played(stage: Stage, engine: EngineProfile, factor: float = 1.0) -> dict[str, object]:
    """The row of a stage as measured on an engine whose steps all take so many times as long."""
    run = recorded(stage, stage.seconds)
    terms = tuple(term.model_copy(update={"seconds": term.seconds * factor}) for term in engine.step.terms)
    slower = engine.model_copy(update={"step": StepCost(terms=terms)})
    records = simulate_requests(stage.requests, run_setup(run, slower), stage.seconds)
    seconds = min(stage.seconds, records.end_s)
    view, done = client_view(records, engine.frontend), records.finished
    tokens = (records.requests.prompt_tokens + records.requests.output_tokens)[done].sum()
    sums = dict(zip(SERIES, records.series.sum(axis=0) / seconds, strict=True))
    return known(stage, seconds) | {
        "total_throughput": tokens / seconds,
        "itl_mean_ms": 1e3 * view.itl_s,
        "tpot_mean_ms": 1e3 * view.tpot_s,
        "ttft_mean_ms": 1e3 * view.ttft_s,
        "running_mean": sums["running_s"],
        "waiting_mean": sums["waiting_s"],
        "kv_usage_mean": sums["blocks_s"] / (KV_TOKENS // 32),
        "starved": False,
    }


def recorded(stage: Stage, seconds: float) -> RecordedRun:
    """A stage as a run whose requests are known."""
    return RecordedRun(**known(stage, min(seconds, 3600.0)), recorded=stage.requests)  # type: ignore[arg-type]


def known(stage: Stage, seconds: float) -> dict[str, object]:
    """What was asked of a stage."""
    return {
        "run_id": stage.name,
        "model": MODEL,
        "group": stage.group,
        "max_loras": stage.slots,
        "n_adapters": ADAPTERS,
        "max_lora_rank": stage.rank,
        "rates": f"{len(stage.requests) / seconds / ADAPTERS:.6f}",
        "sizes": ";".join(map(str, RANKS)),
        "total_time_s": seconds,
        "drained": stage.seconds == math.inf,
        "kv_cache_tokens": KV_TOKENS,
        "warm": True,
        "status": "ok",
        "quality": "clean",
    }


def probe(
    engine: EngineProfile,
    tokens: int,
    decodes: int,
    each: float,
    adapters: int,
    weight: float,
    factor: float,
    slots: int = 4,
) -> dict[str, object]:
    """A step of known composition."""
    step = engine.step.tables(slots, 32, 2048, ADAPTERS)
    seconds = (
        step.token_s[tokens]
        + step.adapter_s[adapters]
        + step.adapter_token_s[adapters] * tokens
        + step.decode_s * decodes
        + step.prefill_s * (tokens - decodes)
        + step.prompts_s * (tokens > decodes)
        + step.context_s * decodes * each
    )
    return {
        "model": MODEL,
        "step_ms": 1e3 * factor * seconds,
        "batched_tokens": tokens,
        "decodes": decodes,
        "context_tokens": decodes * each,
        "n_adapters": adapters,
        "n_served": ADAPTERS,
        "max_loras": slots,
        "max_lora_rank": 32,
        "weight": weight,
    }


DESCRIPTION = """\
device: CPU
gpu_memory_gib: 4
engine_version: "0.32.0"
source: simulated
engine:
  max_model_len: 2048
  max_num_seqs: 64
  max_num_batched_tokens: 2048
  block_size: 32
  kv_cache_memory_bytes: 1073741824
  async_scheduling: false
"""


def write_folder(
    folder: Path,
    rows: Sequence[dict[str, object]],
    stages: Sequence[Stage],
    probes: Sequence[dict[str, object]],
) -> None:
    """What a measurement leaves."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "measurement.yaml").write_text(DESCRIPTION)
    (folder / "requests").mkdir(exist_ok=True)
    for stage in stages:
        write_requests(stage.requests, folder / "requests" / f"{stage.name}.csv")
    runs = pd.DataFrame(rows).assign(requests_file=[f"requests/{stage.name}.csv" for stage in stages])
    runs.to_csv(folder / "serving_runs.csv", index=False)
    pd.DataFrame(probes).to_csv(folder / "probes.csv", index=False)
    loads = [(8, 10.0, 58.0), (16, 10.0, 66.0), (32, 8.0, 82.0)]
    table = pd.DataFrame(loads, columns=["adapter_rank", "cpu_to_gpu_ms", "disk_to_cpu_ms"])
    table.assign(model=MODEL, max_lora_rank=32).to_csv(folder / "adapter_loads.csv", index=False)
    bins = [
        (kind, low, high, weight)
        for kind in ("prompt", "output")
        for low, high, weight in ((1, 64, 3), (64, 512, 1))
    ]
    table = pd.DataFrame(bins, columns=["kind", "bin_lo", "bin_hi", "count"]).assign(model=MODEL)
    table.to_csv(folder / "length_histograms.csv", index=False)
    means = {
        "model": MODEL,
        "prompt_tokens": 64,
        "output_tokens": 24,
        "served_tokens": 24,
        "max_total_tokens": 2048,
    }
    pd.DataFrame([means]).to_csv(folder / "length_means.csv", index=False)


def measure(
    folder: Path,
    engine: EngineProfile,
    slots: Sequence[int],
    noise: float,
    seed: int = 0,
    logged: bool = False,
) -> None:
    """What a quarter of an hour leaves: three loads of a minute, and batches and prompts one by one.

    Every run is off by a factor of its own, and every probe by one twice as wide.

    Parameters
    ----------
    folder
        Where to.
    engine
        The engine.
    slots
        Adapter slots of the servers that are measured.
    noise
        Standard deviation of the logarithm of a run's factor.
    seed
        Of the noise.
    logged
        Whether the server logged its steps: of prompts and requests that decode together, and one of the base
        model.
    """
    rng = np.random.default_rng(seed)
    rates = {4: (2, 8, 13), 16: (3, 13, 22)}
    stages, probes = [], []
    for n in slots:
        stages += [
            Stage(f"open{rate}_{n}", mixed(rate, 60, 7 * rate + n), f"open{rate}", 60, n) for rate in rates[n]
        ]
        if len(slots) == 1:
            stages += [Stage(f"batch{b}_{n}", in_flight(b, 10, 4), "batch", slots=n) for b in (4, 32)]
        batches = [(b, 52, 1) for b in (1, 2, 4, 8, 16, 32, 64)] + [(b, 520, 1) for b in (1, 8, 32)]
        batches += [(b, 52, a) for b in (16, 64) for a in (2, 4, 8, 16) if a <= n]
        probes += [
            probe(engine, b, b, each, a, 1.0, math.exp(rng.normal(0, 2 * noise)), n) for b, each, a in batches
        ]
        probes += [
            probe(engine, t, 0, 0, 1, 1.0, math.exp(rng.normal(0, 2 * noise)), n)
            for t in (16, 32, 64, 128, 256, 512, 1024, 2048)
        ]
        if logged:
            both = [(b, p, a) for b in (1, 4, 16, 32) for p in (32, 96) for a in (1, n)]
            of_log = [(b + p, b, 52, min(b + p // 32, a)) for b, p, a in both] + [(1, 1, 52, 0)]
            probes += [
                probe(engine, t, b, each, a, 1.0, math.exp(rng.normal(0, 2 * noise)), n)
                for t, b, each, a in of_log
            ]
    rows = [played(stage, engine, math.exp(rng.normal(0, noise))) for stage in stages]
    write_folder(folder, rows, stages, probes)


def others() -> list[Stage]:
    """Runs that no measurement holds: other loads, lengths, slots and batches, near saturation too."""
    asked = [(3, 4, 64, 24), (9, 4, 64, 24), (4, 4, 200, 16), (3, 4, 32, 80), (14, 8, 64, 24)]
    asked += [(20, 16, 64, 24)]
    stages = [
        Stage(f"{rate}_{slots}_{prompt}", mixed(rate, 90, 100 + k, prompt, output, 0.7), "", 90, slots)
        for k, (rate, slots, prompt, output) in enumerate(asked)
    ]
    return [*stages, Stage("24 in flight", in_flight(24, 10, 8), "", slots=8)]
