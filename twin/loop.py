"""``run`` plays requests on one engine: the entrance to the compiled loop."""

from __future__ import annotations

from math import inf

import numpy as np

from scenarios.errors import LorapackError
from twin.records import STEP_COLUMNS, RunRecords
from twin.requests import FloatArray, Requests
from twin.setup import EngineSetup
from twin.state import State, engine, state
from twin.steps import advance

ROWS_PER_CALL = 65_536


class UnservableRequestError(LorapackError, ValueError):
    """A request needs more KV blocks than the engine has."""


def run(
    requests: Requests,
    setup: EngineSetup,
    horizon_s: float = inf,
    *,
    warmup_s: float = 0.0,
    series_bins: int = 120,
    record_steps: bool = False,
) -> RunRecords:
    """Play requests on one engine.

    Parameters
    ----------
    requests
        In arrival order.
    setup
        The engine.
    horizon_s
        Seconds after which the run is cut; what is unfinished then is censored.
    warmup_s
        The histogram of gaps leaves out what happened before.
    series_bins
        Parts into which the time series cuts the time to the horizon.
    record_steps
        Whether to keep one row per step.

    Raises
    ------
    UnservableRequestError
        If a request would need more KV blocks than there are, so that the engine could never serve it.
    """
    _check(requests, setup)
    constants = engine(requests, setup, horizon_s, warmup_s, horizon_s / series_bins)
    s = state(requests, setup, series_bins)
    rows = np.empty((ROWS_PER_CALL if record_steps else 0, len(STEP_COLUMNS)))
    parts = []
    while advance(constants, s, rows):
        parts.append(rows.copy())
        s.now["rows"] = 0
    parts.append(rows[: s.now["rows"]].copy())
    return _records(requests, s, horizon_s, series_bins, np.concatenate(parts) if record_steps else None)


def _records(
    requests: Requests, s: State, horizon_s: float, bins: int, steps: FloatArray | None
) -> RunRecords:
    columns = {
        f"{name}_s": np.ascontiguousarray(s.request[name])
        for name in ("sent", "first_scheduled", "first_token", "finish")
    }
    return RunRecords(
        requests=requests,
        horizon_s=horizon_s,
        end_s=float(s.now["clock"]),
        generated_tokens=np.ascontiguousarray(s.request["generated"]),
        preemptions=np.ascontiguousarray(s.request["preemptions"]),
        gpu_loads=np.ascontiguousarray(s.adapter["gpu_loads"]),
        disk_loads=np.ascontiguousarray(s.adapter["disk_loads"]),
        gaps=s.gaps,
        series=s.series.view(np.float64).reshape(bins, -1),
        series_width_s=horizon_s / bins,
        steps=steps,
        **columns,
    )


def _check(requests: Requests, setup: EngineSetup) -> None:
    if not len(requests):
        return
    longest = requests.prompt_tokens.astype(np.int64) + requests.output_tokens - 1
    worst = int(np.argmax(longest))
    need = -(-int(longest[worst]) // setup.block_size)
    if need > setup.usable_blocks:
        raise UnservableRequestError(
            f"request {worst} has {requests.prompt_tokens[worst]} prompt and "
            f"{requests.output_tokens[worst]} output tokens and needs {need} KV blocks, but the engine has "
            f"{setup.usable_blocks}; shorten it or leave more memory for the KV cache"
        )
