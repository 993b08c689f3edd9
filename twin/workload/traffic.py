"""Adapters of one GPU that have one process, and the streams of random numbers that are theirs alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios import Arrivals, OnOffArrivals, Sessions, UnpredictableArrivals
from twin.engine.requests import IntArray
from twin.load import GPULoad, played
from twin.workload.recordings import arrival_values
from twin.workload.traces import child_seed

Seed = np.random.SeedSequence | int


@dataclass(frozen=True)
class Traffic:
    """Adapters whose requests are drawn together.

    Parameters
    ----------
    arrivals
        Their process.
    sessions
        Their conversations; None: requests stand alone.
    adapters
        Which adapters of the GPU, ascending, shape (n,).
    of_workload
        Whether it is the workload's: requests that stand alone, of its process.
    """

    arrivals: Arrivals
    sessions: Sessions | None
    adapters: IntArray
    of_workload: bool

    def stream(self, seed: Seed, child: int) -> np.random.SeedSequence:
        """One of its streams: that of the workload's is the GPU's own, whatever else the GPU serves."""
        if self.of_workload:
            return child_seed(seed, child)
        sessions = None if self.sessions is None else self.sessions.model_dump(mode="json")
        own = _number("traffic", self.arrivals, {"sessions": sessions})
        return child_seed(child_seed(seed, own), child)

    def together(self, seed: Seed) -> np.random.Generator | None:
        """Source of the changes of rates that its adapters have in common; None: they have none."""
        arrivals = self.arrivals
        if not isinstance(arrivals, OnOffArrivals | UnpredictableArrivals) or arrivals.group is None:
            return None
        return np.random.default_rng(child_seed(seed, _number("group", arrivals, {})))


def traffic_of(load: GPULoad, arrivals: Arrivals) -> list[Traffic]:
    """The adapters of a GPU by what they send, in order of first appearance.

    Parameters
    ----------
    arrivals
        Process of those with none of their own.
    """
    if not any(load.arrivals) and not any(load.reuse):
        return [Traffic(arrivals, None, np.arange(len(load.names), dtype=np.int32), of_workload=True)]
    kinds: dict[tuple[Arrivals, Sessions | None], list[int]] = {}
    # Models take long to hash, and most adapters have neither.
    seen: dict[tuple[int, int], list[int]] = {}
    for k, (own, sessions) in enumerate(zip(_filled(load, load.arrivals), _sessions(load), strict=True)):
        key = (id(own), id(sessions))
        if key not in seen:
            process = arrivals if own is None else played(own)
            seen[key] = kinds.setdefault((process, sessions), [])
        seen[key].append(k)
    return [
        Traffic(process, sessions, np.array(members, dtype=np.int32), (process, sessions) == (arrivals, None))
        for (process, sessions), members in kinds.items()
    ]


def _sessions(load: GPULoad) -> list[Sessions | None]:
    return [None if reuse is None else reuse.sessions for reuse in _filled(load, load.reuse)]


def _filled(load: GPULoad, own: Sequence[Any]) -> Sequence[Any]:
    """What each adapter has of its own, which may be empty where none has."""
    return own or (None,) * len(load.names)


def _number(use: str, arrivals: Arrivals, other: dict[str, Any]) -> int:
    """A number by which streams of random numbers are known: of the content, whatever a trace is called."""
    text = json.dumps([use, arrival_values(arrivals), other], sort_keys=True)
    # Beyond 32 bits, which are left to the streams that are counted from 0.
    return 2**32 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
