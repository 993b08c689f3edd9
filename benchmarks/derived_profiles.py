"""Derived profiles beside measured ones: across models, beside rooflines and a database, and on other GPUs.

    python -m benchmarks.derived_profiles [--measurements FOLDER] [--tables runs,parts,batches,kernels,gpus]
    [--every N]

*runs*: every usable run of the public table (``--measurements`` holds serving_runs.csv and the fixed
batches), replayed with the profile that was measured, with one scaled from the other model, with the
other's copied, and with a roofline in place of the scaled step; no figure of the model that is predicted is
used but its shapes. *parts*: how far the parts of each measured step cost are from those scaled from the
other. *batches*: fixed batches without adapters. *kernels*: single steps on other GPUs beside
a database of kernels. *gpus*: what public benchmarks of vLLM measured there. The last three ask the database
of ``lorapack[aiconfigurator]``, which also holds those public measurements.

Takes about half an hour on two cores with all runs; --every 12 takes two minutes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from twin import EngineProfile, derive_profile, shipped_profiles
from twin.deriving.base_step import Machine, base_step
from twin.deriving.counts import model_counts
from twin.deriving.database import SYSTEMS, DatabaseError, KernelDatabase
from twin.deriving.speeds import speeds_of
from twin.measured.measurement import table_file
from twin.measured.predict import predict_all
from twin.measured.report import smape, starved_runs
from twin.measured.run_tables import measured_runs, read_runs
from twin.step_cost import CostTerm, StepCost

MEASURED = Path(__file__).parent / "measured"

USABLE = ("clean", "client_cap_saturated")
ENGINES = (
    (8, 16, 8, 16),
    (32, 16, 30, 64),
    (96, 16, 60, 192),
    (96, 32, 60, 192),
    (160, 16, 120, 320),
    (384, 16, 250, 384),
)
"""Slots, rank, distinct adapters and adapters served of the engines whose steps are compared."""
TOKENS = (1, 16, 64, 128, 256, 512, 1024, 2048)

ADAPTED = {"qwen-2.5-7b-instruct": ("q_proj", "k_proj", "v_proj", "o_proj")}
"""Matrices that the measured adapters adapt: of the workload, and inferred from what their loads cost."""

PUBLIC_MODELS = {
    "Qwen/Qwen3-32B": "Qwen3-32B",
    "meta-llama/Llama-3.1-70B": "nvidia/Llama-3.1-70B-Instruct-FP8",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "Llama-3.1-8B-Instruct-FP8",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "MiniMaxAI/MiniMax-M2.5": "MiniMax-M2.5",
}
"""Models of the public measurements whose shapes are shipped."""
PRECISIONS = {"openai/gpt-oss-120b": "fp4", "Qwen/Qwen3-32B": ""}
"""What their weights are in; 8-bit floats where not said."""
KERNEL_GPUS = ("A100-80GB", "H100-80GB", "H200", "L40S", "RTX-PRO-6000", "B200", "B300")
KERNEL_STEPS = ((1, 0), (32, 0), (128, 0), (256, 0), (0, 2048))
CONTEXT = 500
"""Decoding requests and tokens of one prompt of the steps whose kernels are compared, and context of each."""
LAYOUT = ["model_path", "system", "tp_size"]
"""What tells one layout of the public measurements from another."""
TYPICAL = (1024, 1024, 32)
"""Prompt, answer and concurrency of which the nearest that was measured is taken, for each layout."""


def text_of(table: pd.DataFrame) -> str:
    """A table with a line for each row, however long."""
    return table.to_string(index=False, float_format="%.2f", na_rep="-") + "\n"


def other(profile: EngineProfile) -> EngineProfile:
    """The measured profile of the other model."""
    (found,) = [one for one in shipped_profiles() if one.model != profile.model]
    return found


def scaled(profile: EngineProfile) -> EngineProfile:
    """A profile's costs as scaled from the other model; what the client saw and asked stays its own."""
    derived = derive_profile(
        profile.memory.architecture,
        profile.device,
        source=other(profile),
        target_modules=ADAPTED.get(profile.model),
    )
    return profile.model_copy(update={"step": derived.step, "loads": derived.loads})


def copied(profile: EngineProfile) -> EngineProfile:
    """The other model's costs under this one's name."""
    return profile.model_copy(update={"step": other(profile).step, "loads": other(profile).loads})


def rooflined(profile: EngineProfile) -> EngineProfile:
    """The scaled profile with a bare roofline of the data sheet in place of the step without adapters."""
    source = scaled(profile)
    adapters = [term for term in source.step.terms if term.lora or term.adapters_power]
    terms = [*roofline_terms(profile), *adapters]
    return source.model_copy(update={"step": StepCost(terms=tuple(terms))})


