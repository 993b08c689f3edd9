"""What the parts of a scenario must agree on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from scenarios.adapters import MAX_ADAPTERS, Adapter
from scenarios.engine import EngineConfig
from scenarios.export_settings import ExportSettings
from scenarios.reading.findings import Finding, Loc
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.traffic.arrivals import Arrivals, OnOffArrivals, UnpredictableArrivals
from scenarios.traffic.lengths import UNSTATED_MAX, Lengths, LognormalLengths
from scenarios.traffic.recordings import RecordedArrivals
from scenarios.traffic.workload import Workload

LENGTHS = ("prompt", "output")
"""The keys of an entry's lengths, and of the workload's."""


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
        Parts of the scenario; None where the part itself is wrong, or its criterion looks at no served share,
        which leaves out its checks.
    """
    entries = list(adapters)
    yield from _few_and_distinct(entries)
    if workload is not None:
        yield from _lengths_given(entries, workload)
        yield from _conversations_start(entries, workload)
        yield from _groups_agree(entries, workload)
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
    yield from _lengths_fit(("workload",), workload.prompt, workload.output, engine.max_model_len)
    for index, entry in entries:
        own = [key for key in LENGTHS if getattr(entry, key) is not None]
        if own:
            prompt, output = entry.prompt or workload.prompt, entry.output or workload.output
            yield from _lengths_fit(("adapters", index), prompt, output, engine.max_model_len, own)
        yield from _whole_prompts_fit(index, entry, workload, engine.max_model_len)


def replicas_possible(adapters: Iterable[tuple[int, Adapter]], gpus: int, allowed: bool) -> Iterator[Finding]:
    """Yield entries with more least replicas than there are GPUs, or with some where none are allowed."""
    for index, entry in adapters:
        loc, replicas = ("adapters", index, "min_replicas"), entry.min_replicas
        if replicas > 1 and not allowed:
            message = f"is {replicas}, and allow_replicas is off"
            yield Finding(loc, message, "leave it out, or set allow_replicas: true")
        elif replicas > gpus:
            message = f"is {replicas}, above the {gpus} GPUs of devices[].count"
            yield Finding(loc, message, "lower it or raise devices[].count")


def served_names_distinct(
    adapters: Iterable[tuple[int, Adapter]], export: ExportSettings | None
) -> Iterator[Finding]:
    """Yield names by which clients would reach two adapters, or an adapter and the base model."""
    entries = list(adapters)
    base = None if export is None else export.served_model_name or export.model
    owner = {name: index for index, entry in entries if entry.served_name is None for name in entry.names()}
    for index, entry in entries:
        name = entry.served_name
        if name is None or entry.ranks() == (0,):
            continue
        loc: Loc = ("adapters", index, "served_name")
        if name == base:
            yield Finding(loc, f'is "{name}", the name of the base model', "serve one by another name")
        elif owner.setdefault(name, index) != index:
            taken = f"adapters[{owner[name]}]"
            yield Finding(loc, f'is "{name}", by which {taken} is served too', "serve one by another name")


def _lengths_given(entries: list[tuple[int, Adapter]], workload: Workload) -> Iterator[Finding]:
    for key in LENGTHS:
        without = next((index for index, entry in entries if getattr(entry, key) is None), None)
        if getattr(workload, key) is None and without is not None:
            message = f"is missing, and adapters[{without}] has none of its own"
            yield Finding(("workload", key), message, "add it, here or there")


def distinct(
    key: str, values: Sequence[str], inner: Loc = (), remedy: str = "remove one of them"
) -> Iterator[Finding]:
    """Yield every value of a list that an earlier item already has."""
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value in first:
            message = f'is "{value}", as is {key}[{first[value]}]'
            yield Finding((key, index, *inner), message, remedy)
        first.setdefault(value, index)


def _few_and_distinct(entries: list[tuple[int, Adapter]]) -> Iterator[Finding]:
    total = sum(entry.count for _, entry in entries)
    if total > MAX_ADAPTERS:
        message = f"are {total:,} in all, above the limit of {MAX_ADAPTERS:,} adapters"
        yield Finding(("adapters",), message, "lower their counts or split the scenario")
        return
    owner: dict[str, int] = {}
    for index, entry in entries:
        taken = next((name for name in entry.names() if owner.setdefault(name, index) != index), None)
        if taken is not None:
            message = f'gives the name "{taken}", which adapters[{owner[taken]}] has too'
            yield Finding(("adapters", index, "name"), message, "rename one of them")


def _rank_fits(index: int, entry: Adapter, limit: int) -> Iterator[Finding]:
    several = isinstance(entry.rank, tuple)
    for k, rank in enumerate(entry.rank if isinstance(entry.rank, tuple) else (entry.rank,)):
        if rank > limit:
            loc: Loc = ("adapters", index, "rank", k) if several else ("adapters", index, "rank")
            remedy = f'raise max_lora_rank or drop adapter "{entry.name}"'
            yield Finding(loc, f"is {rank}, above engine.max_lora_rank {limit}", remedy)


