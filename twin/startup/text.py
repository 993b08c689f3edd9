"""Answers about memory, as text that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from scenarios.text.formatting import counted
from scenarios.text.tables import Column, Part, figures, item, marked, table

if TYPE_CHECKING:
    from twin.startup.answer import MemoryAnswer
    from twin.startup.survey import SurveyedGPU

PARTS = (
    ("weights_gib", "weights"),
    ("slots_gib", "adapter slots"),
    ("activation_gib", "activations of the largest batch"),
    ("other_gib", "libraries, workspaces, communication"),
    ("kv_gib", "KV cache"),
    ("graph_gib", "CUDA graphs"),
    ("uncounted_gib", "CUDA context, not counted by the engine"),
)
"""Parts of a GPU's memory, in the order in which they are taken, and what they are called."""


def answer_parts(answer: MemoryAnswer) -> Iterator[Part]:
    """The answer for one GPU: whether it starts, what fits, where the memory goes, how sure it is."""
    plan, engine = answer.plan, answer.engine
    slots = _slots(answer)
    gpus = engine.tensor_parallel_size * engine.pipeline_parallel_size
    where = f"{answer.device or 'a GPU'} ({plan.gpu_gib:.2f} GiB)" + (
        f", each of {gpus} GPUs" if gpus > 1 else ""
    )
    yield f"{answer.model} on {where}, vLLM {answer.engine_version}, {slots}"
    yield figures(_lines(answer))
    yield table(("part", ">GiB", ">share"), _rows(answer), title="memory of one GPU")
    if plan.remedies:
        yield "what repairs it, each alone:"
        yield from (item(remedy) for remedy in plan.remedies)
    if answer.remarks:
        yield "to be known:"
        yield from (item(remark) for remark in answer.remarks)
    if answer.assumed:
        yield f"vLLM's defaults, as nothing else was given: {', '.join(answer.assumed)}"


def _slots(answer: MemoryAnswer) -> str:
    return (
        f"{counted(answer.max_loras, 'slot')} of rank {answer.max_lora_rank}"
        if answer.max_loras
        else "no LoRA"
    )


def _lines(answer: MemoryAnswer) -> Iterator[tuple[str, object]]:
    plan, engine = answer.plan, answer.engine
    yield "starts", marked("yes", "good") if plan.starts else marked(f"no: {plan.why}", "bad")
    yield (
        "KV cache",
        f"{plan.kv_cache_tokens:,} tokens: {plan.max_concurrency:.2f} requests of {engine.max_model_len:,}",
    )
    if answer.max_loras:
        most = plan.largest_max_loras
        yield "most slots", "none" if most is None else f"{most:,} of rank {answer.max_lora_rank}"
    yield "longest", _longest(answer)
    if answer.host_gib:
        yield "host", _host(answer)
    yield "how sure", answer.basis + (f": {answer.usual_error}" if answer.usual_error else "")


def _host(answer: MemoryAnswer) -> Text | str:
    """What the engine keeps in the host's memory, against what the host has."""
    kept = answer.engine.max_cpu_loras or answer.max_loras
    what = [f"{counted(kept, 'adapter')} (max_cpu_loras)"] if answer.plan.cpu_loras_gib else []
    what += ["offloaded weights"] if answer.plan.offloaded_gib else []
    of = f" of {answer.host_memory_gib:g}" if answer.host_memory_gib else ""
    text = f"{answer.host_gib:.2f}{of} GiB of the host's memory, for {' and '.join(what)}"
    too_much = answer.host_memory_gib is not None and answer.host_gib > answer.host_memory_gib
    return marked(f"{text}: too much", "bad") if too_much else text


def _longest(answer: MemoryAnswer) -> str:
    """Longest max_model_len: what the cache holds, or less where the model ends before."""
    holds, model = answer.plan.largest_max_model_len, answer.model_longest
    if not holds:
        return "none"
    if holds > model:
        return f"max_model_len {model:,}, the model's own (the KV cache holds {holds:,})"
    return f"max_model_len {holds:,}"


def _rows(answer: MemoryAnswer) -> Iterator[Sequence[object]]:
    plan = answer.plan
    for name, words in PARTS:
        gib = getattr(plan, name)
        if gib:
            yield words, f"{gib:.2f}", f"{gib / plan.gpu_gib:.0%}" if gib > 0 else "missing"


def survey_parts(surveyed: Sequence[SurveyedGPU]) -> Iterator[Part]:
    """How many adapters fit on every GPU: one line each."""
    first = surveyed[0].answer
    slots = _slots(first)
    what = f"most adapter slots by rank, and the KV cache with {slots}"
    yield f"{first.model}, vLLM {first.engine_version}: {what}"
    ranks = tuple(surveyed[0].largest_max_loras)
    by_rank = [f">rank {rank}" for rank in ranks]
    columns: list[str | Column] = ["device", Column(">GiB", 1), ">KV tokens", *by_rank]
    rows = []
    for gpu in surveyed:
        plan = gpu.answer.plan
        tokens = f"{plan.kv_cache_tokens:,}" if plan.starts else None
        most = tuple(gpu.largest_max_loras[rank] for rank in ranks)
        rows.append((gpu.device, f"{plan.gpu_gib:.1f}", tokens, *most))
    yield table(columns, rows)
