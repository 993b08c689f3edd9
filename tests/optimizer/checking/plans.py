"""A plan of two GPUs, runs of the twin as of servers that play it, and their metrics in files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import optimizer
import scenarios
from scenarios import PlacedGPU, Placement, Scenario
from tests.optimizer.checking.engine_metrics import vllm_text
from twin import PlacementJudge, SimulationResult, TwinJudge, profiles_of, simulate

SLOTS = 8
SECONDS = 120.0
AT_S = 900.0
"""When servers are read first, and for how long."""


@cache
def scenario(*changes: str) -> Scenario:
    """12 adapters, and the base model."""
    lengths = {"mean": 200, "std": 100, "min": 1, "max": 1000}
    adapters: list[dict[str, object]] = [
        {"name": f"team-{k}", "rank": 8, "rate": 0.5, "served_name": f"team {k}"} for k in range(1, 13)
    ]
    adapters.append({"name": "chat", "rank": 0, "rate": 1.0})
    root = {
        "name": "teams",
        "model": "llama-3.1-8b-instruct",
        "adapters": adapters,
        "workload": {"prompt": lengths, "output": lengths},
        "devices": "H100-64GB",
        "export": {"served_model_name": "base"},
    }
    return scenarios.from_mapping(root, changes)


@cache
def plan(*changes: str) -> optimizer.Result:
    """GPU 0 has half of the adapters, GPU 1 the others and the base model, on engines of few slots."""
    names = [f"team-{k}" for k in range(1, 13)]
    gpus = [
        PlacedGPU(
            gpu=number,
            device="H100-64GB",
            max_loras=SLOTS,
            max_lora_rank=8,
            max_cpu_loras=SLOTS,
            adapters=tuple(held),
        )
        for number, held in enumerate((names[:6], [*names[6:], "chat"]))
    ]
    return optimizer.Result(
        status="feasible", stop_reason="finished", message="made by hand", method="by-hand",
        objectives=("gpus",), objective=2, bound=None, gap=None, gpus=2,
        placement=Placement(gpus=tuple(gpus)),
        validation=None, iterations=0, cuts=0, seconds=0.0, seed=0, version="0", scenario=scenario(*changes),
    )  # fmt: skip


@cache
def run_of(gpu: int, times: float = 1.0, seed: int = 11, *changes: str) -> SimulationResult:
    """A server of GPU 0 or 1 that gets so many times the requests."""
    result = plan(*changes)
    assert result.placement is not None
    profiles = profiles_of(result.scenario)
    placed = result.placement.gpus[gpu]
    content, _ = PlacementJudge(TwinJudge(result.scenario, profiles)).content(placed)
    return simulate(
        content.load.scaled(times),
        result.scenario.workload,
        result.scenario.engine,
        profiles["H100-64GB"],
        max_loras=placed.max_loras,
        max_lora_rank=placed.max_lora_rank,
        max_cpu_loras=placed.max_cpu_loras,
        seed=seed,
        duration_s=AT_S + SECONDS + 60,
        sustained=True,
        series_bins=500,
    )


def names_of(gpu: int) -> list[str]:
    """Served names of the adapters in the order of a run; none for the base model, which comes last."""
    return [f"team {k + 6 * gpu}" for k in range(1, 7)] + ([""] if gpu else [])


def texts(gpu: int, times: float = 1.0, **changes: object) -> list[str]:
    """Two readings of a server."""
    told = {"names": names_of(gpu), "slots": SLOTS, "since_s": AT_S, **changes}
    run = run_of(gpu, times)
    return [vllm_text(run, at, **told) for at in (AT_S, AT_S + SECONDS)]  # type: ignore[arg-type]


def files(folder: Path, gpu: int, times: float = 1.0, **changes: object) -> list[Path]:
    """Two readings of a server in files."""
    paths = [folder / f"gpu{gpu}-{k}.prom" for k in (1, 2)]
    for path, text in zip(paths, texts(gpu, times, **changes), strict=True):
        path.write_text(text)
    return paths
