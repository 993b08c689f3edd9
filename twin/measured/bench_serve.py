"""Results of ``vllm bench serve --save-result``: JSON files of every version, read into one form.

The fields are those of ``vllm/benchmarks/serve.py``, read in the releases 0.8.0 to 0.32.0; before 0.8 the
script ``benchmarks/benchmark_serving.py`` wrote the same ones. What changed: lists of single requests only
with ``--save-detailed`` from 0.9 on (always before), ``failed`` from 0.12 on, ``start_times`` from 0.16 on,
``queue_times`` after 0.20. ``--percentile-metrics`` leaves means out; lists, where they are there, give them.
With ``--append-result`` a file holds several results, one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from scenarios import FrozenModel, Problem, ScenarioError, params_from
from scenarios.reading.findings import Finding
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE, json_problem
from scenarios.text.formatting import choice
from twin.measured.runs import MOST_DRAWN
from twin.measured.tables import Count, Number, Positive, PositiveCount

REQUIRED = ("duration", "completed", "total_input_tokens", "total_output_tokens")
"""Fields without which nothing can be compared; every version of the benchmark writes them."""

REMEDY = "name a file that `vllm bench serve --save-result` wrote"


class BenchResult(FrozenModel):
    """One result; times in seconds but for those in ``_ms``, lengths in tokens."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_id: str = ""
    """Model that was asked for, as the server names it."""
    duration: Positive
    """Seconds from the start to the last answer."""
    completed: Annotated[int, Field(gt=0, le=MOST_DRAWN)]
    """Requests that were answered."""
    total_input_tokens: PositiveCount
    """Prompt tokens of the answered requests."""
    total_output_tokens: PositiveCount
    """Tokens of the answers."""
    request_rate: Positive | None = None
    """Requests per second offered; absent: all at once."""
    burstiness: Positive = 1.0
    """Shape of the gamma distribution of the gaps between requests."""
    max_concurrency: PositiveCount | None = None
    """Most requests that the client held open; absent: no limit."""
    ramp_up_strategy: str | None = None
    """How the rate rose; absent: it was constant."""
    mean_ttft_ms: Number | None = None
    """Mean time to first token."""
    mean_tpot_ms: Number | None = None
    """Mean over requests of the time per output token after the first."""
    mean_itl_ms: Number | None = None
    """Mean gap between chunks."""
    input_lens: tuple[Count, ...] = ()
    """Prompt tokens of each request, those that failed too."""
    output_lens: tuple[Count, ...] = ()
    """Answer tokens of each request; 0 where it failed."""
    ttfts: tuple[Number, ...] = ()
    """Time to first token of each request."""
    itls: tuple[tuple[Number, ...], ...] = ()
    """Gaps between the chunks of each request."""
    start_times: tuple[Number, ...] = ()
    """When each request was sent, on the client's clock."""
    queue_times: tuple[Number, ...] = ()
    """How long each request waited in the client for ``max_concurrency``."""

    def findings(self) -> Iterator[Finding]:
        """Yield lists that do not hold the same requests, and a rate that rose at unknown instants."""
        for name in ("input_lens", "ttfts", "itls", "start_times"):
            length = len(getattr(self, name))
            if length and self.output_lens and length != len(self.output_lens):
                message = f"has {length} requests, output_lens {len(self.output_lens)}"
                yield Finding((name,), message, "give the file as the benchmark wrote it")
        answered = sum(length > 0 for length in self.output_lens)
        if self.output_lens and answered != self.completed:
            message = f"is {self.completed}, but output_lens holds {answered} answers"
            yield Finding(("completed",), message, "give the file as the benchmark wrote it")
        if self.ramp_up_strategy is not None and not self.start_times:
            message = f'is "{self.ramp_up_strategy}", and the file does not tell when requests were sent'
            yield Finding(("ramp_up_strategy",), message, "use --save-detailed, or a constant rate")

    @property
    def detailed(self) -> bool:
        """Whether the lengths of single requests are known."""
        return bool(self.input_lens and self.output_lens)

    @property
    def ttft_ms(self) -> float | None:
        """Mean time to first token, from the file or its lists; None if neither has it."""
        mean = _mean(self.ttfts[k] for k in self._answered(self.ttfts))
        return self.mean_ttft_ms or (None if mean is None else 1e3 * mean)

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per output token after the first, from the file or its lists; None if neither has it."""
        long = [k for k in self._answered(self.itls) if self.output_lens[k] > 1]
        mean = _mean(math.fsum(self.itls[k]) / (self.output_lens[k] - 1) for k in long)
        return self.mean_tpot_ms or (None if mean is None else 1e3 * mean)

    @property
    def itl_ms(self) -> float | None:
        """Mean gap between chunks, from the file or its lists; None if neither has it."""
        mean = _mean(gap for k in self._answered(self.itls) for gap in self.itls[k])
        return self.mean_itl_ms or (None if mean is None else 1e3 * mean)

    def answered(self) -> list[int]:
        """Indices of the requests that were answered, where the file lists requests."""
        return [k for k, length in enumerate(self.output_lens) if length > 0]

    def _answered(self, figures: tuple[object, ...]) -> list[int]:
        return self.answered() if figures else []

    def sent_s(self) -> tuple[float, ...]:
        """When each answered request came to the client, from the benchmark's start, in the file's order.

        A request that waited for ``max_concurrency`` came before it was sent. Empty where no file tells.
        """
        if not self.start_times or not self.output_lens:
            return ()
        waits = self.queue_times if len(self.queue_times) == len(self.start_times) else ()
        known = self.answered()
        came = [self.start_times[k] - (waits[k] if waits else 0.0) for k in known]
        first = min(came)
        if not (self.ttfts and self.itls):
            return tuple(one - first for one in came)
        # The clock has another origin than the benchmark; its end is the last answer's.
        last = max(self.start_times[k] + self.ttfts[k] + math.fsum(self.itls[k]) for k in known)
        begin = max(0.0, self.duration - (last - first))
        return tuple(one - first + begin for one in came)


def read_bench_results(path: str | Path) -> list[BenchResult]:
    """Read the results of a file, one or, of ``--append-result``, several.

    Raises
    ------
    ScenarioError
        If the file cannot be read, is no JSON, or is no such result; one message with all that is wrong.
    """
    source = str(path)
    text = text_of(Path(path), source)
    results = []
    for value in _documents(text, source):
        if not isinstance(value, dict):
            raise ScenarioError([Problem(FILE, "is no result of `vllm bench serve`", REMEDY)], source)
        results.append(_result(value, source))
    if not results:
        raise ScenarioError([Problem(FILE, "is empty", REMEDY)], source)
    return results


def _documents(text: str, source: str) -> Iterator[Any]:
    """Each JSON value of a file."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            wrong = json_problem(text[at:]) or Problem(FILE, "is nested too deep", REMEDY)
            raise ScenarioError([wrong], source) from error
        yield value


def _result(values: Mapping[str, Any], source: str) -> BenchResult:
    absent = [name for name in REQUIRED if values.get(name) is None]
    if absent == ["total_output_tokens"]:
        what = "is of a benchmark that generates nothing (it has no total_output_tokens)"
        raise ScenarioError([Problem(FILE, what, "name one of completions or chats")], source)
    if absent:
        what = f"is no result of `vllm bench serve`: it has no {choice(absent, 'and')}"
        raise ScenarioError([Problem(FILE, what, REMEDY)], source)
    if values["completed"] == 0:
        raise ScenarioError(
            [Problem("completed", "is 0: every request failed", "look at the server's log")], source
        )
    known = {name: value for name, value in values.items() if name in BenchResult.model_fields}
    known = {name: value for name, value in known.items() if value is not None}
    if known.get("request_rate") in ("inf", math.inf):
        del known["request_rate"]
    return params_from(known, BenchResult, source)


def _mean(values: Iterator[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
