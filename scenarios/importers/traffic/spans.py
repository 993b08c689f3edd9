"""Spans of OpenTelemetry about generative AI, as JSON: one document, or one object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from scenarios.errors import cause_of
from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.importers.traffic.log_traffic import facts_of
from scenarios.importers.traffic.request_log import Collected
from scenarios.reading.row_cells import MOST_TOKENS
from scenarios.text.formatting import shown

MODEL = ("gen_ai.request.model", "gen_ai.response.model", "llm.request.model", "llm.model_name")
PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
"""Attributes of a call, newer names first: open-telemetry/semantic-conventions @02f1d35d, docs/registry/
attributes/gen-ai.md, with its deprecated names. vLLM's own spans have the older ones and name no model
(vllm/tracing/utils.py, 0.32.0)."""

OPERATIONS = ("chat", "text_completion", "generate_content", "")
"""Operations that an engine serves; that of an agent holds the calls that it makes."""

LONGEST_LINE = 64 * 2**20

_BLOCK = 100_000


class _Span(NamedTuple):
    """What is read of a span."""

    start_ns: int
    model: str
    prompt: int
    output: int
    failed: bool
    own: str
    parent: str


def _fits(source: Source) -> bool:
    return b'"resourceSpans"' in source.head[:4096] or b'"resource_spans"' in source.head[:4096]


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    held = Collected(source, "OpenTelemetry spans", "ns")
    spans: list[_Span] = []
    for document, place in _documents(source):
        spans += _spans(source, document, place, held)
    # A gateway and the engine behind it may both tell of one request: the caller's span counts.
    known = {span.own for span in spans if span.own}
    inner = [span for span in spans if span.parent in known]
    held.count("spans are of a request that another span tells of, and are left out", len(inner))
    kept = [span for span in spans if span.parent not in known]
    lost = [span for span in kept if span.failed and span.output <= 0]
    held.count("requests failed", sum(span.failed for span in kept))
    held.count("of these had no output, and are left out", len(lost))
    kept = [span for span in kept if not (span.failed and span.output <= 0)]
    for first in range(0, len(kept), _BLOCK):
        part = kept[first : first + _BLOCK]
        held.add(
            np.array([span.start_ns for span in part], dtype=np.int64),
            np.array([span.model for span in part], dtype=object),
            np.array([span.prompt for span in part], dtype=np.int32),
            np.array([span.output for span in part], dtype=np.int32),
        )
    return facts_of(source, held.log(), options)


def _documents(source: Source) -> Iterator[tuple[object, str]]:
    """The objects of a file, each with where it is."""
    with suppress(ValueError, RecursionError):
        first = source.head.decode("utf-8", errors="ignore").lstrip("\ufeff \n\r\t").split("\n", 1)[0]
        if len(source.head) < 65_536 or first.strip() in ("{", "["):
            yield json.loads(source.text), "the document"
            return
    packed = source.path.open("rb").read(2) == b"\x1f\x8b"
    try:
        with gzip.open(source.path) if packed else source.path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if line.strip():
                    yield _object(source, line, number), f"line {number}"
    except (OSError, EOFError, zlib.error) as error:
        raise source.error(f"is damaged ({cause_of(error)})", "fetch it again") from error


def _object(source: Source, line: bytes, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise source.error(
            "is no JSON, or too deep", "correct or remove it", place=f"line {number}"
        ) from error


def _spans(source: Source, document: object, place: str, held: Collected) -> Iterator[_Span]:
    for resource in _list(document, "resourceSpans", "resource_spans"):
        for scope in _list(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
            for span in _list(scope, "spans"):
                found = _span(source, span, place, held)
                if found is not None:
                    yield found


def _span(source: Source, span: object, place: str, held: Collected) -> _Span | None:
    """A span that is a call of a model with its lengths, or None."""
    if not isinstance(span, dict):
        return None
    values = {
        str(one.get("key")): one.get("value") for one in _list(span, "attributes") if isinstance(one, dict)
    }
    if str(_plain(values.get("gen_ai.operation.name")) or "") not in OPERATIONS:
        return None
    prompt, output = (_first(values, names) for names in (PROMPT, OUTPUT))
    model = _first(values, MODEL)
    if prompt is None and output is None:
        if model is not None:
            held.count("spans of a model tell no lengths, and are left out", 1)
        return None
    if not isinstance(model, str) or not model:
        held.count("spans name no model, as vLLM's own do, and are left out", 1)
        return None
    start = _whole(source, span.get("startTimeUnixNano", span.get("start_time_unix_nano")), place, 2**63 - 1)
    status = span.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    return _Span(
        start,
        model,
        -1 if prompt is None else _whole(source, prompt, place, MOST_TOKENS),
        -1 if output is None else _whole(source, output, place, MOST_TOKENS),
        code in (2, "2", "STATUS_CODE_ERROR") and not isinstance(code, bool),
        str(span.get("spanId") or span.get("span_id") or "")[:32],
        str(span.get("parentSpanId") or span.get("parent_span_id") or "")[:32],
    )


def _first(values: dict[str, object], names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := _plain(values.get(name))) is not None), None)


def _plain(value: object) -> object:
    """What an attribute's value holds: JSON of OTLP writes whole numbers as texts."""
    if not isinstance(value, dict):
        return None
    return next((value[key] for key in ("stringValue", "intValue", "doubleValue") if key in value), None)


def _whole(source: Source, value: object, place: str, most: int) -> int:
    number = -1
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 20:
        number = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        number = int(value)
    if not 0 <= number <= most:
        raise source.error(
            f"holds {shown(value)} for a time or a length", f"give a whole number up to {most:,}", place=place
        )
    return number


def _list(value: object, *keys: str) -> list[object]:
    if isinstance(value, dict):
        for key in keys:
            if isinstance(value.get(key), list):
                return list(value[key])
    return []


SPANS = Kind("OpenTelemetry spans", _fits, _read)
"""OTLP as JSON: opentelemetry-proto, trace/v1 (resourceSpans, scopeSpans, spans)."""
