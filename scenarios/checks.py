"""What the parts of a scenario must agree on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from scenarios.adapters import MAX_ADAPTERS, Adapter
from scenarios.base import Finding, Loc
from scenarios.engine import EngineConfig
from scenarios.formatting import choice, nearest
from scenarios.lengths import UNSTATED_MAX, Lengths, LognormalLengths
from scenarios.placement import Placement
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.workload import Workload

if TYPE_CHECKING:
    from scenarios.scenario import Device, Scenario


def across(
    adapters: Iterable[tuple[int, Adapter]],
    workload: Workload | None,
    engine: EngineConfig | None,
    levels: ServiceLevelObjectives | None,
) -> Iterator[Finding]:
    """Yield every inconsistency between the adapters, the workload, the engine and the service levels.

    Parameters
    ----------
    adapters
        Entries with their index in the scenario; some may be missing.
    workload, engine, levels
        Parts of the scenario; None where the part itself is wrong, which leaves out its checks.
    """
    entries = list(adapters)
    yield from _adapters_few_and_distinct(entries)
    if levels is not None:
        for index, entry in entries:
            yield from _levels_stricter(index, entry, levels)
    if engine is None:
        return
    if engine.max_lora_rank is not None:
        for index, entry in entries:
            yield from _rank_fits(index, entry, engine.max_lora_rank)
    if workload is None:
        return
    yield from _lengths_fit(("workload",), workload.prompt, workload.output, engine)
    for index, entry in entries:
        if entry.prompt is not None or entry.output is not None:
            prompt, output = entry.prompt or workload.prompt, entry.output or workload.output
            yield from _lengths_fit(("adapters", index), prompt, output, engine)


def distinct(key: str, values: Sequence[str], inner: Loc = ()) -> Iterator[Finding]:
    """Yield every value of a list that an earlier item already has."""
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value in first:
            yield Finding(
                (key, index, *inner),
                f'is "{value}", as is {key}[{first[value]}]',
                "remove one of them",
            )
        first.setdefault(value, index)


def _adapters_few_and_distinct(entries: list[tuple[int, Adapter]]) -> Iterator[Finding]:
    total = sum(entry.count for _, entry in entries)
    if total > MAX_ADAPTERS:
        yield Finding(
            ("adapters",),
            f"are {total:,} in all, above the limit of {MAX_ADAPTERS:,} adapters",
            "lower their counts or split the scenario",
        )
        return
    owner: dict[str, int] = {}
    for index, entry in entries:
        for name in entry.names():
            if name in owner:
                yield Finding(
                    ("adapters", index, "name"),
                    f'gives the name "{name}", which adapters[{owner[name]}] has too',
                    "rename one of them",
                )
                break
            owner[name] = index


def _rank_fits(index: int, entry: Adapter, limit: int) -> Iterator[Finding]:
    several = isinstance(entry.rank, tuple)
    for k, rank in enumerate(entry.rank if isinstance(entry.rank, tuple) else (entry.rank,)):
        if rank > limit:
            yield Finding(
                ("adapters", index, "rank", k) if several else ("adapters", index, "rank"),
                f"is {rank}, above engine.max_lora_rank {limit}",
                f'raise max_lora_rank or drop adapter "{entry.name}"',
            )


def _levels_stricter(index: int, entry: Adapter, levels: ServiceLevelObjectives) -> Iterator[Finding]:
    share = None if entry.service_levels is None else entry.service_levels.served_share
    if share is not None and share < levels.adapter_served_share:
        yield Finding(
            ("adapters", index, "service_levels", "served_share"),
            f"is {share:g}, below service_levels.adapter_served_share {levels.adapter_served_share:g}, "
            "which every adapter must get",
            "raise it, or lower adapter_served_share for all adapters",
        )


def _lengths_fit(loc: Loc, prompt: Lengths, output: Lengths, engine: EngineConfig) -> Iterator[Finding]:
    limit = engine.max_model_len
    for key, lengths in (("prompt", prompt), ("output", output)):
        if lengths.mean_tokens >= limit:
            yield Finding(
                (*loc, key),
                f"has {lengths.mean_tokens:g} tokens on average, not below engine.max_model_len {limit}",
                "shorten it or raise max_model_len",
            )
            return
    yield from _prompts_taken((*loc, "prompt"), prompt, limit)
    total = prompt.mean_tokens + output.mean_tokens
    if total > limit:
        yield Finding(
            loc,
            f"has prompts and outputs of {total:g} tokens together on average, "
            f"above engine.max_model_len {limit}",
            "shorten them or raise max_model_len",
        )


def _prompts_taken(loc: Loc, prompt: Lengths, limit: int) -> Iterator[Finding]:
    """Yield that prompts can be so long that the engine refuses them: one token must follow."""
    longest = prompt.longest_tokens
    if longest < limit or (isinstance(prompt, LognormalLengths) and longest == UNSTATED_MAX):
        return
    key = "max" if isinstance(prompt, LognormalLengths) else "edges"
    yield Finding(
        (*loc, key),
        f"lets prompts have {longest:,} tokens, and the engine refuses those of engine.max_model_len "
        f"{limit:,} and more",
        f"keep prompts below {limit:,} tokens, or raise max_model_len to {longest + 1:,} or more",
    )


def priced(devices: Sequence[Device], objective: Sequence[str]) -> Iterator[Finding]:
    """Yield every device without a price where prices decide."""
    if "cost" not in objective:
        return
    for k, device in enumerate(devices):
        if device.price_per_hour is None:
            yield Finding(
                ("devices", k, "price_per_hour"),
                f"is missing for {device.name}, and the objective cost compares prices",
                "give the price of one GPU for an hour, or choose the objective gpus",
            )


def placed(placement: Placement, scenario: Scenario) -> Iterator[Finding]:
    """Yield where a placement does not serve a scenario's adapters on engines that can."""
    rank = {name: group.rank for group in scenario.classes for name in group.names}
    devices = [device.name for device in scenario.devices]
    for k, gpu in enumerate(placement.gpus):
        if gpu.device not in devices:
            known = choice(devices)
            yield Finding(
                ("gpus", k, "device"), f'is "{gpu.device}", unknown to the scenario', f"use {known}"
            )
        for i, name in enumerate(gpu.adapters):
            if name not in rank:
                close = nearest(name, rank)
                remedy = f'did you mean "{close}"?' if close else "remove it"
                yield Finding(("gpus", k, "adapters", i), f'is "{name}", unknown to the scenario', remedy)
            elif rank[name] > gpu.max_lora_rank:
                yield Finding(
                    ("gpus", k, "adapters", i),
                    f'is "{name}" of rank {rank[name]}, above the GPU\'s max_lora_rank {gpu.max_lora_rank}',
                    "raise max_lora_rank or move the adapter",
                )
    absent = rank.keys() - {name for gpu in placement.gpus for name in gpu.adapters}
    if absent:
        names = choice(sorted(absent)[:5], "and")
        count = f"{len(absent):,} adapters, among them" if len(absent) > 5 else "the adapters"
        yield Finding(("gpus",), f"leave out {count} {names}", "place every adapter of the scenario")
