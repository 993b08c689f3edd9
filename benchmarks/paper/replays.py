"""Workloads from recordings: rates of one window to plan by, and the next window to be replayed.

A trace of requests names no adapter: its requests are dealt, with a popularity drawn once for both windows
from Dirichlet(0.5), at least one in each window to each adapter. Of ServeGen's recording each client is an
adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import scenarios
from benchmarks.paper.part import DEVICE
from benchmarks.paper_sets import TEMPLATES
from twin.engine.requests import FloatArray
from twin.workload.servegen.clients import ClientTrace, read_servegen
from twin.workload.trace_files import read_trace
from twin.workload.trace_replay import clocked_trace
from twin.workload.traces import Trace, deal_to_each

ALPHA = 0.5
"""Of the Dirichlet distribution of popularity, as in the paper."""

MOST_GPUS = 4

_COLUMNS = {"time": "t", "prompt": "prompt", "output": "output", "adapter": "adapter"}


@dataclass(frozen=True)
class Recording:
    """A recording cut into the window that is known and the one that is to come.

    Parameters
    ----------
    files
        The trace, or ServeGen's table of a day and that of its clients.
    total
        Requests/s that the first window is brought to, by thinning or laying copies over each other.
    ranks
        Dealt to the adapters in turn.
    known_s, end_s
        Seconds of the recording at which the second window begins and ends; the first is as long.
    n_adapters
        Adapters that a trace is dealt to.
    seed
        Of popularity, copies and dealing.
    """

    files: tuple[Path, ...]
    total: float
    ranks: tuple[int, ...]
    known_s: float
    end_s: float
    n_adapters: int = 0
    seed: int = 0

    @property
    def window_s(self) -> float:
        """Seconds of a window."""
        return self.end_s - self.known_s

    def known(self, criterion: str, replications: int) -> scenarios.Scenario:
        """What a plan is made for: Poisson arrivals at the rates of the first window."""
        rate = self._dealt[0] if len(self.files) == 1 else self._clients[0]
        return self._scenario(rate, {"process": "poisson"}, criterion, replications)

    def to_come(self, folder: Path, replications: int) -> scenarios.Scenario:
        """What is replayed: the second window, by the paper's criterion.

        Parameters
        ----------
        folder
            Where the dealt requests are written to, as a trace.
        """
        if len(self.files) == 1:
            arrivals, rate, seconds = self._written(folder)
        else:
            day, clients = map(str, self.files)
            arrivals = {
                "process": "servegen", "file": day, "clients": clients, "each_client": True,
                "start_s": self.known_s,
            }  # fmt: skip
            rate, seconds = self._clients[1], self.window_s
        return self._scenario(rate, arrivals, "paper", replications, seconds)

    def _scenario(
        self,
        rate: Mapping[str, float],
        arrivals: Mapping[str, Any],
        criterion: str,
        replications: int,
        seconds: float = 3600.0,
    ) -> scenarios.Scenario:
        template = scenarios.read(TEMPLATES["llama"])
        workload = template.workload
        assert workload.prompt is not None
        assert workload.output is not None  # the shipped scenarios say both
        return scenarios.from_mapping(
            {
                "name": "replay",
                "model": template.model,
                "acceptance": criterion,
                "replications": replications,
                "adapters": [
                    {"name": name, "rank": self.ranks[k % len(self.ranks)], "rate": one}
                    for k, (name, one) in enumerate(rate.items())
                ],
                "workload": {
                    "arrivals": dict(arrivals),
                    "prompt": workload.prompt.model_dump(),
                    "output": workload.output.model_dump(),
                    "duration_s": seconds,
                },
                "devices": [{"name": DEVICE, "count": MOST_GPUS}],
                "engine": template.engine.model_dump(exclude_unset=True),
            }
        )

    # --- a trace of requests, dealt ---

    @cached_property
    def _dealt(self) -> tuple[dict[str, float], Trace]:
        """Rates of the first window, and the requests of the second with the name of each one's adapter."""
        rng = np.random.default_rng(self.seed)
        trace = read_trace(self.files[0])
        windows = [
            trace.between(self.known_s - self.window_s, self.known_s),
            trace.between(self.known_s, self.end_s),
        ]
        share = self.total / windows[0].mean_rate
        popularity = rng.dirichlet(np.full(self.n_adapters, ALPHA))
        first, second = (self._played(window, share, popularity, rng) for window in windows)
        assert first.name is not None
        counts = np.bincount(first.name, minlength=self.n_adapters) / self.window_s
        return dict(zip(first.names, counts.tolist(), strict=True)), second

    def _played(self, window: Trace, share: float, popularity: FloatArray, rng: np.random.Generator) -> Trace:
        played = clocked_trace(window, share, self.window_s, rng)
        names = tuple(f"adapter-{k:02d}" for k in range(self.n_adapters))
        return Trace(
            arrival_s=played.arrival_s,
            prompt_tokens=window.prompt_tokens[played.row],
            output_tokens=window.output_tokens[played.row],
            period_s=self.window_s,
            names=names,
            name=deal_to_each(len(played.row), popularity, rng),
        )

    def _written(self, folder: Path) -> tuple[dict[str, Any], dict[str, float], float]:
        """The second window as a file: arrivals, the rates at which it is played as it is, its seconds."""
        second = self._dealt[1]
        assert second.name is not None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{second.digest}.csv"
        names = np.array(second.names, dtype=object)[second.name]
        columns = (second.arrival_s, second.prompt_tokens, second.output_tokens, names)
        frame = pd.DataFrame(dict(zip(_COLUMNS.values(), columns, strict=True)))
        scenarios.write_whole(path, frame.to_csv(index=False))
        arrivals = {"process": "trace", "file": str(path), "columns": _COLUMNS, "time_unit": "s"}
        read = scenarios.TraceArrivals.model_validate(arrivals)
        period = read_trace(path, read.columns, "s").period_s
        counts = np.bincount(second.name, minlength=self.n_adapters) / period
        return arrivals, dict(zip(second.names, counts.tolist(), strict=True)), period

    # --- ServeGen's clients ---

    @cached_property
    def _clients(self) -> tuple[dict[str, float], dict[str, float]]:
        """Rates of each client in the first window, and over the recording: those that its windows have."""
        clients = sorted(read_servegen(*self.files), key=lambda client: client.client)
        begun = self.known_s - self.window_s
        total = sum(client.rate_between(begun, self.known_s) for client in clients)
        share = self.total / total
        # A client that was silent counts as one that came once.
        known = {c.name: max(share * self._rate(c), 1 / self.window_s) for c in clients if c.mean_rate}
        return known, {c.name: share * c.mean_rate for c in clients if c.mean_rate}

    def _rate(self, client: ClientTrace) -> float:
        return client.rate_between(self.known_s - self.window_s, self.known_s)
