"""Computed against measured GPU memory: KV capacity, its parts, and which engines start.

    python -m benchmarks.memory_fidelity [--measurements FOLDER] [--field FOLDER]

Three tables. *engines*: 1,222 engines on an H100 of 64 GB (``--measurements`` holds memory_probes.csv,
memory_observations.csv and serving_runs.csv, or the same as .csv.gz). *logs*: public start-up logs of other
GPUs, models and releases, and *starts*: 41 starts on an H100 of 80 GB beside the figures of another planner
(``--field`` holds a folder with a case.yaml for each log, and memory_h100_80.csv). Real starts of vLLM's CPU
build, which is told the size of its cache, are checked by ``benchmarks/cpu_starts.py``.

Takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scenarios import EngineConfig
from twin.architectures import ModelArchitecture, find_architecture
from twin.measured.measurement import table_file
from twin.memory import MemoryPlan, memory_model, plan_memory

GPU_MEMORY_GIB = 63.43
MEASURED = Path(__file__).parent / "measured"
TABLES = ("memory_probes", "memory_observations", "serving_runs")
STARTS = "memory_h100_80.csv"

STARTED = ("ok", "started")
FAILURES = {
    "kv_below_max_model_len": "kv_below_max_model_len",
    "no_kv_memory": "no_kv_memory",
    "oom_cuda": "oom_cuda",
    "oom_sampler_warmup": "oom_cuda",
}

V1_BY_HAND = {"12": True}
"""Engines that were not the default of their release, by the number of their log."""


def file_of(folder: Path, name: str) -> Path | None:
    """The file of a table in a folder, or in its ``parts``."""
    return table_file(folder, name) or table_file(folder / "parts", name)


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a folder, which `main` found there."""
    file = file_of(folder, name)
    assert file is not None
    return pd.read_csv(file)


def read_measured(folder: Path) -> pd.DataFrame:
    """Measured engines: arguments, KV capacity where there is one, and failure (empty where it started).

    Interrupted probes keep their KV capacity, without an outcome. Left out are engines that shared their GPU
    with another process, failures of the infrastructure, and rows that say nothing of memory.
    """
    probes, observations, runs = (read_table(folder, name) for name in TABLES)
    probes = probes.rename(columns={"status": "outcome"})
    probes = probes.assign(table="memory_probes", lora=1, max_num_seqs=2048)
    observations = observations.assign(table="memory_observations")
    runs = runs.rename(columns={"status": "outcome"})
    told = runs["outcome"].isin([*STARTED, *FAILURES])
    shared = runs["quality"].isin(["reduced_kv_foreign_memory", "port_collision"])
    runs = runs[told & ~shared].assign(table="serving_runs", lora=1, max_num_seqs=2048)
    runs["max_model_len"] = runs["model"].map(lambda model: 131072 if "llama" in model else 32768)
    table = pd.concat([probes, observations, runs], ignore_index=True)
    table["failure"] = table["outcome"].map({**FAILURES, **dict.fromkeys(STARTED, "")})
    known = table["max_num_seqs"].notna() & table["max_model_len"].notna()
    says = table["failure"].notna() | table["kv_cache_tokens"].notna()
    columns = ["table", "model", "lora", "max_loras", "max_lora_rank", "max_num_seqs", "max_model_len"]
    return table.loc[known & says, [*columns, "kv_cache_tokens", "kv_available_gib", "failure"]]