def _levels_stricter(index: int, entry: Adapter, levels: ServiceLevelObjectives) -> Iterator[Finding]:
    share = None if entry.service_levels is None else entry.service_levels.served_share
    if share is not None and share < levels.adapter_served_share:
        yield Finding(
            ("adapters", index, "service_levels", "served_share"),
            f"is {share:g}, below service_levels.adapter_served_share {levels.adapter_served_share:g}, "
            "which every adapter must get",
            "raise it, or lower adapter_served_share for all adapters",
        )


def _conversations_start(entries: list[tuple[int, Adapter]], workload: Workload) -> Iterator[Finding]:
    """Yield conversations of entries that have the workload's recording for their arrivals."""
    for index, entry in entries:
        if (
            entry.sessions is not None
            and entry.arrivals is None
            and isinstance(workload.arrivals, RecordedArrivals)
        ):
            process = workload.arrivals.process
            message = f"are given, and workload.arrivals are {process}, which start no conversations"
            yield Finding(
                ("adapters", index, "sessions"), message, "remove them, or give the entry arrivals of its own"
            )


def _groups_agree(entries: list[tuple[int, Adapter]], workload: Workload) -> Iterator[Finding]:
    """Yield processes of a group that differ: its adapters cannot rise together by two of them."""
    first: dict[str, tuple[str, Arrivals]] = {}
    places: list[tuple[Loc, str, Arrivals | None]] = [(("workload",), "workload", workload.arrivals)]
    places += [(("adapters", index), f"adapters[{index}]", entry.arrivals) for index, entry in entries]
    for loc, text, arrivals in places:
        if not isinstance(arrivals, OnOffArrivals | UnpredictableArrivals) or arrivals.group is None:
            continue
        where, other = first.setdefault(arrivals.group, (text, arrivals))
        if arrivals != other:
            message = f'is "{arrivals.group}", as in {where}.arrivals, which differs otherwise'
            yield Finding((*loc, "arrivals", "group"), message, "make them equal, or rename one group")


def _whole_prompts_fit(index: int, entry: Adapter, workload: Workload, limit: int) -> Iterator[Finding]:
    """Yield what makes prompts too long that fit without: a system prompt, or what was said before."""
    prompt, output = entry.prompt or workload.prompt, entry.output or workload.output
    if entry.reuse is None or prompt is None or output is None:
        return
    longest = prompt.longest_tokens
    unstated = isinstance(prompt, LognormalLengths) and longest == UNSTATED_MAX
    if prompt.mean_tokens + output.mean_tokens > limit or (longest >= limit and not unstated):
        return  # it is told that they do not fit without
    key, less = ("system_prompt", "lower it") if entry.sessions is None else ("sessions", "have fewer turns")
    mean = entry.reuse.mean_prompt_tokens(prompt.mean_tokens, output.mean_tokens)
    total = mean + output.mean_tokens
    if total > limit:
        yield Finding(
            ("adapters", index, key),
            f"makes prompts of {mean:,.0f} tokens on average, with their answers {total:,.0f}, above "
            f"engine.max_model_len {limit:,}",
            f"{less}, or raise max_model_len to {math.ceil(total):,} or more",
        )
    elif not unstated and entry.system_prompt + longest >= limit:
        most = entry.system_prompt + longest
        yield Finding(
            ("adapters", index, "system_prompt"),
            f"lets prompts have {most:,} tokens, and the engine refuses those of engine.max_model_len "
            f"{limit:,} and more",
            f"lower it, or raise max_model_len to {most + 1:,} or more",
        )


def _lengths_fit(
    loc: Loc, prompt: Lengths | None, output: Lengths | None, limit: int, own: Sequence[str] = LENGTHS
) -> Iterator[Finding]:
    """Yield what is too long; of lengths that are not an entry's own, the workload tells."""
    for key, lengths in zip(LENGTHS, (prompt, output), strict=True):
        if lengths is not None and lengths.mean_tokens >= limit:
            if key in own:
                mean = f"has {lengths.mean_tokens:g} tokens on average"
                message = f"{mean}, not below engine.max_model_len {limit}"
                yield Finding((*loc, key), message, "shorten it or raise max_model_len")
            return
    if prompt is not None and "prompt" in own:
        yield from _prompts_taken((*loc, "prompt"), prompt, limit)
    if prompt is None or output is None:
        return
    total = prompt.mean_tokens + output.mean_tokens
    if total > limit:
        mean = f"has prompts and outputs of {total:g} tokens together on average"
        message = f"{mean}, above engine.max_model_len {limit}"
        yield Finding(loc, message, "shorten them or raise max_model_len")


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
