"""Trace files are read, refused where damaged, and dealt to adapters."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from twin.workload.trace_files import read_trace
from twin.workload.trace_replay import repeat_trace
from twin.workload.trace_rows import TraceError
from twin.workload.traces import (
    deal_by_weight,
    deal_dirichlet,
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
