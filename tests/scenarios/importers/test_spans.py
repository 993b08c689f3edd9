"""Spans of OpenTelemetry say requests by model; spans about one request count once."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.source import Source
from scenarios.importers.traffic import KINDS
from scenarios.reading import json_stream
from scenarios.reading.json_stream import JsonStream, JsonStreamError

NEW = ("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
OLD = ("gen_ai.response.model", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens")


def span(k: int, keys: tuple[str, str, str] = NEW, **changes: object) -> dict[str, object]:
    attributes = [
        {"key": keys[0], "value": {"stringValue": "fr"}},
        {"key": keys[1], "value": {"intValue": "12"}},
        {"key": keys[2], "value": {"intValue": 7}},
        {"key": "gen_ai.input.messages", "value": {"stringValue": "my secret"}},
    ]
    start = str(1_790_000_000_000_000_000 + k * 10**9)
    return {"spanId": f"s{k}", "startTimeUnixNano": start, "attributes": attributes} | changes


def document(*spans: object) -> dict[str, object]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def read(path: Path, text: str | bytes) -> SourceFacts:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = Source(path)
    kind = next((kind for kind in KINDS if kind.fits(source)), KINDS[-1])
    return kind.read(source, ImportOptions())


@pytest.mark.parametrize("keys", [NEW, OLD])
@pytest.mark.parametrize("form", ["document", "lines", "indented", "list", "packed"])
def test_spans_are_read_in_every_form(tmp_path: Path, keys: tuple[str, str, str], form: str) -> None:
    spans = [span(k, keys) for k in range(60)]
    text = {
        "document": json.dumps(document(*spans)),
        "lines": "\n".join(json.dumps(document(one)) for one in spans),
        "indented": json.dumps(document(*spans), indent=2),
        "list": json.dumps([document(*spans[:30]), document(*spans[30:])]),
        "packed": gzip.compress(json.dumps(document(*spans)).encode()),
    }[form]
    facts = read(tmp_path / "spans.json", text)
    (fr,) = facts.adapters
    assert fr.served_name == "fr"
    assert fr.rate is not None
    assert fr.rate.value == pytest.approx(1.0, rel=0.02)
    assert fr.prompt is not None
    assert fr.prompt.value.mean_tokens == 12
    assert "secret" not in repr(facts)


def test_how_long_requests_took_is_told(tmp_path: Path) -> None:
    ends = [str(1_790_000_003_000_000_000 + k * 10**9) for k in range(60)]
    spans = [span(k, endTimeUnixNano=end) for k, end in enumerate(ends)]
    facts = read(tmp_path / "s.json", json.dumps(document(*spans)))
    assert facts.total is not None
    assert any("took 3 s in the mean" in note for note in facts.total.notes)
    unended = read(
        tmp_path / "s.json", json.dumps(document(*(span(k, endTimeUnixNano=0) for k in range(60))))
    )
    assert not any("end" in note for note in unended.notes)


@pytest.mark.parametrize(
    "name", ['a"b', "a'b", "a\nb", "../../etc", "$(touch x)", "{{ x }}", "é漢", "]}", "\\"]
)
def test_hostile_names_are_names(tmp_path: Path, name: str) -> None:
    attributes = [{"key": NEW[0], "value": {"stringValue": name}}, {"key": NEW[1], "value": {"intValue": 1}}]
    spans = [span(k, attributes=attributes) for k in range(3)]
    facts = read(tmp_path / "s.json", json.dumps(document(*spans)))
    assert [one.served_name for one in facts.adapters] == [name]


def test_a_request_that_two_programs_tell_of_counts_once(tmp_path: Path) -> None:
    inner = [span(k, OLD, spanId=f"i{k}", parentSpanId=f"s{k}") for k in range(10)]
    facts = read(tmp_path / "s.json", json.dumps(document(*(span(k) for k in range(10)), *inner)))
    assert facts.adapters[0].origin == "s.json: 10 requests"
    assert "10 spans are of a request that another span tells of" in facts.notes[0]


def test_failures_agents_and_spans_without_a_model_are_left_out(tmp_path: Path) -> None:
    failed = span(20, status={"code": 2})
    failed["attributes"] = list(failed["attributes"])[:2]  # type: ignore[call-overload]
    agent = span(21)
    agent["attributes"] = [
        *agent["attributes"],  # type: ignore[misc]
        {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
    ]
    nameless = span(22)
    nameless["attributes"] = list(nameless["attributes"])[1:]  # type: ignore[call-overload]
    facts = read(tmp_path / "s.json", json.dumps(document(span(0), span(1), failed, agent, nameless)))
    assert facts.adapters[0].origin == "s.json: 2 requests"
    told = " ".join(facts.notes)
    assert "1 spans name no model" in told
    assert "1 requests failed" in told


def bad(value: object, key: str = NEW[1]) -> str:
    attributes = [{"key": NEW[0], "value": {"stringValue": "fr"}}, {"key": key, "value": value}]
    return json.dumps(document(span(0), span(1), span(2, attributes=attributes)))


GOOD = json.dumps(document(span(0), span(1)))
DAMAGED: list[str | bytes] = [
    GOOD[:-5],
    GOOD[:100],
    GOOD + "}",
    GOOD + "\n[",
    json.dumps(document()),
    json.dumps(document(span(0))),
    json.dumps(document(span(0), span(0))),
    json.dumps({"resourceSpans": 3}),
    json.dumps({"resourceSpans": [3, None, {}]}),
    json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [1, None, "x"]}]}]}),
    json.dumps(document({}, {"attributes": 3}, {"attributes": [1, None]})),
    bad({"intValue": "many"}),
    bad({"intValue": -1}),
    bad({"intValue": "-1"}),
    bad({"intValue": True}),
    bad({"intValue": 10**30}),
    bad({"intValue": "9" * 5000}),
    bad({"doubleValue": 1.5}),
    bad({"doubleValue": float("inf")}),
    bad({"doubleValue": float("nan")}),
    bad({"stringValue": "x"}),
    bad({"intValue": [1]}),
    bad({"intValue": {}}),
    json.dumps(document(span(0), span(1, startTimeUnixNano=None))),
    json.dumps(document(span(0), span(1, startTimeUnixNano="x"))),
    json.dumps(document(span(0), span(1, startTimeUnixNano=-5))),
    json.dumps(document(span(0), span(1, startTimeUnixNano=2**70))),
    json.dumps(document(span(0), span(1, startTimeUnixNano="1"))),
    '{"resourceSpans": ' + "[" * 50_000,
    GOOD.encode() + b"\n\xff\xfe",
    GOOD.encode()[:50] + b"\0" * 50,
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_damaged_is_refused_with_its_path(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ImportSourceError) as refused:
        read(tmp_path / "s.json", content)
    assert str(tmp_path / "s.json") in str(refused.value)


PATH = (("a", "A"), ("b",))


def streamed(text: str | bytes) -> list[object]:
    return list(JsonStream(io.BytesIO(text.encode() if isinstance(text, str) else text)).values(PATH))


TEXTS = [
    ('{"a": [{"b": [1, "x", {"c": []}]}, {"b": []}]}', [1, "x", {"c": []}]),
    ('\ufeff {"x": [[{}], "]"], "A": [{"z": 1, "b": [2.5e3]}], "y": null}\n\n{"a": []}', [2500.0]),
    ('[{"a": [{"b": [1]}]}, 3, {"a": [{"b": [2]}]}]', [1, 2]),
    ('{"a": [{"b": [12345, true]}]}{"a": [{"b": [67]}]}', [12345, True, 67]),
    ('{"a": {"b": [1]}, "A": [[1], 2, "b", {"b": {"b": 1}}, {"b": [[1]]}]}', [[1]]),
    ('{"a": [{"b": ["\\u00e9", "é\\"]}", "漢"]}]}', ["é", 'é"]}', "漢"]),
    ("", []),
    (" \n ", []),
    ("3 [] {} null", []),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
def test_values_are_found_wherever_a_chunk_ends(
    text: str, expected: list[object], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    assert streamed(text) == expected


WRONG = [
    "{", '{"a"', '{"a":', '{"a": [', '{"a": [{', '{"a": [{"b": [1', '{"a": [{"b": [1,', '{"a": [{"b": [1]}',
    '{"a": [{"b": [1]]}', '{"a": [{"b": [1} ]}', '{a: 1}', "{1: 2}", '{"a" 1}', '{"a": 1,}', '{"a": [1,]}',
    '{"a": [{"b": [1 2]}]}', '{"a": tru}', '{"a": "x', "[1, 2", "[1,, 2]", "]", "}", '{"x": [}', "nul", "'a'",
    '{"a": [{"b": [\n\n\n!]}]}', '{"x": ' + "[" * 100_000, '{"a": [{"b": [' + '{"c":' * 100_000, "{,}",
    '{"a": []} x', b'{"a": [{"b": ["\xff"]}]}', b"\x00\x01",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_no_json_is_refused_with_its_line(text: str | bytes) -> None:
    with pytest.raises(JsonStreamError, match=r"line \d+: "):
        streamed(text)


def test_the_line_of_what_is_wrong_is_told() -> None:
    with pytest.raises(JsonStreamError, match="line 4: "):
        streamed('{"a": [\n{"b": [1,\n2,\n!]}]}')


def test_a_value_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MOST_CHARACTERS", 10_000)
    monkeypatch.setattr(json_stream, "_CHUNK", 1000)
    with pytest.raises(JsonStreamError, match="more than 10,000 characters"):
        streamed('{"a": [{"b": ["' + "x" * 1_000_000)


class Endless(io.RawIOBase):
    """A document with many values, of which only what is read exists."""

    def __init__(self, values: int) -> None:
        self._left, self._held = values, b'{"a": [{"b": ['

    def read(self, size: int = -1) -> bytes:
        while len(self._held) < size and self._left >= 0:
            self._left -= 1
            self._held += (
                b'"' + b"x" * 1000 + b'",' if self._left > 0 else b"1]}]}" if not self._left else b""
            )
        data, self._held = self._held[:size], self._held[size:]
        return data


def test_a_long_document_is_never_held_whole() -> None:
    tracemalloc.start()
    try:
        number = sum(1 for _ in JsonStream(Endless(20_000)).values(PATH))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number == 20_000
    assert peak < 8e6
