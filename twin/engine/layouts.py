"""Layouts of the records that hold an engine's state.

Structured arrays rather than one array a field: what the loop needs of a request or an adapter lies side by
side, in one or two lines of the processor's cache. Fields that every request has are no wider than need be.
"""

from __future__ import annotations

import numpy as np


def layout_of(fields: dict[str, str]) -> np.dtype[np.void]:
    """Layout of records with some fields, each where the processor reads it best."""
    return np.dtype(list(fields.items()), align=True)


NOW = layout_of(
    {
        "clock": "f8",
        "arrival": "f8",  # when the client sends its next request; infinite under its full cap
        "open_again": "f8",  # when the end of a request last lifted the client's full cap
        "next": "i8",  # request that arrives next, of those that follow no other
        "arrived": "i8",  # requests so far
        "followers": "i8",  # requests whose predecessor ended, and that are to be sent
        "running": "i8",
        "waiting": "i8",
        "first": "i8",  # running request admitted first, and last; -1 if there is none
        "last": "i8",
        "admitted": "i8",  # admissions so far
        "front": "i8",  # place before the front of the waiting requests
        "line_first": "i8",  # ends of the line, where it is kept (`twin.engine.compiled.line`), ...
        "line_last": "i8",
        "passed_first": "i8",  # ... start of the queue of those that were passed over, ...
        "aside_first": "i8",  # ... and of those that this step's scan has passed over
        "aside_last": "i8",
        "free": "i8",  # KV blocks
        "distinct": "i8",  # adapters of the running requests
        "kept": "i8",  # adapters of running requests that are all over, which take slots for one step more
        "slots_used": "i8",
        "cpu_used": "i8",
        "residents": "i8",  # adapters in slots before this step
        "pending": "i8",  # adapters to be loaded before the step
        "returned": "i8",  # adapters that run again from this step on, having idled in a slot for a while
        "decoding": "i8",  # running requests that decode, and their context in tokens
        "context": "i8",
        "decode_steps": "i8",  # so far
        "phase": "i8",  # class whose requests need a block in the next decode step
        "partials": "i8",  # running requests in prefill
        "planned": "i8",  # the same with those admitted in this step
        "steps": "i8",  # stamp of this step; rises from step to step, by more than one after a fast forward
        "step_decodes": "i8",  # of this step: decoding requests, their context, prefill tokens, ...
        "step_context": "i8",
        "step_prefill": "i8",
        "step_adapters": "i8",
        "step_preempted": "i8",
        "rest": "i8",  # first running request that a spent budget left out of this step, or -1
        "short": "i8",  # waiting request that this step had no blocks for, or -1
        "rows": "i8",  # step rows written
        "tables": "i8",  # of blocks that nobody has
        "ended": "i8",  # requests that ended with the last step and hold their blocks still
        "ahead": "i8",  # whether what is scheduled comes after a step that is under way
        "gone": "i8",  # decodes of this step whose requests ended before it began
        "ghosts": "i8",  # requests that were preempted while their last token was under way
        "seen_running": "i8",  # running and waiting requests when the step was scheduled
        "seen_waiting": "i8",
    }
)
"""What there is once: the clock, and counts."""

REQUEST = layout_of(
    {
        "arrival": "f8",
        "sent": "f8",
        "first_scheduled": "f8",
        "first_token": "f8",
        "finish": "f8",
        "paused": "f8",  # when it was preempted while it decoded
        "shift": "i8",  # generated tokens of a decoding request, less the decode steps so far
        "prompt": "i4",
        "output": "i4",
        "adapter": "i4",
        "generated": "i4",  # tokens, as of when it last started or stopped to decode
        "computed": "i4",  # tokens, of a request in prefill
        "preemptions": "i4",
        "follower": "i4",  # in its queue, or in the batch
        "earlier": "i4",  # in the batch
        "due_next": "i4",  # in its slot of the timing wheel
        "due_prev": "i4",
        "place": "i4",  # among all waiting requests
        "order": "i4",  # of admission
        "decoding": "?",
    }
)
"""Of a request."""

ADAPTER = layout_of(
    {
        "gpu_load_s": "f8",
        "disk_load_s": "f8",
        "gpu_loads": "i8",
        "disk_loads": "i8",
        "turn": "i8",  # place in the order in which adapters are brought into slots
        "touched": "i8",  # last step that did so before it became idle, or copied it
        "entered": "i8",  # step in which it last began to run
        "seen": "i8",  # last step that scheduled it request by request
        "head": "i4",  # ends of its queue
        "tail": "i4",
        "active": "i4",  # running requests
        "over": "i4",  # of them, those that are over
        "base": "?",  # the base model, which needs no slot
        "in_slot": "?",
        "in_cpu": "?",
    }
)
"""Of an adapter."""

EXTRA = layout_of(
    {
        "successor": "i4",  # request that is sent ``arrival`` seconds after this one's last token, or -1
        "heap": "i4",  # requests that are to be sent, by arrival: a heap, whatever request this is
        "stated": "i4",  # tokens that are taken for computed when it is admitted
        "table": "i4",  # its row of the tables of blocks, while it runs
        "blocks": "i4",  # that it holds
        "known": "i4",  # of them, from the first, that can be found by others
        "cached": "i4",  # tokens that were found when it was first admitted, or -1
        "left_at": "i4",  # last step that had no room for it though it decoded
        "over": "?",  # it has its last token, and is among the running ones still
        "class_before": "i4",  # of those that need their blocks in the same decode step
        "class_after": "i4",
    }
)
"""Of a request, where there are followers, a cache or steps ahead."""

BLOCK = layout_of(
    {
        "text": "i8",  # by which it can be found, or -1
        "users": "i4",  # requests that hold it
        "younger": "i4",  # the next block of the same text, or -1
        "before": "i4",  # in the queue of free blocks
        "after": "i4",
    }
)
"""Of a block, and of the ends of the queue of free ones, where there is a cache."""

PLAN = layout_of(
    {
        "request": "i4",
        "chunk": "i4",
        "ended": "i4",  # requests that ended with the last step and hold their blocks still
        "free_table": "i4",  # rows of the tables of blocks that nobody has
    }
)
"""Lists that are as long as the batch may be; each field is a list of its own."""

CLASS = layout_of({"count": "i8", "first": "i4"})
"""Of the decoding requests that need their blocks in the same step."""
