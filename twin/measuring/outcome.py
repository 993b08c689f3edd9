"""What a stage of a measurement showed, in a few figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from scenarios import FrozenModel
from scenarios.reading.text_patterns import FILE_STEM
from twin import metrics
from twin.engine.requests import FloatArray
from twin.live import Answers
from twin.measured.tables import LARGEST
from twin.measuring.stage import Stage, StageKind

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=LARGEST)]


TOGETHER_S = 0.0003
"""Seconds below which a token came together with the one before: no engine makes steps that short."""


class Gauges(FrozenModel):
    """Means of what the server's metrics said during a stage."""

    running: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Requests in the batch."""
    waiting: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Requests in its queue."""
    kv_usage: Share
    """Share of the KV cache in use."""
    readings: Annotated[int, Field(ge=1)]
    """Readings behind the means."""


class Outcome(FrozenModel):
    """What a stage showed; None is what nothing was seen of."""

    name: Annotated[str, Field(pattern=FILE_STEM, max_length=100)]
    """The stage, by which its files are named."""
    kind: StageKind
    """What it was for."""
    batch: Count
    """Requests at a time; 0: as they came."""
    distinct: Count
    """Adapters among them."""
    load: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Share of what the server can do, of runs."""
    seconds: Annotated[float, Field(ge=1e-3, lt=LARGEST)]
    """How long it lasted."""
    started_unix_s: Annotated[float, Field(ge=0, lt=1e11)]
    """When it began, in seconds since 1970."""
    requests: Count
    """Requests sent."""
    completed: Count
    """Of them answered whole."""
    failures: dict[str, int]
    """Of them failed, by kind."""
    prompt_tokens: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Mean prompt tokens of what was sent."""
    output_tokens: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Mean answer tokens asked for."""
    step_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """Median gap between tokens."""
    itl_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """Mean gap between pieces of answers."""
    tpot_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """Mean time per output token after the first."""
    ttft_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """Median time to first token."""
    ttft_mean_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """Mean time to first token."""
    tokens_per_s: Annotated[float, Field(ge=0, lt=LARGEST)]
    """Prompt and answer tokens of completed requests per second."""
    lag_ms: Annotated[float, Field(ge=0, lt=LARGEST)] | None
    """By how much the client was late in sending, 99th percentile."""
    bunched: Share = 0.0
    """Share of the tokens that came together with the one before, as the server or its host was held up."""
    gauges: Gauges | None = None
    """What the server's metrics said meanwhile."""


def outcome_of(stage: Stage, answers: Answers, gauges: Gauges | None) -> Outcome:
    """The figures of a stage."""
    records = answers.records()
    done, sent = records.finished, ~np.isnan(records.sent_s)
    ttft = metrics.ttft_s(records)[~np.isnan(records.first_token_s)]
    tpot = metrics.tpot_s(records)[done]
    tpot = tpot[~np.isnan(tpot)]
    tokens = (records.requests.prompt_tokens + records.requests.output_tokens)[done].sum(dtype=np.int64)
    faults = {str(kind): count for kind, count in sorted(answers.faults.items())}
    return Outcome(
        name=stage.name,
        kind=stage.kind,
        batch=stage.batch,
        distinct=stage.distinct,
        load=stage.load,
        seconds=answers.end_s,
        started_unix_s=answers.started_unix_s,
        requests=int(sent.sum()),
        completed=int(done.sum()),
        failures=faults,
        prompt_tokens=float(answers.requests.prompt_tokens.mean()),
        output_tokens=float(answers.requests.output_tokens.mean()),
        step_ms=_ms(np.median, answers.gaps_s),
        itl_ms=_ms(np.mean, answers.gaps_s),
        tpot_ms=_ms(np.mean, tpot),
        ttft_ms=_ms(np.median, ttft),
        ttft_mean_ms=_ms(np.mean, ttft),
        tokens_per_s=float(tokens) / max(answers.end_s, 1e-9),
        lag_ms=None if math.isnan(answers.lag_s) else 1e3 * answers.lag_s,
        bunched=bunched_share(answers),
        gauges=gauges,
    )


def bunched_share(answers: Answers) -> float:
    """Share of the tokens after the first that came with the one before, or at once after it."""
    ended = ~np.isnan(answers.finish_s)
    later = float(answers.generated_tokens[ended].sum()) - float(ended.sum())
    if later <= 0:
        return 0.0
    apart = float(np.count_nonzero(answers.gaps_s > TOGETHER_S))
    return min(max(1.0 - apart / later, 0.0), 1.0)


def _ms(statistic: Callable[[FloatArray], np.floating[Any]], seconds: FloatArray) -> float | None:
    return 1e3 * float(statistic(seconds)) if len(seconds) else None
