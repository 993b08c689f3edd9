"""Scenarios, placements, results, parameters, exported settings."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import yaml

import optimizer
import scenarios
from scenarios.exporters.targets import targets
from tests.fuzzing.fuzzed import Fuzzed
from tests.fuzzing.judgement import commands, reads
from tests.optimizer.checking.plans import plan

SCENARIO = """\
name: fleet
model: llama-3.1-8b-instruct
adapters:
  - {name: chat, count: 3, rank: 16, rate: 0.8}
  - {name: team, count: 4, rank: [8, 24], rate: [0.3, 0.1]}
  - {name: tail, count: 5, rank: 32, rate: {zipf_total: 6, exponent: 1.1}, source: "/loras/{name}"}
  - name: maybe
    rank: 64
    rate: {low: 0.1, high: 0.4}
    service_levels: {ttft_ms: {p95: 900}}
    system_prompt: 100
    arrivals: {process: gamma, cv: 3}
    prompt: {distribution: fixed, tokens: 80}
workload:
  prompt: {mean: 250, std: 200, max: 2048}
  output: {distribution: histogram, edges: [1, 100, 200], weights: [1, 2]}
  arrivals: {process: on_off, on_s: 10, off_s: 30}
  duration_s: 600
service_levels: {ttft_ms: {p95: 2000}, itl_ms: {mean: 60}}
devices:
  - {name: H100-64GB, count: 16, price_per_hour: 3.0, memory_gib: 64}
engine: {max_num_seqs: 256, max_model_len: 8192, slots: [8, 16]}
objective: [gpus, ttft]
seed: 3
export: {name: fleet, port: 8000, hosts: [h1], user: vllm, image: "vllm/vllm-openai:v0.8.5"}
"""

PLAN = """\
model: meta-llama/Llama-3.1-8B-Instruct
engine_version: 0.10.0
engine: {max_num_seqs: 256, max_model_len: 8192}
export: {name: fleet, namespace: loras, image: "registry/vllm:v0.10.0", hosts: [h1, h2], user: vllm,
  adapters_bucket: "s3://weights/lora", storage_claim: weights, hub_secret: hub, gpu_resource: nvidia.com/gpu}
adapters:
  one: {source: /loras/one, served_name: fr-legal}
  two: {source: org/two}
gpus:
  - {gpu: 0, device: H100, max_loras: 4, max_lora_rank: 16, max_cpu_loras: 6, adapters: [one, two],
     shares: {two: 0.25}}
  - {gpu: 3, device: H100, max_loras: 2, max_lora_rank: 64, adapters: [two], shares: {two: 0.75}}
"""

PARAMS = """\
[packing.annealing]
moves_per_item = 300
schedules = [{hot = 0.1, cold = 0.001, length = 2}]

[gpus]
max_rounds = 60

[learning.design]
max_skew = 2.0
"""


def _exports(path: Path) -> None:
    """Every target's files of a plan, as far as a target can say it."""
    placement = scenarios.read_placement(path)
    for name in targets():
        with suppress(scenarios.ExportError):  # a target may have no word for what a plan says
            scenarios.export(placement, name)


def kinds() -> list[Fuzzed]:
    """All of them."""
    made = plan()
    assert made.placement is not None
    text = made.placement.model_dump_json(exclude_defaults=True)
    return [
        Fuzzed(
            "scenario",
            "fleet.yaml",
            SCENARIO.encode(),
            "yaml",
            reads(scenarios.read),
        ),
        Fuzzed(
            "scenario, the command",
            "fleet.yaml",
            SCENARIO.encode(),
            "yaml",
            commands(lambda path: ("scenarios", "check", str(path))),
            slow=10,
        ),
        Fuzzed("scenario as JSON", "s.json", _json(SCENARIO), "json", reads(scenarios.read)),
        Fuzzed("placement", "plan.yaml", PLAN.encode(), "yaml", reads(scenarios.read_placement)),
        Fuzzed("placement as JSON", "plan.json", text.encode(), "json", reads(scenarios.read_placement)),
        Fuzzed("result", "result.json", made.to_json().encode(), "json", reads(optimizer.read_result)),
        Fuzzed("exported settings", "export.yaml", PLAN.encode(), "yaml", reads(_exports)),
        Fuzzed(
            "params",
            "params.toml",
            PARAMS.encode(),
            "text",
            reads(lambda path: scenarios.read_params(path, optimizer.SolveParams)),
        ),
    ]


def _json(text: str) -> bytes:
    return json.dumps(yaml.safe_load(text)).encode()
