"""Trace files are read, refused where damaged, and dealt to adapters."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scenarios import TraceColumns
from scenarios.reading import row_files
from scenarios.reading.row_files import TraceError
from twin.workload import trace_files
from twin.workload.trace_files import read_trace, taken_columns
from twin.workload.trace_replay import repeat_trace
from twin.workload.traces import (
    Trace,
    deal_by_weight,
    deal_dirichlet,
    deal_to_each,
    deal_zipf,
    with_adapters,
)

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(
    not TRACES.is_dir(), reason="the public traces are not beside the repository"
)

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def _azure(path: Path, body: str) -> Path:
    path.write_text(HEADER + body)
    return path


def test_azure_trace_starts_at_zero_and_is_sorted(tmp_path: Path) -> None:
    path = _azure(
        tmp_path / "t.csv",
        "2023-11-16 18:17:04.0000000,20,2\n"
        "2023-11-16 18:17:03.2500000,10,1\n"
        "2023-11-16 18:17:05.2500000,30,3\n",
    )
    trace = read_trace(path)
    assert trace.arrival_s == pytest.approx([0, 0.75, 2.0])
    assert list(trace.prompt_tokens) == [10, 20, 30]
    assert trace.period_s == pytest.approx(3.0)
    assert trace.mean_rate == pytest.approx(1.0)
    repeated = repeat_trace(trace.stretched(2.0), 4.0)
    assert repeated.arrival_s == pytest.approx([0, 0.375, 1.0, 1.5, 1.875, 2.5, 3.0, 3.375])
    assert list(repeated.row) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert list(repeated.take) == [0, 0, 0, 1, 1, 1, 2, 2]


def test_instants_may_have_an_offset_and_no_fraction(tmp_path: Path) -> None:
    path = _azure(
        tmp_path / "t.csv",
        "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 01:00:00.017335+01:00,2399,6\n"
        "2024-05-10 00:00:02.500000,1200,40\n"
        "2024-05-10 00:01:01+00:00,512,64\n"
        "2024-05-10T00:01:01.5Z,512,64\n",
    )
    trace = read_trace(path)
    assert trace.arrival_s == pytest.approx([0, 0.007405, 2.49007, 60.99007, 61.49007], abs=1e-6)
    assert list(trace.prompt_tokens) == [2162, 2399, 1200, 512, 512]


BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
"""

MOONCAKE = """{"timestamp": 0, "input_length": 40160, "output_length": 6, "hash_ids": [0, 1, 2]}
{"timestamp": 40, "input_length": 23769, "output_length": 3, "hash_ids": [151, 152]}

{"timestamp": 277, "input_length": 32140, "output_length": 92, "hash_ids": [198, 199]}
"""


def test_burstgpt_is_read_and_a_failed_request_counts_with_one_token(tmp_path: Path) -> None:
    (tmp_path / "burst.csv").write_text(BURSTGPT)
    trace = read_trace(tmp_path / "burst.csv")
    assert trace.arrival_s == pytest.approx([0, 40, 113])
    assert list(trace.prompt_tokens) == [472, 1087, 417]
    assert list(trace.output_tokens) == [18, 230, 1]


