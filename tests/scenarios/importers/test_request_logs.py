"""Request logs of known and mapped columns are read, and what is damaged is refused with its place."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scenarios import TraceArrivals, UncertainRate
from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.merging import with_base_names
from scenarios.importers.source import Source
from scenarios.importers.traffic import KINDS
from tests.hostile_texts import HOSTILE_TEXTS
from twin.workload.trace_files import stated_trace
from twin.workload.trace_replay import rows_of_names

REAL = Path(__file__).resolve().parents[4] / "shared" / "real_engine" / "logs" / "requests.jsonl"
HEADER = "time,adapter,prompt_tokens,output_tokens\n"
HOSTILE = [*HOSTILE_TEXTS, "a\nb", "x" * 200]


def read(path: Path, options: ImportOptions | None = None) -> SourceFacts:
    source = Source(path)
    kind = next((kind for kind in KINDS if kind.fits(source)), KINDS[-1])
    return kind.read(source, options or ImportOptions())


def rows(n: int = 60, name: str = "fr") -> str:
    return "".join(f"2026-11-02T14:{k // 60:02d}:{k % 60:02d}Z,{name},{100 + k},{k + 1}\n" for k in range(n))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def spend(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "request_id": "r1",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05",
        "user": "anna@example.com",
        "messages": {"text": "my secret"},
        "startTime": "2026-11-02T14:00:00.000Z",
        "endTime": "2026-11-02T14:00:01.000Z",
        "model": "hosted_vllm/fr",
        "model_group": "fr",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cache_hit": "False",
        "status": "success",
        "session_id": "s1",
    }
    return row | changes


def lines(*objects: object) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def timed(ends: list[str], begins: list[str] | None = None) -> str:
    """A log with a column of ends; requests begin in seconds of their own."""
    told = begins or [str(1_700_000_000 + k) for k in range(len(ends))]
    column = "time" if begins else "time_s"
    return f"{column},adapter,prompt_tokens,output_tokens,done\n" + "".join(
        f"{begin},fr,100,10,{end}\n" for begin, end in zip(told, ends, strict=True)
    )


def test_ends_of_requests_are_told_and_change_no_value(tmp_path: Path) -> None:
    ends = [str(1_700_000_000 + k + 2 + (k == 99) * 98) for k in range(100)]
    path = write(tmp_path / "r.csv", timed(ends))
    without, told = read(path), read(path, ImportOptions({"end": "done"}))
    assert without.adapters == told.adapters
    assert without.total is not None
    assert told.total is not None
    (note,) = set(told.total.notes) - set(without.total.notes)
    assert note.startswith(
        "r.csv: requests took 2.98 s in the mean, half of them at most 2, 95 % at most 2; 2.98 were running"
    )


def test_dates_end_too_and_some_requests_tell_no_end(tmp_path: Path) -> None:
    begins = [f"2026-11-02T14:00:{k:02d}Z" for k in range(60)]
    ends = [f"2026-11-02T16:00:{k:02d}.500+02:00" for k in range(50)] + [""] * 5 + ["-"] * 3
    ends += ["2026-11-02T13:59:59Z"] * 2
    facts = read(write(tmp_path / "r.csv", timed(ends, begins)), ImportOptions({"end": "done"}))
    assert any("took 0.5 s in the mean" in note for note in facts.total.notes) if facts.total else False
    assert "r.csv: 8 requests tell no end" in facts.notes
    assert any(note.startswith("r.csv: 2 requests end before they begin") for note in facts.notes)


def test_litellm_tells_ends_by_itself(tmp_path: Path) -> None:
    text = lines(
        *(
            spend(startTime=f"2026-11-02T14:00:{k:02d}Z", endTime=f"2026-11-02T14:01:{k:02d}Z")
            for k in range(60)
        )
    )
    facts = read(write(tmp_path / "r.jsonl", text))
    assert facts.total is not None
    assert any("took 60 s in the mean" in note for note in facts.total.notes)


@pytest.mark.parametrize(
    "end",
    ["soon", "true", "1e400", "nan!", "inf", "[1]", "{}", "2026-11-02T14:00:00Z", "1.7e12", "9e15", "0x10"],
)
def test_an_end_that_is_none_is_refused(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "r.csv", timed([*["1700000009"] * 40, end]))
    with pytest.raises(ImportSourceError, match=r"r\.csv"):
        read(path, ImportOptions({"end": "done"}))


def test_ends_before_1970_and_beyond_64_bits_break_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", timed(["-5", "0", *["1700000500"] * 40]))
    assert any("end before" in note for note in read(path, ImportOptions({"end": "done"})).notes)
    path = write(tmp_path / "r.csv", timed([str(2**64 - 1)] * 40))
    with pytest.raises(ImportSourceError, match="10 years"):
        read(path, ImportOptions({"end": "done"}))


def test_a_csv_says_rates_with_the_interval_and_lengths(tmp_path: Path) -> None:
    facts = read(write(tmp_path / "r.csv", HEADER + rows(60) + rows(30, "de")))
    fr, de = facts.adapters
    assert fr.rate is not None
    assert fr.rate.value == pytest.approx(1.0, rel=0.1)
    assert "r.csv: 60 requests from 2026-11-02 14:00:00 to 14:00" in fr.rate.origin
    assert fr.prompt is not None
    assert fr.prompt.value.mean_tokens == pytest.approx(129.5, rel=0.01)
    assert de.prompt is None
    assert facts.total is not None
    assert facts.total.rate is not None
    assert facts.total.rate.value == pytest.approx(1.5, rel=0.1)


def test_rates_may_be_intervals(tmp_path: Path) -> None:
    facts = read(write(tmp_path / "r.csv", HEADER + rows()), ImportOptions(rates="interval"))
    assert facts.adapters[0].rate is not None
    value = facts.adapters[0].rate.value
    assert isinstance(value, UncertainRate)
    assert value.low < 1 < value.high


def test_litellm_leaves_out_caches_and_failures_and_keeps_nothing_personal(tmp_path: Path) -> None:
    good = [spend(startTime=f"2026-11-02T14:00:{k:02d}Z") for k in range(10)]
    others = [
        spend(cache_hit="True"),
        spend(status="failure", completion_tokens=0, prompt_tokens=0),
        spend(model_group="", startTime="2026-11-02T14:00:30Z"),
        spend(status="failure", completion_tokens=3),
    ]
    facts = read(write(tmp_path / "spend.jsonl", lines(*good, *others)))
    assert facts.kind == "LiteLLM spend logs"
    assert [(one.served_name, one.origin) for one in facts.adapters] == [
        ("fr", "spend.jsonl: 11 requests"),
        ("hosted_vllm/fr", "spend.jsonl: 1 requests"),
    ]
    told = " ".join(facts.notes)
    assert "1 requests were answered from a cache" in told
    assert "2 requests failed" in told
    assert "1 of these had no output" in told
    assert all(text not in repr(facts) for text in ("88dc28", "anna", "secret"))


def test_a_first_request_that_holds_a_long_conversation_is_known(tmp_path: Path) -> None:
    long = [spend(messages={"text": "x" * 200_000}, startTime=f"2026-11-02T14:00:0{k}Z") for k in range(3)]
    assert read(write(tmp_path / "spend.jsonl", lines(*long))).kind == "LiteLLM spend logs"


@pytest.mark.parametrize(
    "keys",
    [
        ("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
        ("genai_model_name", "genai_tokens_input", "genai_tokens_output"),
    ],
)
def test_access_logs_of_envoy_are_known(tmp_path: Path, keys: tuple[str, str, str]) -> None:
    calls = [
        {"start_time": f"2025-08-30T16:51:{k:02d}.894Z", "response_code": 200, "bytes_sent": 4}
        | dict(zip(keys, ("fr", 15, 7), strict=True))
        for k in range(5)
    ]
    health = {"start_time": "2025-08-30T16:52:00Z", "response_code": 200} | dict.fromkeys(keys)
    facts = read(write(tmp_path / "access.log", lines(*calls, health)))
    assert facts.kind == "Envoy AI Gateway access log"
    assert [one.served_name for one in facts.adapters] == ["fr"]
    assert "1 requests name no model" in " ".join(facts.notes)


def test_columns_are_mapped_with_keys_within_keys(tmp_path: Path) -> None:
    log = [
        {"at": 1_790_000_000 + k, "model": "fr", "usage": {"prompt_tokens": 9}, "choices": [{"n": 4}]}
        for k in range(60)
    ]
    options = ImportOptions(
        columns={
            "time": "at",
            "adapter": "model",
            "prompt_tokens": "usage.prompt_tokens",
            "output_tokens": "choices.0.n",
        }
    )
    path = tmp_path / "l.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*log).encode()))
    (fr,) = read(path, options).adapters
    assert fr.prompt is not None
    assert fr.output is not None
    assert (fr.prompt.value.mean_tokens, fr.output.value.mean_tokens) == (9, 4)


def test_names_of_the_base_model_become_its_traffic(tmp_path: Path) -> None:
    facts = with_base_names(
        read(write(tmp_path / "r.csv", HEADER + rows() + rows(60, "base"))), frozenset({"base"})
    )
    assert [one.served_name for one in facts.adapters] == ["fr"]
    assert facts.base_names == ("base",)
    assert facts.base is not None
    assert facts.base.rate is not None


def test_an_adapter_outside_the_window_has_the_mean_of_the_log(tmp_path: Path) -> None:
    early = "2026-11-02T01:00:00Z,nl,5,5\n"
    facts = read(write(tmp_path / "r.csv", HEADER + early + rows()))
    nl = facts.adapters[0]
    assert nl.rate is not None
    assert "none from 2026-11-02 14:00 to 15:00 UTC; 1 requests in the whole log" in nl.rate.origin


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_as_they_are(tmp_path: Path, name: str) -> None:
    log = [{"time": k + 0.5, "adapter": name, "prompt_tokens": 1, "output_tokens": 1} for k in range(5)]
    assert [one.served_name for one in read(write(tmp_path / "r.jsonl", lines(*log))).adapters] == [name]


def test_what_follows_no_process_is_written_as_a_trace_that_the_twin_plays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Pairs: a request, and another right after it; gaps alternate, which no renewal process does.
    starts = np.cumsum(2 + rng.random(400))
    times = np.sort(np.concatenate((starts, starts + 0.1)))
    log = [{"time": float(at), "adapter": 'a"b', "prompt_tokens": 3, "output_tokens": 4} for at in times]
    path, trace = write(tmp_path / "r.jsonl", lines(*log)), tmp_path / "t.csv"
    (one,) = read(path, ImportOptions(trace_file=trace)).adapters
    assert one.arrivals is not None
    arrivals = one.arrivals.value
    assert isinstance(arrivals, TraceArrivals)
    names = (str(arrivals.adapter_name),)
    assert len(rows_of_names(stated_trace(arrivals, names), names)[0]) == 800
    (left,) = read(path).adapters
    assert left.arrivals is None
    assert "no simple process" in left.notes[0]


@pytest.mark.skipif(not REAL.is_file(), reason="the logs of a real engine are not beside the repository")
def test_requests_of_a_real_load_are_read() -> None:
    facts = read(REAL)
    assert len(facts.adapters) == 16
    assert facts.total is not None
    assert facts.total.rate is not None
    assert facts.total.rate.value == pytest.approx(4.28, abs=0.01)


GOOD = HEADER + rows()
DAMAGED: list[tuple[str, str | bytes]] = [
    ("empty", ""),
    ("only a header", HEADER),
    ("one row", HEADER + rows(1)),
    ("binary", bytes(range(256)) * 50),
    ("zeros", b"\0" * 5000),
    ("half a gzip", gzip.compress(GOOD.encode())[:200]),
    ("gzip of nothing", gzip.compress(b"")),
    ("text for tokens", GOOD + "2026-11-02T15:00:00Z,fr,many,3\n"),
    ("fraction of a token", GOOD + "2026-11-02T15:00:00Z,fr,1.5,3\n"),
    ("negative", GOOD + "2026-11-02T15:00:00Z,fr,-3,3\n"),
    ("huge", GOOD + f"2026-11-02T15:00:00Z,fr,{10**30},3\n"),
    ("infinite", GOOD + "2026-11-02T15:00:00Z,fr,inf,3\n"),
    ("too many", GOOD + "2026-11-02T15:00:00Z,fr,99999999999,3\n"),
    ("true", GOOD + "2026-11-02T15:00:00Z,fr,True,3\n"),
    ("no date", GOOD + "yesterday,fr,1,3\n"),
    ("no time", GOOD + ",fr,1,3\n"),
    ("year 1", GOOD + "0001-01-01T00:00:00Z,fr,1,3\n"),
    ("years apart", GOOD + "1980-01-01T00:00:00Z,fr,1,3\n"),
    ("long name", GOOD + f"2026-11-02T15:00:00Z,{'x' * 2000},1,3\n"),
    ("other columns", "a,b,c\n1,2,3\n1,2,3\n"),
    ("two times", "time,ts,adapter,prompt_tokens,output_tokens\n1.5,1.5,a,1,1\n2.5,2.5,a,1,1\n"),
    ("whole numbers of no unit", HEADER + "1,a,1,1\n2,a,1,1\n"),
    ("one instant", HEADER + "1.5,a,1,1\n" * 5),
    ("no names", HEADER + "1.5,,1,1\n2.5,,1,1\n"),
    ("UTF-16", GOOD.encode("utf-16")),
    ("bad UTF-8", GOOD.encode() + b"2026-11-02T15:00:00Z,\xff\xfe,1,1\n"),
    ("open quote", GOOD + '"2026-11-02T15:00:00Z,fr,1,1\n'),
    ("JSON cut", lines(spend(), spend())[:-40]),
    ("JSON of a list", lines(spend(), [1], spend())),
    ("JSON that is deep", lines(spend()) + '{"a":' * 100_000 + "\n"),
    ("array at one instant", json.dumps([spend(), spend()])),
    ("array cut off", json.dumps([spend(), spend()])[:-30]),
    ("array with a number", json.dumps([spend(), 1, spend()])),
    ("array that goes on", json.dumps([spend(), spend()]) + "x"),
    ("array that is deep", "[" + json.dumps(spend()) + ',{"a":' * 100_000),
    ("page cut off", json.dumps({"data": [spend(), spend()]})[:-40]),
    ("page without a comma", json.dumps({"data": [spend(), spend()]}).replace("}, {", "} {")),
    ("tokens null and text", lines(spend(), spend(prompt_tokens="x"), spend())),
    ("tokens a list", lines(spend(), spend(prompt_tokens=[1]), spend())),
    ("tokens true", lines(spend(), spend(completion_tokens=True), spend())),
    ("tokens huge", lines(spend(), spend(completion_tokens=10**400), spend())),
    ("time null", lines(spend(), spend(startTime=None), spend())),
    ("time a mapping", lines(spend(), spend(startTime={}), spend())),
    ("Parquet that is none", b"PAR1" + b"x" * 100),
]


@pytest.mark.parametrize(("what", "content"), DAMAGED, ids=[what for what, _ in DAMAGED])
def test_what_is_damaged_is_refused_with_its_path(tmp_path: Path, what: str, content: str | bytes) -> None:
    path = write(tmp_path / "log", content)
    with pytest.raises(ImportSourceError) as refused:
        read(path)
    assert str(path) in str(refused.value), what


def test_no_message_shows_what_people_wrote(tmp_path: Path) -> None:
    log = [
        {"t": k + 0.5, "a": "x", "p": "please help me with my very private letter", "o": 1} for k in range(3)
    ]
    options = ImportOptions(columns={"time": "t", "adapter": "a", "prompt_tokens": "p", "output_tokens": "o"})
    with pytest.raises(ImportSourceError, match=r"line 1 holds a text of 42 characters") as refused:
        read(write(tmp_path / "l.jsonl", lines(*log)), options)
    assert "private" not in str(refused.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tokens": "x"}, "has no field"),
        ({"adapter": "nix"}, "has no column"),
        ({"adapter": "nix.0"}, "no col"),
    ],
)
def test_mappings_that_cannot_be_are_refused(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ImportSourceError, match=message):
        read(write(tmp_path / "r.csv", GOOD), ImportOptions(columns=columns))


@pytest.mark.skipif("LORAPACK_BIG_LOGS" not in os.environ, reason="writes and reads a log of 1 GB")
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_log_of_a_gigabyte_takes_less_memory_than_it_is_long(tmp_path: Path, form: str) -> None:
    rng, path, at = np.random.default_rng(0), tmp_path / f"big.{form}", 1_790_000_000.0
    with path.open("w") as file:
        file.write(HEADER if form == "csv" else "")
        while file.tell() < 10**9:
            times = at + np.cumsum(rng.exponential(0.01, 100_000))
            names, prompts = rng.integers(0, 300, 100_000), rng.integers(1, 4000, 100_000)
            pattern = (
                "{:.6f},team/adapter-number-{},{},{}\n"
                if form == "csv"
                else '{{"time": {:.6f}, "adapter": "team/adapter-number-{}", "prompt_tokens": {},'
                ' "output_tokens": {}, "path": "/v1/chat/completions", "request": "0123456789abcdef"}}\n'
            )
            file.writelines(map(pattern.format, times, names, prompts, prompts // 7 + 1))
            at = float(times[-1])
    code = (
        "import resource, sys, time; from pathlib import Path; begin = time.time()\n"
        "from scenarios.importers.facts import ImportOptions; from scenarios.importers.source import Source\n"
        "from scenarios.importers.traffic import KINDS; s = Source(Path(sys.argv[1]))\n"
        "f = next(k for k in KINDS if k.fits(s)).read(s, ImportOptions()); assert len(f.adapters) == 300\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.time() - begin)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, check=True
    )
    peak, seconds = map(float, done.stdout.split())
    print(f"{form}: {peak / 2**20:.0f} MiB, {seconds:.1f} s")
    assert peak < 2**30
