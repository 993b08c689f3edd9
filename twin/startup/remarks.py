"""What is known to make start-ups differ that look the same, and how far answers are usually off."""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import EngineConfig
from twin.memory import MemoryModel, MemoryPlan

_CACHED_SINCE = (0, 27, 0)

COMPARED = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "granite", "phi3"}
    | {"deepseek_v2"}
)
"""Types of the models whose start-ups were compared (docs/memory.md)."""


def remarks(memory: MemoryModel, engine: EngineConfig, plan: MemoryPlan) -> tuple[str, ...]:
    """Remarks on an engine, each a sentence."""
    return tuple(_remarks(memory, engine, plan))


def _remarks(memory: MemoryModel, engine: EngineConfig, plan: MemoryPlan) -> Iterator[str]:
    version = memory.version
    graphs = plan.graph_gib > 0
    if graphs and memory.v1 and version < (0, 10, 0):
        yield (
            "Graphs of V1 engines before 0.10 take up to four times less with a newer driver and CUDA build; "
            "0.8.4 and 0.8.5 also leak while they capture them. Where it runs out of memory then, update the "
            "driver or set enforce_eager."
        )
    if memory.v1 and version >= _CACHED_SINCE:
        yield "From 0.27 a start with a warm compile cache counts up to 0.9 GiB less of activations."
    if engine.tensor_parallel_size > 1:
        yield (
            "Communication takes 0.1 to 2.2 GiB of each GPU, by its links and the release; the start-up log "
            "says it."
        )
    if memory.v1 is False and engine.max_num_batched_tokens < engine.max_model_len:
        yield "A V0 engine with chunked prefill counts little of the sampler: up to 1.3 GiB more are left."


def usual_error(basis: str, memory: MemoryModel, engine: EngineConfig) -> str:
    """How far answers of a kind are off, from the start-ups of docs/memory.md."""
    if basis == "measured":
        return "KV cache 0.1 % in the median, 1.8 % at worst (1,222 engines)"
    if basis == "from your log":
        return "exact at the log's own arguments"
    if memory.architecture.model_type not in COMPARED:
        return f"no start-up of a {memory.architecture.model_type} model was compared"
    if engine.tensor_parallel_size * engine.pipeline_parallel_size > 1:
        return "KV cache usually within 1 %, up to 6 % where GPUs have slow links (11 start-ups)"
    return "KV cache usually within 1 % (37 start-ups)"
