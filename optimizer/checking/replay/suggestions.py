"""What differences between foretold and measured figures suggest, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from optimizer.checking.replay.check_params import CheckParams
from optimizer.checking.replay.check_report import CheckedAdapter, CheckedFigure, CheckedGPU

CONSTANT = 0.5
"""How far the excess of the median time to first token may be from that of its mean, as a share of that,
where both come from a constant that is added to all."""

RARE_FACTOR = 2.0
"""How many times the excess of frequent adapters that of rare ones must be, to be told."""


def suggestions_of(gpu: CheckedGPU, params: CheckParams) -> Iterator[str]:
    """What a GPU's figures suggest, the most likely cause first."""
    named = {one.name: one for one in gpu.figures}
    if gpu.client_lag_s is not None and gpu.client_lag_s > params.client_lag_s:
        yield (
            f"the client sent requests up to {gpu.client_lag_s:.2g} s late: its machine is too slow or busy, "
            "so that these figures cannot be trusted; check from another one, or fewer GPUs at once"
        )
    if gpu.foreign_requests is not None and gpu.foreign_requests > params.foreign_share * gpu.requests:
        yield (
            f"the server answered {gpu.foreign_requests:,} requests of others meanwhile, which the twin does "
            "not know of: check it while it serves nobody else"
        )
    yield from _of_arguments(gpu)
    if any(gpu.failed.values()):
        yield "requests failed: see the server's log from that time"
    yield from _of_latencies(gpu, named)
    better = [one for one in gpu.figures if one.differs == "better"]
    if better and gpu.holds:
        yield (
            "it is faster than foretold: the profile is cautious; `lorapack calibrate --update` with runs of "
            "this server may save GPUs"
        )


def _of_arguments(gpu: CheckedGPU) -> Iterator[str]:
    for one in gpu.server.differing:
        if one.name == "engine_version":
            yield (
                f"the server runs release {one.told}, and the twin played {one.planned}: "
                "steps and scheduling may differ"
            )
        else:
            yield (
                f"{one.name} is not the plan's: start the server with the arguments that "
                "`lorapack export` writes"
            )


def _of_latencies(gpu: CheckedGPU, named: dict[str, CheckedFigure]) -> Iterator[str]:
    itl, ttft = named.get("itl_mean_ms"), named.get("ttft_mean_ms")
    if itl is not None and itl.differs == "worse" and itl.ratio is not None:
        yield (
            f"tokens take {itl.ratio:.2f} times as long as foretold: a slower GPU or host, other work on it, "
            "or arguments that no server tells; measure it, and correct the profile by "
            "`lorapack calibrate --update`"
        )
    elif ttft is not None and ttft.differs == "worse":
        yield from _of_first_tokens(gpu, named)
    elif named and named["throughput_tok_per_s"].differs == "worse" and not any(gpu.failed.values()):
        yield "fewer requests were answered than foretold, though tokens come as quickly: look at its queue"


def _of_first_tokens(gpu: CheckedGPU, named: dict[str, CheckedFigure]) -> Iterator[str]:
    """Why first tokens come late where the others come in time."""
    excess, middle = _excess(named["ttft_mean_ms"]), _excess(named["ttft_p50_ms"])
    if excess is None:
        return
    queued = "worse" in (named["throughput_tok_per_s"].differs, named["late_share"].differs)
    rare = _rare_excess(gpu.adapters)
    if rare is not None:
        yield (
            f"first tokens of rare adapters come {rare:,.0f} ms later than foretold, and those of frequent "
            "ones hardly: adapters are read from disk at their first use, or max_cpu_loras is not the plan's"
        )
    elif middle is not None and abs(middle - excess) <= CONSTANT * excess and not queued:
        yield (
            f"every first token comes about {middle:,.0f} ms later than foretold, and the others in time: "
            "the network, a proxy, or the tokeniser between client and engine"
        )
    else:
        yield (
            "requests wait longer than foretold for their first token, and the others come in time: fewer "
            "adapter slots or sequences than planned (max_loras, max_num_seqs), or slower loads of adapters"
        )


def _excess(figure: CheckedFigure) -> float | None:
    """By how much a figure is above what was foretold."""
    if figure.measured is None or figure.foretold is None:
        return None
    return figure.measured - figure.foretold


def _rare_excess(adapters: Sequence[CheckedAdapter]) -> float | None:
    """Mean excess in ms of the first tokens of the rarer half of the adapters, where it stands out."""
    told = [
        (one.completed, excess)
        for one in adapters
        if one.completed and (excess := _excess(one.figures[1])) is not None
    ]
    if len(told) < 4:
        return None
    told.sort()
    counts, excesses = np.array(told, dtype=np.float64).T
    half = len(told) // 2
    if counts[half - 1] >= counts[half:].mean() / RARE_FACTOR:
        return None  # none of them is rare
    rare, frequent = (
        float(np.average(excesses[part], weights=counts[part])) for part in (slice(half), slice(half, None))
    )
    return rare if rare > 0 and rare > RARE_FACTOR * max(frequent, 0.0) else None
