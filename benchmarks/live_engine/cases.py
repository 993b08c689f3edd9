"""The runs by which a profile is tried: none of them is like those that it was fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from live_engine.foretelling import boundary
from live_engine.loads import Case, batch, stream, with_common_prefix
from live_engine.tiny_engine import TinyEngine
from twin import EngineProfile

LOADS = (0.5, 0.85, 1.2, 1.4)
"""Two loads below the boundary and two above, as shares of it."""


def cases(engine: TinyEngine, profile: EngineProfile, seconds: float) -> Iterator[Case]:
    """The runs, in an order in which each engine is started once.

    Parameters
    ----------
    engine
        The engine that was measured; others are changed from it.
    profile
        What was fitted.
    seconds
        Length of a run.
    """
    rate = boundary(engine, profile, seconds)
    for share in LOADS:
        requests = stream(engine, share * rate, seconds, seed=1)
        yield Case(f"all adapters alike, {share:g} of the boundary", engine, requests, seconds)
    rounds = 4
    yield Case("12 at a time, 3 adapters", engine, batch(engine, 12, rounds, 3), math.inf)
    other = engine.changed(max_loras=4, max_num_seqs=16)
    skewed = boundary(other, profile, seconds)
    requests = stream(other, 0.9 * skewed, seconds, seed=2, skew=1.2)
    yield Case("4 slots, batches to 16, skewed, 0.9 of its boundary", other, requests, seconds)
    cached = engine.changed(enable_prefix_caching=True)
    for one, word in ((cached, "on"), (engine, "off")):
        requests = with_common_prefix(stream(one, 0.4 * rate, seconds, seed=3), 96)
        yield Case(f"prompts that begin alike, prefix caching {word}", one, requests, seconds)


def by_engine(every: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of one engine together, in their order."""
    found: dict[str, list[Case]] = {}
    for case in every:
        found.setdefault(repr(sorted(case.engine.arguments.items())), []).append(case)
    return found