@pytest.mark.parametrize("name", ["mooncake.jsonl", "mooncake.jsonl.gz"])
def test_mooncake_is_read(tmp_path: Path, name: str) -> None:
    write = gzip.compress if name.endswith("gz") else bytes
    (tmp_path / name).write_bytes(write(MOONCAKE.encode()))
    trace = read_trace(tmp_path / name)
    assert trace.arrival_s == pytest.approx([0, 0.04, 0.277])
    assert list(trace.prompt_tokens) == [40160, 23769, 32140]
    assert list(trace.output_tokens) == [6, 3, 92]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"timestamp": 300, "input_length": 5', r"t\.jsonl, line 5: is no JSON \("),
        ("[300, 5, 6]", "line 5: is no JSON object"),
        ('{"timestamp": 300, "input_length": 5}', "line 5: has no output_length; complete or remove"),
        ('{"timestamp": null, "input_length": 5, "output_length": 5}', 'line 5: timestamp is "nan"'),
        (
            '{"timestamp": NaN, "input_length": 5, "output_length": 5}',
            r'timestamp is "nan" \(must be a finite',
        ),
    ],
)
def test_damaged_json_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(MOONCAKE + line + "\n")
    with pytest.raises(TraceError, match=message):
        read_trace(tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yesterday,1,2\n", r't\.csv, line 2: TIMESTAMP is "yesterday"'),
        ("2023-11-16 18:17:03,abc,2\n", r'line 2: ContextTokens is "abc"'),
        ("2023-11-16 18:17:03,1,2\n2023-11-16 18:17:04,1,-5\n", r'line 3: GeneratedTokens is "-5"'),
        ("2023-11-16 18:17:03,1\n", r'line 2: GeneratedTokens is ""'),
        ("", r"holds 0 requests"),
        ("2023-11-16 18:17:03,1,2\n2023-11-16 18:17:03,1,2\n", r"two at different instants"),
    ],
)
def test_damaged_azure_rows_are_named(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read_trace(_azure(tmp_path / "t.csv", body))


def test_damaged_azure_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        TraceError, match=r"has no column that is known for its time, prompt and output, but a, b; say"
    ):
        read_trace(tmp_path / "columns.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TraceError, match="is damaged"):
        read_trace(tmp_path / "binary.csv")
    (tmp_path / "plain.csv.gz").write_text(HEADER)
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "plain.csv.gz")
    whole = gzip.compress((HEADER + "2023-11-16 18:17:03,1,2\n" * 5000).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="is damaged"):
        read_trace(tmp_path / "cut.csv.gz")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "absent.csv")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    two = "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:04,1,2\n"
    assert len(read_trace(_azure(tmp_path / "t.csv", two))) == 2
    assert len(read_trace(_azure(tmp_path / "t.csv", two + "2023-11-16 18:17:05,1,2\n"))) == 3


def test_requests_are_dealt_by_weight() -> None:
    rng = np.random.default_rng(0)
    dealt = deal_by_weight(100_000, np.array([6.0, 3.0, 1.0]), rng)
    assert np.bincount(dealt) / 100_000 == pytest.approx([0.6, 0.3, 0.1], abs=0.006)
    zipf = np.bincount(deal_zipf(100_000, 4, 1.0, rng)) / 100_000
    assert zipf == pytest.approx(np.array([12, 6, 4, 3]) / 25, abs=0.007)


def test_dirichlet_leaves_no_adapter_without_a_request() -> None:
    for seed in range(20):
        dealt = deal_dirichlet(200, 150, 0.1, np.random.default_rng(seed))
        assert len(dealt) == 200
        assert np.bincount(dealt, minlength=150).min() >= 1
    with pytest.raises(TraceError, match="cannot give each"):
        deal_dirichlet(5, 6, 0.5, np.random.default_rng(0))


def test_requests_are_dealt_by_weight_and_one_to_each() -> None:
    weight = np.array([0.7, 0.3, 1e-12])
    dealt = np.bincount(deal_to_each(10_000, weight, np.random.default_rng(0)), minlength=3)
    assert dealt[2] == 1
    assert dealt[:2] / 10_000 == pytest.approx(weight[:2], abs=0.02)
    with pytest.raises(TraceError, match="2 requests cannot give each of 3"):
        deal_to_each(2, weight, np.random.default_rng(0))


def test_a_window_of_a_trace_has_a_clock_of_its_own() -> None:
    trace = Trace(
        arrival_s=np.array([0.0, 10.0, 20.0, 29.0]),
        prompt_tokens=np.array([1, 2, 3, 4], dtype=np.int32),
        output_tokens=np.array([5, 6, 7, 8], dtype=np.int32),
        period_s=40.0,
    )
    window = trace.between(10.0, 29.0)
    assert window.arrival_s.tolist() == [0.0, 10.0]
    assert window.prompt_tokens.tolist() == [2, 3]
    assert window.output_tokens.tolist() == [6, 7]
    assert window.mean_rate == 2 / 19
    with pytest.raises(TraceError, match="no request came from second 30 to 40"):
        trace.between(30.0, 40.0)


