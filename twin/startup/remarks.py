"""What is known to make start-ups differ that look the same, and how far answers are usually off."""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import EngineConfig, StartupLog
from twin.memory import MemoryModel, MemoryPlan
from twin.memory.footprint import footprint
from twin.memory.versions import NEWEST_READ, OLDEST_READ

_TOLD = 0.01
"""GiB from which a difference is told."""

COMPARED = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "granite", "phi3"}
    | {"deepseek_v2"}
)
"""Types of the models whose start-ups were compared (docs/memory.md)."""


def remarks(
    memory: MemoryModel, engine: EngineConfig, plan: MemoryPlan, max_loras: int, rank: int
) -> tuple[str, ...]:
    """Remarks on an engine with so many slots of this rank, each a sentence."""
    return tuple(_remarks(memory, engine, plan, max_loras, rank))


def _remarks(
    memory: MemoryModel, engine: EngineConfig, plan: MemoryPlan, max_loras: int, rank: int
) -> Iterator[str]:
    version = memory.version
    if not OLDEST_READ <= version <= NEWEST_READ:
        nearest = min(NEWEST_READ, max(OLDEST_READ, version))
        yield (
            f"vLLM {memory.engine_version} was not looked at; the rules are those of "
            f"{'.'.join(map(str, nearest))}, and it may differ."
        )
    graphs = plan.graph_gib > 0
    if graphs and memory.v1 and version < (0, 10, 0):
        yield (
            "Graphs of V1 engines before 0.10 take up to four times less with a newer driver and CUDA build; "
            "0.8.4 and 0.8.5 also leak while they capture them. Where it runs out of memory then, update the "
            "driver or set enforce_eager."
        )
    if memory.embedding_copies and plan.kv_gib > 0:
        again = memory.model_copy(update={"embedding_copies": 0.0})
        less = plan.activation_gib - footprint(again, engine, plan.gpu_gib, max_loras, rank).activation_gib
        if less >= _TOLD:
            yield (
                f"This is a first start; with a warm compile cache the engine counts {less:.2f} GiB less of "
                "activations, and has a larger KV cache."
            )
    if engine.tensor_parallel_size > 1:
        yield (
            "Communication takes 0.1 to 2.2 GiB of each GPU, by its links and the release; the start-up log "
            "says it."
        )


def usual_error(basis: str, memory: MemoryModel, engine: EngineConfig, log: StartupLog | None) -> str:
    """How far answers of a kind are off, from the start-ups of docs/memory.md; and what a log leaves out."""
    if basis == "measured":
        return "KV cache 0.1 % in the median, 1.8 % at worst (1,222 engines)"
    if log is not None and not (log.kv_cache_gib or log.num_gpu_blocks or log.kv_cache_tokens):
        return "the log tells no KV cache, so what it leaves out is computed"
    if basis == "from your log":
        return "exact at the log's own arguments"
    if memory.architecture.model_type not in COMPARED:
        return f"no start-up of a {memory.architecture.model_type} model was compared"
    if engine.tensor_parallel_size * engine.pipeline_parallel_size > 1:
        return "KV cache usually within 1 %, up to 6 % where GPUs have slow links (11 start-ups)"
    return "KV cache usually within 1 % (37 start-ups)"
