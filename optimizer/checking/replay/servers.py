"""What servers say of themselves beside the plan, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator

from optimizer.checking.replay.check_params import CheckParams
from optimizer.checking.replay.check_report import CheckedServer, ServerArgument
from optimizer.checking.replay.planned_runs import PlannedRun
from scenarios import EngineConfig
from twin.live import ServerAnswers

UNTOLD = ("max_num_seqs", "max_num_batched_tokens")
"""Arguments that no server tells and that decide how it runs."""


def beside_plan(
    run: PlannedRun, told: ServerAnswers, engine: EngineConfig, params: CheckParams
) -> CheckedServer:
    """A server's names and arguments beside those of the plan.

    The base model is served under the plan's name where the server lists that, else under the first of its
    own that is no adapter of the plan.
    """
    adapters = [n for n, rank in zip(run.served_names, run.load.rank, strict=True) if rank > 0]
    planned_base = [n for n, rank in zip(run.served_names, run.load.rank, strict=True) if rank == 0]
    known = {*told.base, *told.adapters}
    base = None
    if planned_base:
        others = [name for name in told.base if name not in adapters]
        base = planned_base[0] if planned_base[0] in known else next(iter(others), None)
    missing = [name for name in adapters if name not in known]
    if planned_base and base is None:
        missing.append(planned_base[0])
    planned = {*adapters, *planned_base}
    return CheckedServer(
        arguments=tuple(_arguments(run, told, engine, params)),
        base=base,
        missing=tuple(missing),
        further=tuple(name for name in told.adapters if name not in planned),
    )


def names_at(run: PlannedRun, server: CheckedServer) -> tuple[str, ...]:
    """Names by which the server knows the adapters of a run, in the order of its load."""
    return tuple(
        name if rank > 0 or server.base is None else server.base
        for name, rank in zip(run.served_names, run.load.rank, strict=True)
    )


def _arguments(
    run: PlannedRun, told: ServerAnswers, engine: EngineConfig, params: CheckParams
) -> Iterator[ServerArgument]:
    version = None if told.version is None else told.version.partition("+")[0]
    yield _argument("engine_version", run.engine_version, version)
    yield _argument("max_model_len", engine.max_model_len, told.max_model_len)
    tokens, planned = told.kv_cache_tokens, run.kv_cache_tokens
    off = tokens is not None and abs(tokens - planned) > params.kv_cache * planned
    yield ServerArgument(name="kv_cache_tokens", planned=planned, told=tokens, differs=off)
    yield _argument("block_size", engine.block_size, told.block_size)
    caching = run.setups[0].prefix_caching
    if caching or engine.enable_prefix_caching is not None:
        yield _argument("enable_prefix_caching", caching, told.enable_prefix_caching)
    if run.load.n_adapters:
        yield _argument("max_loras", run.gpu.max_loras, told.max_loras)
        yield _argument("max_lora_rank", run.gpu.max_lora_rank, None)
        yield _argument("max_cpu_loras", run.gpu.max_cpu_loras, None)
    for name in UNTOLD:
        yield _argument(name, getattr(engine, name), None)


def _argument(name: str, planned: int | str | bool | None, told: int | str | bool | None) -> ServerArgument:
    return ServerArgument(name=name, planned=planned, told=told, differs=told is not None and told != planned)