def roofline_terms(profile: EngineProfile) -> list[CostTerm]:
    """Reads, operations and keys and values of a step at the speeds of the data sheet."""
    machine = machine_of(profile)
    read_s = machine.counts.read_bytes(1) / machine.speeds.bandwidth
    token_s = machine.counts.operations / machine.speeds.flops
    crossing = math.ceil(read_s / token_s)
    return [
        CostTerm(name="step", seconds=read_s),
        CostTerm(name="tokens", seconds=token_s, tokens_above=crossing),
        CostTerm(name="context", seconds=machine.counts.kv_bytes / machine.speeds.bandwidth, per="context"),
    ]


def machine_of(profile: EngineProfile) -> Machine:
    """A profile's model on its GPU."""
    counts = model_counts(profile.memory, profile.measured)
    joined = profile.measured.tensor_parallel_size > 1
    return Machine(counts, speeds_of(profile.device, counts.arithmetic, joined=joined))


ROUTES: dict[str, Callable[[EngineProfile], EngineProfile]] = {
    "measured": lambda profile: profile,
    "scaled": scaled,
    "roofline": rooflined,
    "copied": copied,
}
"""Ways to a profile of a model, given what is known without it."""


def file_in(folder: Path, name: str) -> Path:
    """The file of a table in a folder, or in its ``parts``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    file = table_file(folder, name) or table_file(folder / "parts", name)
    if file is None:
        raise FileNotFoundError(f"{folder} has no {name}.csv")
    return file


def replayed(folder: Path, every: int, workers: int) -> pd.DataFrame:
    """Errors of every route on the measured runs, by model and quality."""
    table = read_runs(file_in(folder, "serving_runs"))
    table = table[table["status"].eq("ok") & table["quality"].isin(USABLE)]
    lines = []
    for profile in shipped_profiles():
        runs = table[table["model"] == profile.model].iloc[::every].reset_index(drop=True)
        for route, made in ROUTES.items():
            used = made(profile)
            said = predict_all(measured_runs(runs, folder), lambda _, used=used: used, 0, workers)
            for quality, part in runs.groupby("quality"):
                there = said.loc[part.index]
                wrong = starved_runs(part) != there["predicted_starved"].to_numpy(dtype=bool)
                ratio = there["predicted_itl_ms"].to_numpy() / part["itl_mean_ms"].to_numpy()
                lines.append(
                    {
                        "model": profile.model,
                        "route": route,
                        "quality": quality,
                        "runs": len(part),
                        "throughput": smape(part["total_throughput"], there["predicted_total_throughput"]),
                        "ITL": smape(part["itl_mean_ms"], there["predicted_itl_ms"]),
                        "ITL bias %": 100 * float(np.log(ratio).mean()),
                        "starvation wrong": int(wrong.sum()),
                    }
                )
            print(text_of(pd.DataFrame(lines[-2:])), flush=True)
    return pd.DataFrame(lines)


def compared_parts() -> pd.DataFrame:
    """Logs of scaled over measured for the parts of a step: root mean square, and mean by model."""
    logs: dict[str, dict[str, list[float]]] = {}
    for profile in shipped_profiles():
        for part, values in part_logs(profile, scaled(profile)).items():
            logs.setdefault(part, {})[profile.model] = values
    rows = []
    for part, by_model in logs.items():
        both = np.concatenate([np.array(values) for values in by_model.values()])
        means = {f"{name} mean %": 100 * float(np.mean(values)) for name, values in by_model.items()}
        rows.append({"part": part, "rms %": 100 * float(np.sqrt((both**2).mean())), **means})
    return pd.DataFrame(rows)


def part_logs(measured: EngineProfile, derived: EngineProfile) -> dict[str, list[float]]:
    """Log of derived over measured, at many steps, of each part of the cost."""
    logs: dict[str, list[float]] = {"base and request": [], "lora": [], "whole step": []}
    plain = [profile.step.tables(0, 0, max(TOKENS), 0) for profile in (measured, derived)]
    for tokens in TOKENS:
        one, two = (table.token_s[tokens] + tokens * table.decode_s for table in plain)
        logs["base and request"].append(math.log(two / one))
    for slots, rank, adapters, served in ENGINES:
        tables = [profile.step.tables(slots, rank, max(TOKENS), served) for profile in (measured, derived)]
        for tokens in TOKENS:
            if tokens < adapters:
                continue
            whole = [
                t.token_s[tokens]
                + t.adapter_s[adapters]
                + t.adapter_token_s[adapters] * tokens
                + tokens * t.decode_s
                for t in tables
            ]
            bare = [table.token_s[tokens] + tokens * table.decode_s for table in plain]
            logs["lora"].append(math.log((whole[1] - bare[1]) / (whole[0] - bare[0])))
            logs["whole step"].append(math.log(whole[1] / whole[0]))
    logs["context"] = [math.log(plain[1].context_s / plain[0].context_s)]
    logs["request"] = [math.log(plain[1].decode_s / plain[0].decode_s)]
    logs["host (waiting)"] = [math.log(plain[1].waiting_s / plain[0].waiting_s)]
    logs["gpu load"] = [math.log(derived.loads.gpu_s / measured.loads.gpu_s)]
    logs["disk load"] = [
        math.log(float(derived.loads.disk_load_s(16)) / float(measured.loads.disk_load_s(16)))
    ]
    return logs


def batches(folder: Path) -> pd.DataFrame:
    """Fixed batches without adapters: measured on the H100 of 64 GB, and by every route; milliseconds."""
    table = pd.read_csv(file_in(folder, "fixed_batch_without_lora"))
    table = table[(table["family"] == "default_output") & ~(table["preemptions"] > 0)]
    profiles = {profile.model: profile for profile in shipped_profiles()}
    rows = []
    for model, part in table.groupby("model"):
        own = profiles[str(model)]
        routes = {"own": own, "scaled": scaled(own), "copied": copied(own), "roofline": rooflined(own)}
        larger = derive_profile(own.memory.architecture, "H100-80GB", source=own)
        kernels = kernels_of(own.memory.architecture.name, "H100-80GB", 1)
        for row in part.sort_values(["max_num_seqs", "set_output_len"]).to_dict("records"):
            requests, context = int(row["max_num_seqs"]), row["prompt_tokens"] + row["set_output_len"] / 2
            step = {name: 1e3 * step_s(one, requests, 0, context) for name, one in routes.items()}
            rows.append(
                {
                    "model": model,
                    "requests": requests,
                    "context": context,
                    "measured": row["itl_median_ms"],
                    **step,
                    "H100-80GB": 1e3 * step_s(larger, requests, 0, context),
                    "database there": 1e3 * kernels.decode_s(requests, int(context)) if kernels else np.nan,
                }
            )
    return pd.DataFrame(rows)


def step_s(profile: EngineProfile, requests: int, prefill: float, context: float) -> float:
    """Seconds of a step without adapters: decoding requests of a context, and prompts beside them."""
    tokens = requests + prefill
    most = math.ceil(tokens)
    tables = profile.step.tables(0, 0, most, 0)
    token_s = float(np.interp(tokens, np.arange(most + 1), tables.token_s))
    return token_s + requests * (tables.decode_s + context * tables.context_s)


def roofline_s(machine: Machine, requests: int, prefill: float, context: float) -> float:
    """Seconds of the same step at the speeds of the data sheet: weights or operations, keys and values."""
    counts, speeds = machine.counts, machine.speeds
    tokens = requests + prefill
    reads = counts.read_bytes(tokens) / speeds.bandwidth
    kept = requests * context * counts.kv_bytes / speeds.bandwidth
    return max(reads, counts.operations * tokens / speeds.flops) + kept


@cache
def derived_for(model: str, device: str, gpus: int) -> EngineProfile:
    """The derived profile of a layout."""
    return derive_profile(model, device, tensor_parallel_size=gpus)


@cache
def kernels_of(model: str, device: str, gpus: int) -> KernelDatabase | None:
    """The database's kernels; None where it has none."""
    try:
        return KernelDatabase(model, device, gpus)
    except DatabaseError:
        return None


