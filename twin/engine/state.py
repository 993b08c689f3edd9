"""The compiled loop's view of one engine: its constants, and the records that hold its state.

A request waits in the queue of its adapter, or it runs. A running request is in prefill until it has
caught up with what its client sent and what it had generated, then it decodes, one token per step.
Decoding requests are never visited step by step: every number about them is a sum, a count or an entry
in a timing wheel, relative to the count of decode steps (``Now.decode_steps``).

Constants and state are structured arrays, which compiled functions reach through plain pointers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.engine.compiled.bulk_copy import write_requests
from twin.engine.layouts import ADAPTER, BLOCK, CLASS, EXTRA, NOW, PLAN, REQUEST, layout_of
from twin.engine.records import GAP_BINS, SERIES
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.engine.setup import EngineSetup
from twin.engine.texts import TEXT, number_texts

Counts = NDArray[np.int64]

Record = Any
"""An element of a structured array; its fields are attributes in compiled code."""

Engine = Any
"""A record of the constants of a run (`engine_constants`)."""

EMPTY = np.iinfo(np.int64).max
"""Key of an empty queue."""

NOBODY = -1
"""In place of a request, where there is none."""


class State(NamedTuple):
    """What the loop reads and changes in place; n requests, m adapters.

    Parameters
    ----------
    now
        The record of ``NOW``.
    request, adapter
        Records, shapes (n,) and (m,).
    plan
        Requests in prefill in the order of the batch, and their tokens in this step.
    due
        First decoding request that ends after a decode step, by slot of a timing wheel.
    classes
        Decoding requests by (context - decode steps) modulo block size: how many, and with prefix caching the
        first of them.
    tree
        Smallest key among the queues of adapters without (0) and with (1) running requests: two
        complete binary trees, the root at 1.
    slot_links, cpu_links
        Circular lists of adapters idle in slots and in CPU memory: followers and predecessors.
    residents, pending
        Adapters in slots and adapters to be loaded before the step, by turn.
    extra
        What few runs know of requests: who follows whom, and the blocks of each.
    block, text, holder
        Of an engine with prefix caching: the blocks, and after them the start and end of the queue of free
        ones; texts (`twin.engine.texts`), and the oldest block of each.
    tables
        Blocks of the running requests, one row for each.
    token_s, adapter_s, adapter_token_s
        Cost of a step.
    gaps, series
        As in the records of a run.
    """

    now: Record
    request: Record
    adapter: Record
    plan: Record
    due: IntArray
    classes: Record
    tree: Counts
    slot_links: IntArray
    cpu_links: IntArray
    residents: IntArray
    pending: IntArray
    extra: Record
    block: Record
    text: Record
    holder: IntArray
    tables: IntArray
    token_s: FloatArray
    adapter_s: FloatArray
    adapter_token_s: FloatArray
    gaps: Counts
    series: Record


class SpecialState(State):
    """The state of a run with a part that few have: the loop for them is compiled apart."""


def engine_constants(
    requests: Requests, setup: EngineSetup, horizon_s: float, warmup_s: float, width_s: float
) -> Engine:
    """Constants of a run of ``requests`` on ``setup``."""
    tables, rules = setup.tables, setup.rules
    values = {
        "requests": requests.n_independent,
        "adapters": requests.n_adapters,
        "max_loras": setup.max_loras,
        "max_cpu_loras": max(setup.max_cpu_loras, setup.max_loras),
        "max_num_seqs": setup.max_num_seqs,
        "budget": setup.max_num_batched_tokens,
        "threshold": setup.long_prefill_token_threshold,
        "block_size": setup.block_size,
        # vLLM takes the share of all blocks, the reserved one included.
        "watermark_blocks": int(rules.watermark * (setup.usable_blocks + 1)),
        "usable_blocks": setup.usable_blocks,
        "max_inflight": setup.max_inflight,
        "reserve_full_isl": rules.reserve_full_isl,
        "lone_ignores_threshold": rules.lone_request_ignores_threshold,
        "followed": requests.follows is not None,
        "stated": requests.cached_tokens is not None,
        "caching": setup.prefix_caching,
        "ahead": setup.async_scheduling,
        "slots_of_all_running": rules.slots_of_all_running,
        "after_last": rules.schedules_after_last,
        "frees_uncached_first": rules.frees_uncached_first,
        "keeps_line": rules.passed_over != "kept",
        "reverses_passed": rules.passed_over == "reversed",
    }
    seconds = {
        "horizon_s": horizon_s,
        "warmup_s": warmup_s,
        "series_width_s": width_s,
        "decode_s": tables.decode_s,
        "prefill_s": tables.prefill_s,
        "prompts_s": tables.prompts_s,
        "context_s": tables.context_s,
        "waiting_s": tables.waiting_s,
    }
    kinds = {name: "?" if isinstance(value, bool) else "i8" for name, value in values.items()}
    layout = layout_of(kinds | dict.fromkeys(seconds, "f8"))
    return np.array([(*values.values(), *seconds.values())], dtype=layout)[0]


def initial_state(requests: Requests, setup: EngineSetup, series_bins: int) -> State:
    """State of an idle engine: no adapter in a slot; if not cold, the first in CPU memory, last newest."""
    m = requests.n_adapters
    in_cpu = _in_cpu(requests, setup)
    # No request ends more decode steps from now than the longest answer has tokens.
    wheel = _power_of_two(int(requests.output_tokens.max(initial=0)) + 2)
    kind = SpecialState if is_special_run(requests, setup) else State
    return kind(
        now=_now(requests, setup, len(in_cpu)),
        request=_requests(requests),
        adapter=_adapters(setup, m, in_cpu),
        # One entry more than there can be requests: the first is looked at when there is none, too.
        plan=_plan(_most_running(requests, setup) + 1),
        due=np.full(wheel, -1, dtype=np.int32),
        classes=_classes(setup.block_size),
        tree=np.full((2, 2 * _power_of_two(m)), EMPTY, dtype=np.int64),
        slot_links=_ring(m, in_cpu[:0]),
        cpu_links=_ring(m, in_cpu),
        residents=np.zeros(min(setup.max_loras, m) + 1, dtype=np.int32),
        pending=np.zeros(min(setup.max_loras, m) + 1, dtype=np.int32),
        extra=_extra(requests, setup),
        **_caching(requests, setup),
        token_s=_floats(setup.tables.token_s),
        adapter_s=_floats(setup.tables.adapter_s),
        adapter_token_s=_floats(setup.tables.adapter_token_s),
        gaps=np.zeros(GAP_BINS, dtype=np.int64),
        series=np.zeros(series_bins, dtype=layout_of(dict.fromkeys(SERIES, "f8"))),
    )


_ENDS = ("line_first", "line_last", "passed_first", "aside_first", "aside_last")


def _in_cpu(requests: Requests, setup: EngineSetup) -> IntArray:
    """Adapters in CPU memory at the start."""
    loadable = np.arange(requests.n_adapters, dtype=np.int32)
    if setup.base is not None:
        loadable = loadable[~setup.base]
    return loadable[: 0 if setup.cold else max(setup.max_cpu_loras, setup.max_loras)]


def is_special_run(requests: Requests, setup: EngineSetup) -> bool:
    """Whether a run has what few have: the base model, requests that follow others, a cache, a line."""
    return (
        setup.prefix_caching
        or setup.async_scheduling
        or setup.rules.passed_over != "kept"
        or requests.follows is not None
        or requests.cached_tokens is not None
        or (setup.base is not None and bool(setup.base.any()))
    )


def _plan(size: int) -> Record:
    plan = np.zeros(size, dtype=PLAN)
    plan["free_table"] = np.arange(size)
    return plan


def _classes(block_size: int) -> Record:
    classes = np.zeros(block_size, dtype=CLASS)
    classes["first"] = NOBODY
    return classes


def _now(requests: Requests, setup: EngineSetup, in_cpu: int) -> Record:
    now = np.zeros(1, dtype=NOW)
    now["arrival"] = requests.arrival_s[0] if requests.n_independent else np.inf
    now["open_again"] = -np.inf
    for name in ("first", "last", "front", *_ENDS):
        now[name] = NOBODY
    now["free"], now["cpu_used"] = setup.usable_blocks, in_cpu
    now["phase"] = 1 % setup.block_size
    now["tables"] = _most_running(requests, setup) if setup.prefix_caching else 0
    return now[0]


def _most_running(requests: Requests, setup: EngineSetup) -> int:
    return min(setup.max_num_seqs, len(requests))


def _caching(requests: Requests, setup: EngineSetup) -> dict[str, Any]:
    """The parts of the state that only prefix caching has; empty without."""
    n, blocks = (len(requests), setup.usable_blocks) if setup.prefix_caching else (0, -1)
    texts, numbers = number_texts(requests, setup.block_size) if n else (np.zeros(0, dtype=TEXT), 0)
    records = np.zeros(blocks + 1, dtype=BLOCK)
    records["text"] = records["younger"] = NOBODY
    records["after"] = np.roll(np.arange(blocks + 1), -1)
    records["before"] = np.roll(np.arange(blocks + 1), 1)
    rows = _most_running(requests, setup) if n else 0
    longest = int((requests.prompt_tokens.astype(np.int64) + requests.output_tokens).max()) if n else 0
    return {
        "block": records,
        "text": texts,
        "holder": np.full(numbers, NOBODY, dtype=np.int32),
        "tables": np.zeros((rows, -(-longest // setup.block_size)), dtype=np.int32),
    }


def _requests(requests: Requests) -> Record:
    records = np.empty(len(requests), dtype=REQUEST)
    tokens = (requests.prompt_tokens, requests.output_tokens, requests.adapter)
    columns = (np.ascontiguousarray(column, dtype=np.int32) for column in tokens)
    write_requests(records, _floats(requests.arrival_s), *columns)
    return records


def _extra(requests: Requests, setup: EngineSetup) -> Record:
    used = (
        setup.prefix_caching
        or setup.async_scheduling
        or requests.follows is not None
        or requests.cached_tokens is not None
    )
    extra = np.zeros(len(requests) if used else 0, dtype=EXTRA)
    extra["successor"] = extra["cached"] = extra["left_at"] = NOBODY
    if requests.cached_tokens is not None:
        extra["stated"] = requests.cached_tokens
    if requests.follows is not None:
        later = np.flatnonzero(requests.follows >= 0)
        extra["successor"][requests.follows[later]] = later
    return extra


def _adapters(setup: EngineSetup, m: int, in_cpu: IntArray) -> Record:
    adapters = np.zeros(m, dtype=ADAPTER)
    adapters["gpu_load_s"], adapters["disk_load_s"] = setup.gpu_load_s, setup.disk_load_s
    adapters["turn"] = turns(m)
    adapters["touched"] = adapters["entered"] = adapters["seen"] = -1
    adapters["head"] = adapters["tail"] = -1
    adapters["in_cpu"][in_cpu] = True
    adapters["base"] = False if setup.base is None else setup.base
    return adapters


def turns(m: int) -> IntArray:
    """Places of m adapters in the order in which vLLM brings them into slots: that of a hash set, so any."""
    return np.random.default_rng(0).permutation(m).astype(np.int32)


def _floats(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float64)


def _ring(m: int, linked: IntArray) -> IntArray:
    """Links of a circular list of some of m adapters; node m is its start and its end."""
    links = np.full((2, m + 1), -1, dtype=np.int32)
    ring = np.append(m, linked)
    links[0, ring], links[1, ring] = np.roll(ring, -1), np.roll(ring, 1)
    return links


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()
