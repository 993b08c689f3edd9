"""What prompts of a trace have in common with earlier ones."""

from __future__ import annotations

import numpy as np

from twin.engine.requests import IntArray
from twin.workload.trace_replay import Replay
from twin.workload.traces import PrefixHashes, Rows, Trace


def common_prefixes(trace: Trace, replay: Replay) -> tuple[IntArray, IntArray] | None:
    """With which earlier request each prompt has most in common, and how many tokens.

    That is the longest prefix in whole blocks of the trace's hashes; a last block in part counts where both
    prompts end in it. Of several requests with it the latest is taken, whose blocks a cache has used last.
    Only requests of one adapter, and of one repetition and copy of the trace, have text in common: what came
    an hour later, or was copied, was other text.

    Returns
    -------
    tuple or None
        `Requests.continues` and `Requests.common_tokens`; None if the trace has no hashes.
    """
    hashes = trace.hashes
    if hashes is None:
        return None
    n = len(replay.row)
    continues, common = np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.int32)
    by_take = np.argsort(replay.take, kind="stable")
    edges = np.flatnonzero(np.diff(replay.take[by_take])) + 1
    for members in np.split(by_take, edges):
        _link(hashes, replay, members, continues, common)
    prompt = trace.prompt_tokens[replay.row]
    linked = continues >= 0
    common[linked] = np.minimum(common, np.minimum(prompt, prompt[continues]))[linked]
    return continues, common


def _link(hashes: PrefixHashes, replay: Replay, members: Rows, continues: IntArray, common: IntArray) -> None:
    """Fill in the requests of one repetition, ``members`` in the order of arrival."""
    count, ids = hashes.of(replay.row[members])
    owner = np.repeat(np.arange(len(members)), count)
    # One number for a block's hash and an adapter; equal ones stay in the order of arrival.
    key = replay.adapter[members][owner].astype(np.int64) * (int(ids.max(initial=0)) + 1) + ids
    order = np.argsort(key, kind="stable")
    earlier = np.full(len(ids), -1, dtype=np.int64)
    same = np.flatnonzero((np.diff(key[order]) == 0) & (np.diff(owner[order]) > 0))
    earlier[order[same + 1]] = owner[order[same]]
    found = np.flatnonzero(earlier >= 0)
    last = found[np.append(np.diff(owner[found]) > 0, True)] if len(found) else found
    block = last - (np.cumsum(count) - count)[owner[last]]
    continues[members[owner[last]]] = members[earlier[last]]
    common[members[owner[last]]] = (block + 1) * hashes.block_tokens