def public_points() -> pd.DataFrame:
    """Public benchmarks of vLLM in the database's package, with how far each is from what is typical."""
    import aiconfigurator_core

    file = resources.files(aiconfigurator_core) / "systems" / "silicon_sample.csv"
    with resources.as_file(file) as path:
        table = pd.read_csv(path, low_memory=False)
    devices = {system: device for device, system in SYSTEMS.items()}
    wanted = table["model_path"].map(lambda name: PRECISIONS.get(name, "fp8"))
    table = table[
        table["backend"].eq("vllm")
        & table["mode"].eq("agg")
        & table["model_path"].isin(PUBLIC_MODELS)
        & table["system"].isin(devices)
        & table["precision"].fillna("").eq(wanted)
        & ~(table["attention_dp_size"] > 1)
        & ~(table["moe_ep_size"] > 1)
    ]
    far = sum(
        np.log(table[column] / typical).abs()
        for column, typical in zip(("isl", "osl", "batch_size"), TYPICAL, strict=True)
    )
    table = table.assign(far=far, device=table["system"].map(devices))
    return table.sort_values([*LAYOUT, "far"], kind="stable")


def other_gpus(points: pd.DataFrame) -> pd.DataFrame:
    """Time per token on other GPUs, in ms: measured in public, derived, by the database, and by a roofline.

    The database has kernels alone; *with host* adds the host's work of each step as measured with 0.8.5.
    """
    rows = []
    for point in points.to_dict("records"):
        model, gpus = PUBLIC_MODELS[point["model_path"]], int(point["tp_size"])
        profile = derived_for(model, point["device"], gpus)
        prompt, output, requests = (int(point[name]) for name in ("isl", "osl", "batch_size"))
        prefill, context = requests * prompt / output, prompt + output / 2
        kernels = kernels_of(model, point["device"], gpus)
        said = kernels.mixed_s(round(prefill), requests, prompt, output) if kernels else np.nan
        rows.append(
            {
                "model": model.rpartition("/")[2],
                "GPU": point["device"],
                "GPUs": gpus,
                "vLLM": str(point["backend_version"])[:6],
                "lengths": f"{prompt}/{output}",
                "requests": requests,
                "measured": point["silicon_tpot_ms"],
                "derived": 1e3 * step_s(profile, requests, prefill, context),
                "database": 1e3 * said,
                "with host": 1e3 * (said + host_s(profile)),
                "roofline": 1e3 * roofline_s(machine_of(profile), requests, prefill, context),
            }
        )
    return pd.DataFrame(rows)


