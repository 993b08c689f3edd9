"""``lorapack devices``: the GPUs that are known, and one of them in full."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.help import register
from optimizer.cli.options import JsonOption
from optimizer.cli.outputs import check_outputs, deliver, text_output

if TYPE_CHECKING:
    from scenarios import GPU
    from scenarios.text.tables import Part


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    register(app, "devices", devices_command, '"NVIDIA A100-SXM4-80GB"')


def devices_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A GPU, as a scenario, nvidia-smi or vLLM's log calls it."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """List GPUs with their memory as the engine sees it and their speed; or show one in full, with sources.

    A dash stands for what no source tells, or what the GPU cannot do. TFLOPS are dense; what joins GPUs is in
    GB/s of one, both directions together.
    """
    import scenarios

    check_outputs({"--json": json})
    chosen = scenarios.gpus() if name is None else scenarios.find_gpu(name)
    answer: list[Part]
    values: object
    if isinstance(chosen, tuple):
        answer, values = [_listed(chosen)], [gpu.model_dump(mode="json") for gpu in chosen]
    else:
        answer, values = _in_full(chosen), chosen.model_dump(mode="json")
    deliver([answer], text_output(json, lambda: json_module.dumps(values, indent=2, ensure_ascii=False)))


def _listed(chosen: tuple[GPU, ...]) -> Part:
    from scenarios.text.tables import Column, table

    columns = (
        "name",
        ">GiB",
        Column(">GB/s", 1),
        Column(">16 bits", 1),
        Column(">FP8", 2),
        Column(">INT8", 3),
        Column("joined by", 2),
    )
    rows = [
        (
            gpu.name,
            f"{gpu.memory_gib:.2f}",
            gpu.bandwidth_gb_s,
            gpu.bf16_tflops or gpu.fp16_tflops,
            gpu.fp8_tflops,
            gpu.int8_tops,
            f"{gpu.interconnect.kind} {gpu.interconnect.gb_s:g}" if gpu.interconnect else "–",
        )
        for gpu in chosen
    ]
    return table(columns, rows)


def _in_full(gpu: GPU) -> list[Part]:
    from scenarios.text.tables import figures

    link = gpu.interconnect
    told = figures(
        [
            ("name", gpu.name),
            ("also called", ", ".join(gpu.aliases)),
            ("architecture", f"{gpu.architecture} ({gpu.compute_capability})"),
            ("memory", f"{gpu.memory_gib:g} GiB, {gpu.memory_source}"),
            ("memory bandwidth", _with_unit(gpu.bandwidth_gb_s, "GB/s")),
            ("BF16, dense", _with_unit(gpu.bf16_tflops, "TFLOPS")),
            ("FP16, dense", _with_unit(gpu.fp16_tflops, "TFLOPS")),
            ("FP8, dense", _with_unit(gpu.fp8_tflops, "TFLOPS")),
            ("INT8, dense", _with_unit(gpu.int8_tops, "TOPS")),
            ("joined by", f"{link.kind}, {link.gb_s:g} GB/s" if link else None),
            ("PCIe", _with_unit(gpu.pcie_gb_s, "GB/s")),
        ]
    )
    # Addresses stand below the table, which would cut them.
    return [told, "", f"Memory from: {gpu.memory_from}", f"Other figures from ({gpu.date}): {gpu.source}"]


def _with_unit(figure: float | None, unit: str) -> str | None:
    return None if figure is None else f"{figure:,g} {unit}"
