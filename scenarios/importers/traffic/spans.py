"""Spans of OpenTelemetry about generative AI, as JSON: one document, or one object a line."""

from __future__ import annotations

import gzip
import math
import zlib
from array import array
from hashlib import blake2b
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from scenarios.errors import cause_of
from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.importers.traffic.log_traffic import facts_of
from scenarios.importers.traffic.request_log import Collected
from scenarios.reading.json_stream import JsonStream, JsonStreamError
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

_BLOCK = 100_000


_PATH = (
    ("resourceSpans", "resource_spans"),
    ("scopeSpans", "scope_spans", "instrumentationLibrarySpans"),
    ("spans",),
)
"""Keys on the way to spans, with those of older releases."""


class _Span(NamedTuple):
    """What is read of a span."""

    start_ns: int
    took_ns: float
    model: str
    prompt: int
    output: int
    failed: bool
    own: int
    parent: int


class _Spans:
    """Spans in columns: of millions each takes some fifty bytes."""

    def __init__(self) -> None:
        self._models: dict[str, int] = {}
        self._columns: list[array[Any]] = [array(kind) for kind in "qdiiibQQ"]

    def add(self, span: _Span) -> None:
        """Take a span."""
        values = span._asdict()
        values["model"] = self._models.setdefault(span.model, len(self._models))
        for column, value in zip(self._columns, values.values(), strict=True):
            column.append(value)

    def give(self, held: Collected) -> None:
        """Give the requests that these spans are of to a log.

        A gateway and the engine behind it may both tell of one request: the caller's span counts.
        """
        start, took, model, prompt, output, failed, own, parent = (
            np.frombuffer(column, dtype=column.typecode) for column in self._columns
        )
        inner = (parent != 0) & np.isin(parent, own)
        held.count("spans are of a request that another span tells of, and are left out", int(inner.sum()))
        lost = ~inner & (failed != 0) & (output <= 0)
        held.count("requests failed", int((~inner & (failed != 0)).sum()))
        held.count("of these had no output, and are left out", int(lost.sum()))
        kept = np.flatnonzero(~inner & ~lost)
        names = np.array(list(self._models), dtype=object)
        times = None if np.isnan(took).all() else took
        for first in range(0, len(kept), _BLOCK):
            rows = kept[first : first + _BLOCK]
            ends = None if times is None else times[rows]
            held.add(start[rows], names[model[rows]], prompt[rows], output[rows], ends)


def _fits(source: Source) -> bool:
    return b'"resourceSpans"' in source.head[:4096] or b'"resource_spans"' in source.head[:4096]


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    held, spans = Collected(source, "OpenTelemetry spans", "ns"), _Spans()
    with source.path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(source.path) if packed else source.path.open("rb") as content:
            stream = JsonStream(cast(BinaryIO, content))
            for value in stream.values(_PATH):
                span = _span(source, value, stream, held)
                if span is not None:
                    spans.add(span)
    except JsonStreamError as error:
        raise source.error(error.why, "correct or remove it", f"line {error.line}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise source.error(f"is damaged ({cause_of(error)})", "fetch it again") from error
    spans.give(held)
    return facts_of(source, held.log(), options)


def _span(source: Source, span: object, stream: JsonStream, held: Collected) -> _Span | None:
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
    place = f"line {stream.line}"
    start, end = (
        span.get(f"{which}TimeUnixNano", span.get(f"{which}_time_unix_nano")) for which in ("start", "end")
    )
    start_ns = _whole(source, start, place, 2**63 - 1)
    took_ns = (
        math.nan if end in (None, 0, "0", "") else float(_whole(source, end, place, 2**63 - 1) - start_ns)
    )
    status = span.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    return _Span(
        start_ns,
        took_ns,
        model,
        -1 if prompt is None else _whole(source, prompt, place, MOST_TOKENS),
        -1 if output is None else _whole(source, output, place, MOST_TOKENS),
        code in (2, "2", "STATUS_CODE_ERROR") and not isinstance(code, bool),
        _identity(span.get("spanId") or span.get("span_id")),
        _identity(span.get("parentSpanId") or span.get("parent_span_id")),
    )


def _identity(value: object) -> int:
    """A span's identity in 64 bits, which is what it has; 0: none."""
    text = value if isinstance(value, str) else ""
    if not text:
        return 0
    digest = blake2b(text.lower().encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


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
