"""What servers count of themselves: read before a run and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scenarios import Problem
from scenarios.importers.facts import ImportSourceError
from scenarios.importers.traffic.counters import REQUESTS
from scenarios.importers.traffic.prometheus_text import Sample, lines_of
from twin.live.client import connected, run_async
from twin.live.failures import AnswerError

PREEMPTIONS = "vllm:num_preemptions_total"
"""vLLM 0.8.0 to 0.32.0, vllm/v1/metrics/loggers.py."""

ANSWERED = ("stop", "length")
"""Values of ``finished_reason`` of requests answered whole (vllm/v1/engine/__init__.py of 0.32.0)."""


class Counters(NamedTuple):
    """Counts since a server started; None is what it does not tell.

    Parameters
    ----------
    answered
        Requests answered whole.
    preemptions
        Requests that lost their place and were computed again.
    """

    answered: float | None = None
    preemptions: float | None = None

    def since(self, before: Counters) -> Counters:
        """What came since an earlier reading; None where a count fell, as the server was started again."""
        rises = [
            None if now is None or then is None or now < then else now - then
            for now, then in zip(self, before, strict=True)
        ]
        return Counters(*rises)


def read_counters(urls: Sequence[str]) -> list[Counters]:
    """The counts of servers, in their order; a server that does not answer tells nothing."""

    async def read_all() -> list[Counters]:
        async with connected() as client:
            found = []
            for url in urls:
                try:
                    found.append(counters_in(await client.fetch(f"{url}/metrics")))
                except AnswerError:
                    found.append(Counters())
            return found

    return run_async(read_all())


def counters_in(text: str) -> Counters:
    """The counts in a text of Prometheus; a damaged text tells nothing."""
    answered: float | None = None
    preemptions: float | None = None
    try:
        for _, line in lines_of(text, _fault):
            if not isinstance(line, Sample):
                continue
            labels: Mapping[str, str] = dict(line.labels)
            if line.name in REQUESTS and labels.get("finished_reason", ANSWERED[0]) in ANSWERED:
                answered = (answered or 0.0) + line.value
            elif line.name == PREEMPTIONS:
                preemptions = (preemptions or 0.0) + line.value
    except ImportSourceError:
        return Counters()
    return Counters(answered, preemptions)


def _fault(message: str, remedy: str, place: str) -> ImportSourceError:
    return ImportSourceError([Problem(place, message, remedy)])