def test_dirichlet_shares_vary_as_they_should() -> None:
    rng = np.random.default_rng(0)
    shares = (
        np.array([np.bincount(deal_dirichlet(2000, 4, 0.5, rng), minlength=4) for _ in range(400)]) / 2000
    )
    assert shares.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.06)
    # Dirichlet(α) over n: variance (1/n)(1 − 1/n)/(nα + 1).
    assert shares.var() == pytest.approx(0.25 * 0.75 / 3, rel=0.15)


@needs_traces
@pytest.mark.parametrize(("name", "count"), [("conv", 19_366), ("code", 8819)])
def test_public_azure_traces(name: str, count: int) -> None:
    trace = read_trace(TRACES / f"azure_llm_2023_{name}.csv.gz")
    # Both files hold one hour; the last line of each has no line end.
    assert abs(len(trace) - count) <= 1
    assert trace.period_s == pytest.approx(3600, rel=0.06)
    dealt = deal_dirichlet(len(trace), 384, 0.5, np.random.default_rng(0))
    requests = with_adapters(trace, dealt, 384)
    assert len(np.unique(requests.adapter)) == 384


# --- any columns -----------------------------------------------------------------------------------

ROWS = """arrival_time,input_tokens,output_tokens,lora_name
0.5,10,1,fr
2.0,20,2,de
1.25,30,3,fr
3.5,40,4,
"""
PLAIN = "created_at,input_tokens,output_tokens\n2024-01-01,1,1\n"


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_are_known_by_obvious_names_and_a_name_of_an_adapter_may_be_missing(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.csv", ROWS)
    trace, taken = read_trace(path), taken_columns(path)
    assert (taken.time, taken.prompt, taken.output, taken.adapter, taken.unit) == (
        "arrival_time",
        "input_tokens",
        "output_tokens",
        "lora_name",
        "s",
    )
    assert list(trace.arrival_s) == [0, 0.75, 1.5, 3.0]
    assert list(trace.prompt_tokens) == [10, 30, 20, 40]
    assert trace.names == ("fr", "de")
    assert trace.name is not None
    assert list(trace.name) == [0, 0, 1, -1]
    assert not trace.guessed


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_may_have_other_delimiters_and_quoted_cells(tmp_path: Path, delimiter: str) -> None:
    text = "note;" + ROWS.replace(",", ";").replace("0.5;", '"a\nb; c";0.5;', 1)
    for value in ("2.0", "1.25", "3.5"):
        text = text.replace(f"\n{value};", f"\nx;{value};")
    trace = read_trace(_written(tmp_path / "t.csv", text.replace(";", delimiter)))
    assert list(trace.prompt_tokens) == [10, 30, 20, 40]
    broken = text.replace(";3;fr", ";three;fr").replace(";", delimiter)
    with pytest.raises(TraceError, match=r'line 5: output_tokens is "three"'):  # a cell has two lines
        read_trace(_written(tmp_path / "t.csv", broken))


@pytest.mark.parametrize(
    ("header", "instants", "arrival"),
    [
        ("timestamp_ms", "0 250 1000", [0, 0.25, 1]),
        ("time_us", "0 250000 1000000", [0, 0.25, 1]),
        ("timestamp", "1700000000 1700000001 1700000003", [0, 1, 3]),
        ("timestamp", "1700000000000 1700000000250 1700000001000", [0, 0.25, 1]),
        ("timestamp", "1700000000000000 1700000000250000 1700000001000000", [0, 0.25, 1]),
        ("timestamp", "1700000000000000001 1700000000250000001 1700000001000000001", [0, 0.25, 1]),
        (
            "created_at",
            "2024-05-10T00:00:00Z 2024-05-10T01:00:00.25+01:00 2024-05-10T00:00:01",
            [0, 0.25, 1],
        ),
    ],
)
def test_units_are_known_by_names_and_values(
    tmp_path: Path, header: str, instants: str, arrival: list[float]
) -> None:
    rows = "".join(f"{instant},5,5\n" for instant in instants.split())
    trace = read_trace(_written(tmp_path / "t.csv", f"{header},prompt_tokens,completion_tokens\n{rows}"))
    assert list(trace.arrival_s) == arrival


def test_whole_numbers_of_no_known_unit_are_refused(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.csv", "timestamp,prompt_tokens,completion_tokens\n0,5,5\n40,5,5\n")
    with pytest.raises(TraceError, match=r"whole numbers in timestamp may be of any unit; say which: time_u"):
        read_trace(path)
    assert list(read_trace(path, time_unit="ms").arrival_s) == [0, 0.04]


def test_stated_columns_come_before_those_of_a_public_form(tmp_path: Path) -> None:
    path = _written(tmp_path / "burst.csv", BURSTGPT)
    assert read_trace(path).names == ()  # ChatGPT and GPT-4 are no adapters
    stated = read_trace(path, TraceColumns(adapter="Model", output="Total tokens"))
    assert stated.names == ("ChatGPT", "GPT-4")
    assert list(stated.output_tokens) == [490, 1317, 417]
    with pytest.raises(TraceError, match=r'no column "Modell", which columns.adapter names; did you mean'):
        read_trace(path, TraceColumns(adapter="Modell"))


def test_of_two_columns_that_may_be_meant_none_is_taken(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.csv", "time,ts,prompt_tokens,output_tokens\n0.5,1,5,5\n1.5,2,5,5\n")
    with pytest.raises(TraceError, match=r"may have its time in time or ts; say which: columns: \{time"):
        read_trace(path)
    assert list(read_trace(path, TraceColumns(time="time")).arrival_s) == [0, 1]


def test_a_column_of_models_is_taken_for_adapters_with_care(tmp_path: Path) -> None:
    text = "arrival_time,model,prompt_tokens,completion_tokens\n0.5,base,5,5\n1.5,fr,5,5\n"
    trace = read_trace(_written(tmp_path / "t.csv", text))
    assert trace.guessed
    left = read_trace(tmp_path / "t.csv", TraceColumns(adapter=False))
    assert left.names == ()


def test_bailian_is_told_from_mooncake_by_its_chats(tmp_path: Path) -> None:
    row = '{"chat_id": %d, "parent_chat_id": -1, "timestamp": %s, "input_length": 40, "output_length": 3, '
    text = "".join(row % (k, t) + f'"hash_ids": [7, {k}]}}\n' for k, t in enumerate(("0.5", "61.114")))
    path = _written(tmp_path / "qwen.jsonl", text)
    assert read_trace(path).arrival_s == pytest.approx([0, 60.614])
    assert (taken_columns(path).unit, taken_columns(path).hash_tokens) == ("s", 16)


def test_hashes_are_read_in_the_order_of_arrival_and_may_be_missing(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 9, "input_length": 700, "output_length": 1, "hash_ids": [5, 6]}\n'
        '{"timestamp": 0, "input_length": 1500, "output_length": 1, "hash_ids": [5, 9, 8]}\n'
        '{"timestamp": 4, "input_length": 3, "output_length": 1}\n'
    )
    hashes = read_trace(_written(tmp_path / "t.jsonl", text)).hashes
    assert hashes is not None
    assert (list(hashes.start), list(hashes.ids)) == ([0, 3, 3, 5], [5, 9, 8, 5, 6])
    for wrong in ("[5, 0.5]", "7", '["a"]', f"[{2**64}]"):
        with pytest.raises(TraceError, match=r"line 1: hash_ids is .* \(must be a list of whole numbers"):
            read_trace(_written(tmp_path / "t.jsonl", text.replace("[5, 6]", wrong)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty; give a file with a header"),
        ("[1, 2]", r"is a JSON array without objects; give an array of objects"),
        ('[{"timestamp": 0}]', r"has no column"),
        (ROWS.replace("20", "2.5"), r'line 3: input_tokens is "2\.5" \(must be a whole number'),
        (ROWS.replace("20", "99999999"), r"must be from 0 to 10,000,000"),
        (ROWS.replace("2.0", "inf"), r'line 3: arrival_time is "inf"'),
        (ROWS.replace("2.0", "True"), r'line 3: arrival_time is "True"'),
        (ROWS.replace("2.0", "1e300"), r"more than 10 years apart; correct arrival_time, or say time_unit"),
        (PLAIN + "2034-01-02,1,1\n", r"more than 10 years apart"),
        (PLAIN + "9999-01-01,1,1\n", r"must be from 1970 to 2199"),
        (PLAIN + "01/02/2024,1,1\n", r'line 3: created_at is "01/02/2024" \(must be a date such as'),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = _written(tmp_path / "t.csv", text)
    with pytest.raises(TraceError, match=message):
        read_trace(path)


def test_limits_on_rows_and_names_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MOST_ROWS", 3)
    with pytest.raises(TraceError, match=r"has more than 3 rows; cut it in parts"):
        read_trace(_written(tmp_path / "rows.csv", ROWS))
    monkeypatch.undo()
    monkeypatch.setattr(trace_files, "MOST_NAMES", 1)
    with pytest.raises(TraceError, match=r"more than 1 adapters in the column lora_name; name another"):
        read_trace(_written(tmp_path / "names.csv", ROWS))


def test_a_file_is_the_same_in_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ROWS.splitlines()
    objects = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    text = "\n\n".join(json.dumps(one) for one in objects)
    whole = read_trace(_written(tmp_path / "t.csv", ROWS))
    monkeypatch.setattr(row_files, "CHUNK_ROWS", 1)
    for name, form in (("cut.csv", ROWS), ("cut.jsonl", text)):
        cut = read_trace(_written(tmp_path / name, form))
        assert list(cut.arrival_s) == list(whole.arrival_s)
        assert cut.name is not None
        assert list(cut.name) == [0, 0, 1, -1]
    broken = ROWS.replace("40", "x")
    with pytest.raises(TraceError, match=r'line 5: input_tokens is "x"'):
        read_trace(_written(tmp_path / "broken.csv", broken))


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.read_csv(_written(tmp_path / "t.csv", ROWS))
    frame["hash_ids"] = [[1], [2], [1, 3], None]
    frame.to_parquet(tmp_path / "t.parquet")
    trace, same = read_trace(tmp_path / "t.parquet"), read_trace(tmp_path / "t.csv")
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "name"):
        assert list(getattr(trace, name)) == list(getattr(same, name))
    moon = frame.rename(columns={"arrival_time": "timestamp", "input_tokens": "input_length"})
    moon.rename(columns={"output_tokens": "output_length"}).to_parquet(tmp_path / "m.parquet")
    hashes = read_trace(tmp_path / "m.parquet").hashes
    assert hashes is not None
    assert list(hashes.ids) == [1, 1, 3, 2]
    dated = frame.assign(arrival_time=pd.to_datetime(frame.arrival_time, unit="s", utc=True))
    dated.to_parquet(tmp_path / "d.parquet")
    assert list(read_trace(tmp_path / "d.parquet").arrival_s) == list(same.arrival_s)
    assert taken_columns(tmp_path / "d.parquet").unit == "date"
    frame.assign(input_tokens=-1).to_parquet(tmp_path / "w.parquet")
    with pytest.raises(TraceError, match=r'w\.parquet, row 1: input_tokens is "-1"'):
        read_trace(tmp_path / "w.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match=r"cut\.parquet: is damaged"):
        read_trace(tmp_path / "cut.parquet")


def test_parquet_without_its_extra_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(
        TraceError, match=r"is Parquet, which an extra reads; pip install 'lorapack\[parquet\]'"
    ):
        read_trace(tmp_path / "t.parquet")