def bare_kernels() -> pd.DataFrame:
    """Steps of Llama-3.1-8B on every GPU of the database, in ms: its kernels, a roofline, and as derived.

    The derived ones without the host's work of each step, which no database of kernels has.
    """
    rows = []
    for device in KERNEL_GPUS:
        profile = derive_profile("Llama-3.1-8B-Instruct", device)
        kernels, machine = kernels_of("Llama-3.1-8B-Instruct", device, 1), machine_of(profile)
        if kernels is None:
            continue
        for requests, prefill in KERNEL_STEPS:
            said = kernels.decode_s(requests, CONTEXT) if requests else kernels.prefill_s(1, prefill)
            rows.append(
                {
                    "GPU": device,
                    "requests": requests,
                    "prefill": prefill,
                    "measured": 1e3 * said,
                    "derived": 1e3 * (step_s(profile, requests, prefill, CONTEXT) - host_s(profile)),
                    "roofline": 1e3 * roofline_s(machine, requests, prefill, CONTEXT),
                }
            )
    return pd.DataFrame(rows)


def host_s(profile: EngineProfile) -> float:
    """Seconds of the host's work in each step of a derived profile."""
    (source,) = [one for one in shipped_profiles() if profile.derived and one.name == profile.derived.source]
    step = base_step(source.step, machine_of(source), machine_of(profile))
    return step.host_share * next(term.seconds for term in step.terms if term.name == "step")


def errors(table: pd.DataFrame, by: str, routes: tuple[str, ...]) -> pd.DataFrame:
    """Mean and root mean square of the log of each route over measured, in percent."""
    rows = []
    for key, part in [("all", table), *table.groupby(by)]:
        for route in routes:
            logs = np.log(part[route].to_numpy(dtype=float) / part["measured"].to_numpy(dtype=float))
            logs = logs[~np.isnan(logs)]
            if len(logs):
                spread = 100 * float(np.sqrt((logs**2).mean()))
                rows.append(
                    {
                        by: key,
                        "route": route,
                        "points": len(logs),
                        "mean %": 100 * float(logs.mean()),
                        "rms %": spread,
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measurements",
        type=Path,
        default=MEASURED,
        help="folder of the public tables (default: %(default)s)",
    )
    parser.add_argument(
        "--tables", default="runs,parts,batches,kernels,gpus", help="which tables (default: %(default)s)"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="take every so manieth run (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    given = parser.parse_args()
    asked = given.tables.split(",")
    if "runs" in asked:
        print(text_of(replayed(given.measurements, given.every, given.workers)))
    if "parts" in asked:
        print(text_of(compared_parts()))
    if "batches" in asked:
        table = batches(given.measurements)
        print(text_of(table))
        print(text_of(errors(table, "model", ("own", "scaled", "copied", "roofline"))))
    if "kernels" in asked:
        table = bare_kernels()
        print(text_of(table.rename(columns={"measured": "database"})))
        print(text_of(errors(table, "GPU", ("derived", "roofline"))))
    if "gpus" in asked:
        points = public_points()
        print(text_of(other_gpus(points.drop_duplicates(LAYOUT))))
        every = other_gpus(points)
        print(text_of(errors(every, "model", ("derived", "database", "with host", "roofline"))))


if __name__ == "__main__":
    main()
