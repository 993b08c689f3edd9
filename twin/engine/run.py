"""``run`` plays requests on one engine: the entrance to the compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from scenarios import LorapackError
from twin.engine.compiled.bulk_copy import read_requests
from twin.engine.compiled.loop import advance, advance_ahead, advance_special
from twin.engine.records import STEP_COLUMNS, RunRecords, in_order_of_arrival
from twin.engine.requests import FloatArray, Requests
from twin.engine.setup import EngineSetup
from twin.engine.speculation import PlayedSteps
from twin.engine.state import Engine, SpecialState, State, engine_constants, initial_state

ROWS_PER_CALL = 65_536
"""Step rows that the compiled loop, which allocates nothing, fills before it comes back for more space."""

SERIES_BINS = 120
"""Parts into which the time series cuts a run, where nothing else is asked."""


class EngineInputError(LorapackError, ValueError):
    """Requests or an engine that the loop cannot play."""


class UnservableRequestError(EngineInputError):
    """A request needs more KV blocks than the engine has."""


def simulate_requests(
    requests: Requests,
    setup: EngineSetup,
    horizon_s: float = inf,
    *,
    warmup_s: float = 0.0,
    series_bins: int = SERIES_BINS,
    record_steps: bool = False,
) -> RunRecords:
    """Play requests on one engine; one that speculates by the step, as `twin.engine.speculation` says.

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
    EngineInputError
        If the requests are out of order or of no length, or a cost table is too short.
    UnservableRequestError
        If a request would need more KV blocks than there are, so that the engine could never serve it.
    """
    _check_tables(requests, setup)
    if len(requests):
        _check_requests(requests)
        _check_blocks(requests, setup)
    if setup.speculation is not None:
        by_step = PlayedSteps.of(requests, setup, setup.speculation)
        records = simulate_requests(
            by_step.requests,
            by_step.setup,
            horizon_s,
            warmup_s=warmup_s,
            series_bins=series_bins,
            record_steps=record_steps,
        )
        return by_step.restored(records, requests, setup)
    constants = engine_constants(requests, setup, horizon_s, warmup_s, horizon_s / series_bins)
    state = initial_state(requests, setup, series_bins)
    rows = np.empty((ROWS_PER_CALL if record_steps else 0, len(STEP_COLUMNS)))
    parts = []
    while loop_for(setup, state)(constants, state, rows):
        parts.append(rows.copy())
        state.now["rows"] = 0
    parts.append(rows[: state.now["rows"]].copy())
    return _records(
        requests, setup, state, horizon_s, series_bins, np.concatenate(parts) if record_steps else None
    )


def loop_for(setup: EngineSetup, state: State) -> Callable[[Engine, State, FloatArray], bool]:
    """The compiled loop that plays an engine from a state on."""
    if setup.async_scheduling:
        return advance_ahead
    return advance_special if isinstance(state, SpecialState) else advance


def _records(
    requests: Requests,
    setup: EngineSetup,
    state: State,
    horizon_s: float,
    bins: int,
    steps: FloatArray | None,
) -> RunRecords:
    n = len(requests)
    sent, first_scheduled, first_token, finish = np.empty((4, n))
    generated, preemptions = np.empty((2, n), dtype=np.int32)
    read_requests(state.request, sent, first_scheduled, first_token, finish, generated, preemptions)
    records = RunRecords(
        requests=requests,
        horizon_s=horizon_s,
        end_s=float(state.now["clock"]),
        sent_s=sent,
        first_scheduled_s=first_scheduled,
        first_token_s=first_token,
        finish_s=finish,
        generated_tokens=generated,
        preemptions=preemptions,
        gpu_loads=np.ascontiguousarray(state.adapter["gpu_loads"]),
        disk_loads=np.ascontiguousarray(state.adapter["disk_loads"]),
        gaps=state.gaps,
        series=state.series.view(np.float64).reshape(bins, -1),
        series_width_s=horizon_s / bins,
        cached_tokens=np.maximum(state.extra["cached"], 0) if setup.prefix_caching else None,
        steps=steps,
    )
    return records if requests.follows is None else in_order_of_arrival(records, requests.follows)


def _check_tables(requests: Requests, setup: EngineSetup) -> None:
    """Compiled code does not look whether an index is in range: what it could reach must be there."""
    tables, adapters = setup.tables, min(setup.max_loras, requests.n_adapters)
    sizes = (
        ("tables.token_s", len(tables.token_s), setup.max_num_batched_tokens + 1),
        ("tables.adapter_s", len(tables.adapter_s), adapters + 1),
        ("tables.adapter_token_s", len(tables.adapter_token_s), adapters + 1),
        ("gpu_load_s", len(setup.gpu_load_s), requests.n_adapters),
        ("disk_load_s", len(setup.disk_load_s), requests.n_adapters),
        ("max_loras", setup.max_loras, 1),
        ("max_num_seqs", setup.max_num_seqs, 1),
        ("max_num_batched_tokens", setup.max_num_batched_tokens, 1),
        ("block_size", setup.block_size, 1),
    )
    for name, size, least in sizes:
        if size < least:
            raise EngineInputError(f"{name} is {size}, it must be at least {least}")


def _check_requests(requests: Requests) -> None:
    arrival, adapter = requests.arrival_s[: requests.n_independent], requests.adapter
    _check_followers(requests)
    if len(arrival) and not (arrival[0] >= 0 and (arrival[1:] >= arrival[:-1]).all()):
        raise EngineInputError("requests must be sorted by arrival, the first at 0 s or later")
    if min(int(requests.prompt_tokens.min()), int(requests.output_tokens.min())) < 1:
        raise EngineInputError("every request needs at least one prompt token and one output token")
    if int(adapter.min()) < 0 or int(adapter.max()) >= requests.n_adapters:
        raise EngineInputError(f"adapters are numbered from 0 to {requests.n_adapters - 1}")


def _check_followers(requests: Requests) -> None:
    follows, n = requests.follows, requests.n_independent
    if follows is None:
        return
    if (follows[:n] >= 0).any() or (follows >= len(requests)).any():
        raise EngineInputError("requests that follow others come after those that do not")
    later = follows[n:]
    if len(np.unique(later)) < len(later) or not (requests.arrival_s[n:] >= 0).all():
        raise EngineInputError("a request is followed by one other at most, 0 s later or more")


def _check_blocks(requests: Requests, setup: EngineSetup) -> None:
    longest = requests.prompt_tokens.astype(np.int64) + requests.output_tokens - 1
    worst = int(np.argmax(longest))
    need = -(-int(longest[worst]) // setup.block_size)
    if need > setup.usable_blocks:
        raise UnservableRequestError(
            f"request {worst} has {requests.prompt_tokens[worst]} prompt and "
            f"{requests.output_tokens[worst]} output tokens and needs {need} KV blocks, but the engine has "
            f"{setup.usable_blocks}; shorten it or leave more memory for the KV cache"
        )
