"""Plans of servers of the tests, and profiles that foretell how those behave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scenarios
import twin
from optimizer import Result
from scenarios import PlacedGPU, Placement, described
from twin.profile import Frontend, Uncertainty
from twin.step_cost import CostTerm, LoadCost, StepCost

STEP_S = 0.02
"""Seconds of a step of the servers; a step costs nothing else."""

SLOTS = 8
"""Requests that they run at once."""


def constant_profile(folder: Path, step_s: float = STEP_S, residual: float | None = None) -> Path:
    """Write a profile whose steps take the same time whatever is in them."""
    shipped = twin.find_profile("llama-3.1-8b-instruct", None)
    profile = shipped.model_copy(
        update={
            "name": "constant",
            "step": StepCost(terms=(CostTerm(name="step", seconds=step_s),)),
            "loads": LoadCost(gpu_s=0.0, gpu_padding_s=0.0, disk_s=0.0, disk_rank_s=0.0),
            "frontend": Frontend(),
            "uncertainty": Uncertainty(residual_share=residual),
            "engine_version": "0.32.0",
        }
    )
    twin.write_profile(profile, folder / "constant.json")
    return folder / "constant.json"


def planned(
    folder: Path,
    *,
    gpus: int = 1,
    rate: float = 6.0,
    adapters: int = 4,
    base: bool = False,
    residual: float | None = None,
    **changes: Any,
) -> Result:
    """A result whose GPUs have so many adapters each, of so many requests per second."""
    entries: list[dict[str, Any]] = [
        {"name": f"g{g}", "count": adapters, "rank": 8, "rate": rate} for g in range(gpus)
    ]
    if base:
        entries.append({"name": "plain", "rate": rate})
    values: dict[str, Any] = {
        "name": "small",
        "model": "llama-3.1-8b-instruct",
        "adapters": entries,
        "workload": {"prompt": 12, "output": 8, "duration_s": 3.0},
        "devices": [
            {"name": "H100-64GB", "count": gpus, "profile": str(constant_profile(folder, residual=residual))}
        ],
        "engine": {"max_num_seqs": SLOTS, "max_model_len": 2048, "max_loras": adapters, "max_lora_rank": 8},
        "service_levels": {"patience_s": 1.0, "late_share": 0.05},
        **changes,
    }
    scenario = scenarios.from_mapping(values)
    names = [entry.names() for entry in scenario.adapters]
    placed = [
        PlacedGPU(
            gpu=g,
            device="H100-64GB",
            max_loras=adapters,
            max_lora_rank=8,
            max_cpu_loras=adapters,
            adapters=(*names[g], *(("plain",) if base and g == 0 else ())),
        )
        for g in range(gpus)
    ]
    placement = described(Placement(gpus=tuple(placed)), scenario, "0.32.0")
    return Result(
        status="feasible",
        stop_reason="finished",
        message="made by hand",
        method="by hand",
        objectives=("gpus",),
        objective=float(gpus),
        bound=None,
        gap=None,
        gpus=gpus,
        placement=placement,
        validation=None,
        iterations=0,
        cuts=0,
        seconds=0.0,
        seed=0,
        version="0",
        scenario=scenario,
    )