def compare(folder: Path) -> pd.DataFrame:
    """The measured engines, each with what is computed for it and the error of its KV capacity in percent."""
    table = read_measured(folder)
    plans = []
    for row in table.to_dict("records"):
        engine = EngineConfig(max_num_seqs=int(row["max_num_seqs"]), max_model_len=int(row["max_model_len"]))
        slots, rank = (int(row["max_loras"]), int(row["max_lora_rank"])) if row["lora"] else (0, 0)
        memory = memory_model(find_architecture(row["model"]))
        plans.append(plan_memory(memory, engine, GPU_MEMORY_GIB, slots, rank))
    table["computed_tokens"] = [plan.kv_cache_tokens for plan in plans]
    table["computed_gib"] = [plan.kv_gib for plan in plans]
    table["computed_failure"] = [plan.failure or "" for plan in plans]
    tokens = (table["computed_tokens"] / table["kv_cache_tokens"] - 1) * 100
    # An engine that refused to start for too small a KV cache printed its GiB instead of its tokens.
    table["error_percent"] = tokens.fillna((table["computed_gib"] / table["kv_available_gib"] - 1) * 100)
    return table


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Per table and model: engines, median and worst error of the KV capacity, outcomes that are right."""
    lines = []
    for (source, model), rows in table.groupby(["table", "model"], sort=True):
        judged = rows[rows["failure"].notna()]
        error = rows["error_percent"].abs()
        lines.append(
            {
                "table": source,
                "model": model,
                "engines with KV": int(error.notna().sum()),
                "median error %": error.median(),
                "worst error %": error.max(),
                "outcomes": len(judged),
                "right": int((judged["failure"] == judged["computed_failure"]).sum()),
            }
        )
    return pd.DataFrame(lines)


def plan_of_log(case: dict[str, Any], number: str) -> MemoryPlan:
    """What is computed for a public start-up log."""
    model = case["model"]
    architecture = (
        find_architecture(model)
        if isinstance(model, str)
        else ModelArchitecture.model_validate({"name": number, **model})
    )
    memory = memory_model(architecture, str(case["vllm"]), case.get("weights_gib"), v1=V1_BY_HAND.get(number))
    engine = EngineConfig(**case["engine"])
    return plan_memory(memory, engine, case["gpu_gib"], case["max_loras"], case["max_lora_rank"])


def compare_logs(folder: Path) -> pd.DataFrame:
    """Public start-up logs: measured and computed weights, graphs, KV tokens and outcome."""
    lines = []
    for file in sorted(folder.glob("*/case.yaml")):
        case = yaml.safe_load(file.read_text(encoding="utf-8"))
        measured, plan = case["measured"], plan_of_log(case, file.parent.name[:2])
        tokens = measured.get("kv_tokens")
        lines.append(
            {
                "log": file.parent.name[:24],
                "vLLM": case["vllm"],
                "loaded": measured.get("loaded_gib"),
                "computed": plan.weights_gib + plan.slots_gib,
                "graphs": measured.get("graph_gib"),
                "graphs computed": plan.graph_gib,
                "KV tokens": tokens,
                "error %": None if tokens is None else (plan.kv_cache_tokens / tokens - 1) * 100,
                "starts": measured["starts"],
                "computed ": plan.failure or True,
            }
        )
    return pd.DataFrame(lines)


def compare_starts(file: Path) -> pd.DataFrame:
    """Starts on an H100 of 80 GB: error of each part in GiB, of weights and KV tokens in percent."""
    lines = []
    for row in pd.read_csv(file).to_dict("records"):
        if row["status"] != "ok":
            continue
        plan = _plan_of_start(row)
        mine, theirs = plan.kv_cache_tokens / row["kv_cache_tokens"] - 1, row["llm_d_planner_kv_tokens"]
        lines.append(
            {
                "model": row["model"].split("/")[-1][:34],
                "TP": int(row["tp"]),
                "PP": int(row["pp"]),
                "kind": _kind(row),
                "weights %": (plan.weights_gib / row["weight_memory_gib"] - 1) * 100,
                "activation": plan.activation_gib - row["activation_memory_gib"],
                "graphs": plan.graph_gib - row["cuda_graph_actual_gib"],
                "KV GiB": plan.kv_gib - row["kv_cache_memory_gib"],
                "KV tokens %": mine * 100,
                "other planner %": (theirs / row["kv_cache_tokens"] - 1) * 100,
                "starts": plan.starts,
            }
        )
    return pd.DataFrame(lines)


def _plan_of_start(row: dict[str, Any]) -> MemoryPlan:
    quantized = row["quantization"] == "fp8"
    engine = EngineConfig(
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        max_model_len=int(row["max_model_len"]),
        gpu_memory_utilization=row["gpu_memory_utilization"],
        tensor_parallel_size=int(row["tp"]),
        pipeline_parallel_size=int(row["pp"]),
        dtype=row["dtype"].removeprefix("torch."),
        quantization="fp8" if quantized else None,
        kv_cache_dtype=row["kv_cache_dtype"],
    )
    memory = memory_model(find_architecture(row["model"]), row["vllm"])
    return plan_memory(memory, engine, row["init_total_memory_gib"], 0, 0)


def _kind(row: dict[str, Any]) -> str:
    words = [str(row["vllm"])[:4], row["dtype"].removeprefix("torch.").replace("bfloat16", "")]
    words += ["" if pd.isna(row["quantization"]) else row["quantization"]]
    words += ["" if row["kv_cache_dtype"] == "auto" else f"kv {row['kv_cache_dtype']}"]
    return " ".join(word for word in words if word)


def show_engines(folder: Path) -> None:
    """Print the table of measured engines."""
    table = compare(folder)
    print("== engines")
    print(summarise(table).to_string(index=False, float_format="%.2f"))
    judged = table[table["failure"].notna()]
    right = (judged["failure"] == judged["computed_failure"]).mean()
    error = table["error_percent"].abs()
    print(
        f"all: KV capacity median error {error.median():.2f} %, worst {error.max():.2f} %; "
        f"outcome right in {right:.2%} of {len(judged)}"
    )
    wrong = judged[judged["failure"] != judged["computed_failure"]]
    if len(wrong):
        print(wrong.to_string(index=False))


def show_field(folder: Path) -> None:
    """Print the tables of public logs and of the starts."""
    print("== logs")
    print(compare_logs(folder).to_string(index=False, float_format="%.2f"))
    starts = compare_starts(folder / STARTS)
    print("== starts")
    print(starts.to_string(index=False, float_format="%.2f"))
    figures = ["weights %", "activation", "graphs", "KV tokens %", "other planner %"]
    absolute = starts[figures].abs()
    print("absolute, all: " + _spread(absolute))
    print("by model, median of the absolute:")
    print(absolute.groupby(starts["model"]).median().to_string(float_format="%.2f"))


def _spread(absolute: pd.DataFrame) -> str:
    parts = (f"{name} {absolute[name].median():.2f} (worst {absolute[name].max():.2f})" for name in absolute)
    return "; ".join(parts)


def main() -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measurements",
        type=Path,
        default=MEASURED,
        help="folder of the tables of measured engines (default: %(default)s)",
    )
    parser.add_argument("--field", type=Path, help="folder of the public logs and starts (default: none)")
    given = parser.parse_args()
    folder = given.measurements
    missing = [str(folder / f"{name}.csv") for name in TABLES if file_of(folder, name) is None]
    missing += [str(given.field / STARTS)] if given.field and not (given.field / STARTS).is_file() else []
    if missing:
        what = f"missing: {', '.join(missing)}"
        print(f"no measurements here ({what}); give them with --measurements and --field", file=sys.stderr)
        return 2
    show_engines(folder)
    if given.field:
        show_field(given.field)
    return 0


if __name__ == "__main__":
    sys.exit(main())
