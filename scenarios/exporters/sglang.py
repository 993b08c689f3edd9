"""Target ``sglang``: a script for each GPU that starts SGLang with the group's adapters."""

from __future__ import annotations

import json
import shlex

from scenarios.exporters.deployment import Deployment, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    SHARES_LOST,
    adapter_path,
    bound_host,
    checked_model,
    head,
    path_sentences,
    server_arguments,
)
from scenarios.exporters.steps_between.stepping import Change, Stepping, ready_commands
from scenarios.exporters.yaml_text import comment_lines

NAME = "sglang"
CHECKED = "SGLang 0.5.23: sglang/srt/server_args.py (its parser), sglang/srt/arg_groups/lora_hook.py"


def commands(change: Change) -> list[str]:
    """What is typed for a step, on each host what is of its engines."""
    lines = []
    for group in change.started:
        name = f"serve-g{group.number}"
        lines += [f"# on {group.host}", f"nohup ./{name}.sh >{name}.log 2>&1 &"]
    lines += ready_commands(change)
    for group in change.stopped:
        lines.append(f"echo 'now stop {group.name}, the server at {group.host}:{group.port}'")
    return lines


STEPS = Stepping(commands, named_at_start=True, routed_beside=True)

FLAGS = {
    "max_model_len": "--context-length",
    "max_num_seqs": "--max-running-requests",
    "max_num_batched_tokens": "--chunked-prefill-size",
    "tensor_parallel_size": "--tp-size",
    "pipeline_parallel_size": "--pp-size",
    "dtype": "--dtype",
    "quantization": "--quantization",
    "max_lora_rank": "--max-lora-rank",
    "max_cpu_loras": "--max-loaded-loras",
}
"""Flags of SGLang for arguments of ours that mean nearly the same."""

_SAID_OTHERWISE = frozenset({"enable_lora", "max_loras"})


def export(deployment: Deployment) -> Export:
    """Command lines of a deployment."""
    lost, cautions = path_sentences(deployment)
    lost += [SHARES_LOST] * bool(deployment.split)
    given = {name: None for group in deployment.groups for name in server_arguments(group, None).values}
    without = [name for name in given if name not in FLAGS and name not in _SAID_OTHERWISE]
    if without:
        lost.append(
            f"Arguments for which SGLang has no equal: {', '.join(without)}; its "
            "--mem-fraction-static is the share of weights and KV cache alone, not gpu_memory_utilization, "
            "and is left at its default."
        )
    cautions += [
        "The twin plays vLLM: what it says of speed and memory is not measured for SGLang.",
        "--chunked-prefill-size limits prompts alone, where max_num_batched_tokens limits a whole step.",
    ]
    if any(group.base and group.adapters for group in deployment.groups):
        cautions.append("Requests of the base model take a slot in SGLang: those groups have one more.")
    if any(
        len(group.adapters) > (group.gpu.max_cpu_loras or group.gpu.max_loras) for group in deployment.groups
    ):
        cautions.append("--max-loaded-loras is raised to the adapters of a group, for SGLang loads all.")
    files = []
    for group in deployment.groups:
        title = head(f"group: {group.name}", lost, [f"It belongs on host {group.host}.", *cautions])
        text = (
            f"#!/bin/bash\n{comment_lines(title)}"
            f"export CUDA_VISIBLE_DEVICES={','.join(map(str, group.devices))}\n"
            f"exec {shlex.join(launch_words(group, deployment))}\n"
        )
        files.append(ExportedFile(f"serve-g{group.number}.sh", text, executable=True))
    steps = tuple(f"./{file.path}" for file in files)
    return Export(tuple(files), (), tuple(lost), tuple(cautions), steps)


def launch_words(group: Group, deployment: Deployment) -> list[str]:
    """Words that start SGLang for a group."""
    words = ["python3", "-m", "sglang.launch_server", f"--model-path={checked_model(deployment)}"]
    words += [f"--served-model-name={deployment.base_name}"]
    words += ["--host", bound_host(group), "--port", str(group.port)]
    values = server_arguments(group, None).values
    if group.adapters:
        slots = group.gpu.max_loras + group.base
        loaded = max(group.gpu.max_cpu_loras or group.gpu.max_loras, slots, len(group.adapters))
        values["max_cpu_loras"] = loaded
        words += ["--enable-lora", "--max-loras-per-batch", str(slots)]
    for name, flag in FLAGS.items():
        if name in values:
            words += [flag, str(values[name])]
    if group.adapters:
        modules = [
            {"lora_name": a.served_name, "lora_path": adapter_path(a, deployment), "pinned": False}
            for a in group.adapters
        ]
        words += ["--lora-paths", *map(json.dumps, modules)]
    return words
