"""What metrics of servers say of two instants: vLLM of several releases, SGLang, range queries, damage."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

import optimizer
from scenarios import ImportSourceError
from tests.optimizer.checking.engine_metrics import BOOT_S, gateway_text, sglang_text
from tests.optimizer.checking.plans import AT_S, SECONDS, files, run_of, texts
from twin.server_metrics.figures import Gauge

REAL = Path(__file__).parent / "data" / "vllm_0_32_metrics.txt.gz"
"""Of a real vLLM 0.32 on a CPU, under load: 16 adapters, 4 slots."""


def written(folder: Path, *content: str | bytes) -> list[Path]:
    paths = [folder / f"m{k}.prom" for k in range(len(content))]
    for path, one in zip(paths, content, strict=True):
        path.write_bytes(one.encode() if isinstance(one, str) else one)
    return paths


def matrix(*series: tuple[dict[str, str], list[tuple[float, object]]]) -> str:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def as_range(*two: str, **labels: str) -> str:
    """Two texts as the answer of a range query."""
    series: dict[str, tuple[dict[str, str], list[tuple[float, object]]]] = {}
    for at, text in zip((BOOT_S + AT_S, BOOT_S + AT_S + SECONDS), two, strict=True):
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, told, value = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
                held = dict(re.findall(r'(\w+)="([^"]*)"', told or ""))
                key = name if "lora" in name else line.rpartition(" ")[0]
                series.setdefault(key, ({"__name__": name, **held, **labels}, []))[1].append((at, value))
    return matrix(*series.values())


def test_two_texts_say_what_a_server_did_between_them(tmp_path: Path) -> None:
    read = optimizer.read_metrics(1, *files(tmp_path, 1, preemptions=3.0, errors=2.0))
    records = run_of(1).records
    done = (records.finish_s > AT_S) & (records.finish_s <= AT_S + SECONDS)
    came = (records.sent_s > AT_S) & (records.sent_s <= AT_S + SECONDS)
    assert (read.gpu, read.seconds, read.readings, read.restarted) == (1, SECONDS, 2, False)
    assert read.answered == done.sum()
    assert read.arrived == came.sum()  # those that ended, and by how many more are there
    assert read.prompt_tokens == pytest.approx(records.requests.prompt_tokens[done].mean())
    assert read.output_tokens == pytest.approx(records.requests.output_tokens[done].mean())
    assert read.running is not None
    assert read.running.mean == pytest.approx((read.running.first + read.running.last) / 2)
    assert (read.preemptions, read.failed) == (0.0, 0.0)  # as many as before
    assert read.kv_cache_tokens == run_of(1).kv_cache_tokens
    assert read.max_loras == 8
    assert read.asked_for == {f"team {k}" for k in range(7, 13)}
    assert read.by_name == {}


def test_texts_are_taken_in_the_order_of_time_packed_ones_too(tmp_path: Path) -> None:
    first, last = texts(0)
    paths = written(tmp_path, gzip.compress(last.encode()), first)
    seen = optimizer.read_metrics(0, *files(tmp_path, 0))
    assert optimizer.read_metrics(0, *paths).answered == seen.answered


def test_one_file_may_hold_both_readings(tmp_path: Path) -> None:
    (both,) = written(tmp_path, "\n".join(texts(0)))
    read = optimizer.read_metrics(0, both)
    assert read.readings == 2
    assert read.answered == optimizer.read_metrics(0, *files(tmp_path, 0)).answered


def test_a_range_query_says_the_same(tmp_path: Path) -> None:
    (query,) = written(tmp_path, as_range(*texts(0), instance="gpu0:8000"))
    told, seen = optimizer.read_metrics(0, query), optimizer.read_metrics(0, *files(tmp_path, 0))
    for figure in (
        "seconds",
        "answered",
        "arrived",
        "prompt_tokens",
        "kv_cache_tokens",
        "max_loras",
        "running",
    ):
        assert getattr(told, figure) == getattr(seen, figure), figure


@pytest.mark.parametrize("name", ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"])
def test_the_use_of_the_cache_is_known_by_the_names_of_all_releases(tmp_path: Path, name: str) -> None:
    read = optimizer.read_metrics(0, *files(tmp_path, 0, kv_name=name))
    assert read.kv_use is not None
    assert 0 < read.kv_use.mean < 0.1


def test_releases_that_tell_the_use_by_both_names_are_not_counted_twice(tmp_path: Path) -> None:
    both = [text + 'vllm:gpu_cache_usage_perc{engine="0"} 0.9\n' for text in texts(0)]
    read = optimizer.read_metrics(0, *written(tmp_path, *both))
    assert read.kv_use is not None
    assert read.kv_use.mean < 0.1


def test_the_cache_is_as_large_as_newer_releases_say_themselves(tmp_path: Path) -> None:
    said = [
        text.replace('block_size="16"', 'kv_cache_size_tokens="123456",block_size="16"') for text in texts(0)
    ]
    assert optimizer.read_metrics(0, *written(tmp_path, *said)).kv_cache_tokens == 123_456
    unsaid = [text.replace('num_gpu_blocks="', 'num_gpu_blocks="None",x="') for text in texts(0)]
    assert optimizer.read_metrics(0, *written(tmp_path, *unsaid)).kv_cache_tokens is None


def test_engines_of_one_server_are_added(tmp_path: Path) -> None:
    second = [
        re.sub(r"(?m)^(?!vllm).*\n|^vllm:lora.*\n", "", text).replace('engine="0"', 'engine="1"')
        for text in texts(0)
    ]
    paths = written(tmp_path, *(one + two for one, two in zip(texts(0), second, strict=True)))
    alone, both = optimizer.read_metrics(0, *files(tmp_path, 0)), optimizer.read_metrics(0, *paths)
    assert alone.answered is not None
    assert alone.kv_use is not None
    assert both.answered == 2 * alone.answered
    assert both.kv_use is not None
    assert both.kv_use.mean == pytest.approx(alone.kv_use.mean)


def test_sglang_is_read_and_other_ranks_of_an_engine_are_left_out(tmp_path: Path) -> None:
    run = run_of(0)
    paths = written(tmp_path, *(sglang_text(run, at) for at in (AT_S, AT_S + SECONDS)))
    read, seen = optimizer.read_metrics(0, *paths), optimizer.read_metrics(0, *files(tmp_path, 0))
    assert read.answered == seen.answered
    assert read.prompt_tokens == pytest.approx(seen.prompt_tokens)
    assert read.running == seen.running
    assert (read.kv_cache_tokens, read.max_loras) == (run.kv_cache_tokens, 8)
    assert read.asked_for is None


def test_a_gateway_tells_names_apart(tmp_path: Path) -> None:
    paths = written(tmp_path, gateway_text({"a": 10, "b": 5}, 0), gateway_text({"a": 70, "b": 5}, 60))
    read = optimizer.read_metrics(None, *paths)
    assert read.by_name == {"a": 60.0, "b": 0.0}
    assert (read.gpu, read.seconds, read.answered) == (None, 60.0, None)
    assert "anna" not in repr(read)


def test_a_server_that_was_started_again_is_read_from_then_on(tmp_path: Path) -> None:
    first, _ = texts(0)
    again = BOOT_S + AT_S + 60
    last = texts(0, started_s=again)[1].replace(
        f"# time: {BOOT_S + AT_S + SECONDS}", f"# time: {again + 1000}"
    )
    read = optimizer.read_metrics(0, *written(tmp_path, first, last))
    assert read.restarted
    assert read.seconds == 1000
    records = run_of(0).records
    assert read.answered == (records.finish_s <= AT_S + SECONDS).sum()
    assert read.arrived == (records.sent_s <= AT_S + SECONDS).sum()  # none was there when it started


def test_counters_that_fell_tell_a_restart_where_nothing_else_does(tmp_path: Path) -> None:
    two = [re.sub("process_start.*\n", "", text) for text in texts(0)]
    two[1] = re.sub(r"(_total|_count|_sum)(\{.*\}) \d+", r"\1\2 5", two[1])
    read = optimizer.read_metrics(0, *written(tmp_path, *two))
    assert read.restarted
    assert read.answered == 5


def test_readings_of_two_servers_are_refused(tmp_path: Path) -> None:
    first, _ = texts(0)
    _, last = texts(0, started_s=BOOT_S + 300)
    with pytest.raises(ImportSourceError, match="of two servers, started 300 s apart"):
        optimizer.read_metrics(0, *written(tmp_path, first, last))


@pytest.mark.parametrize("label", ["instance", "pod"])
def test_a_range_query_over_several_servers_is_refused(tmp_path: Path, label: str) -> None:
    name = {"__name__": "vllm:request_success_total"}
    values: list[tuple[float, object]] = [(0.0, "1"), (60.0, "2")]
    query = matrix(*(({**name, label: one}, values) for one in ("gpu0", "gpu1")))
    with pytest.raises(ImportSourceError, match=f'holds 2 servers, by their label {label}; .*{label}="gpu0"'):
        optimizer.read_metrics(0, *written(tmp_path, query))


GOOD, LATER = texts(0)


def running(value: str) -> list[str | bytes]:
    """Readings of which the last tells so many running requests."""
    return [GOOD, re.sub(r"(running\{.*\}) \d+", rf"\1 {value}", LATER)]


NAMED = {"__name__": "vllm:request_success_total"}
TWO: list[tuple[float, object]] = [(0.0, "1"), (60.0, "2")]
DAMAGED: dict[str, tuple[str, list[str | bytes]]] = {
    "one reading": ("holds one reading", [GOOD]),
    "no file": ("cannot be read", []),
    "twice the same": ("readings 0 s apart", [GOOD, GOOD]),
    "empty": ("holds no metric", [GOOD, ""]),
    "only comments": ("holds no metric", ["# HELP x y\n", LATER]),
    "nothing of ours": ("holds no metric", [GOOD, "up 1\n"]),
    "an empty part": ("holds no metric", [GOOD + "# time: 2026-11-30T12:00:00Z\n"]),
    "a page": ("line 1", [GOOD, "<html>not found</html>\n"]),
    "cut in a line": ("line", [GOOD, LATER[:-40]]),
    "no number": ("line 4", [GOOD, re.sub("(?m)^vllm:num_requests_waiting.*$", "vllm:x many", LATER)]),
    "binary": ("no text of UTF-8", [GOOD, b"\xff\xfe\x00" * 100]),
    "nan": (
        "has nan for vllm:num_requests_running",
        running("NaN"),
    ),
    "negative": (
        "has -3 for vllm:num_requests_running",
        running("-3"),
    ),
    "infinite": ("has inf for", running("+Inf")),
    "huge": (r"has 1e\+300 for", running("1e300")),
    "two servers in one text": ("as of two servers", [GOOD, LATER + LATER.split("\n", 1)[1]]),
    "a wrong time": ("no time of ISO 8601", [GOOD, "# time: yesterday\n" + LATER]),
    "a range beside a text": ("beside other files", [GOOD, matrix((NAMED, TWO))]),
    "a range of nothing": ("holds no metric that a plan says", [matrix()]),
    "a range of rates": ("without rate", [matrix(({}, TWO))]),
    "a range of one instant": ("readings 0 s apart", [matrix((NAMED, [(0.0, "1")]))]),
    "a vector": ("is no matrix", ['{"data": {"resultType": "vector", "result": []}}']),
    "a range cut off": ("no answer of Prometheus", [matrix((NAMED, TWO))[:-20]]),
    "a range of words": ("no series", [matrix((NAMED, [(0.0, "1"), (1.0, "x")]))]),
    "a range below 0": ("has -5 for", [matrix((NAMED, [(0.0, "1"), (9.0, "-5")]))]),
    "a range of nan": ("has nan for", [matrix((NAMED, [(0.0, "1"), (9.0, "NaN")]))]),
    "deep": ("no answer of Prometheus", ['{"data": {"resultType": "matrix", "result": ' + "[" * 100_000]),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_refused_with_its_file(tmp_path: Path, case: str) -> None:
    message, content = DAMAGED[case]
    paths = written(tmp_path, *content) or [tmp_path / "m-missing.prom"]
    with pytest.raises(ImportSourceError, match=message) as told:
        optimizer.read_metrics(0, *paths)
    assert str(tmp_path / "m") in str(told.value)


def test_no_files_at_all_are_refused() -> None:
    with pytest.raises(ImportSourceError, match="are none; save what the server answers"):
        optimizer.read_metrics(0)


def test_a_restart_just_before_the_last_reading_says_nothing(tmp_path: Path) -> None:
    _, last = texts(0, started_s=BOOT_S + AT_S + SECONDS - 0.5)
    with pytest.raises(ImportSourceError, match="just before its last reading; read it again in a minute"):
        optimizer.read_metrics(0, *written(tmp_path, GOOD, last))


def test_metrics_of_a_real_engine_are_read(tmp_path: Path) -> None:
    """vLLM 0.32; its text a minute later is made of the one that there is."""
    text = gzip.decompress(REAL.read_bytes()).decode()
    later = re.sub(r'(request_success_total\{.*"length".*\}) 129.0', r"\1 429.0", text)
    later = re.sub(r"(request_prompt_tokens_count\{.*\}) 129.0", r"\1 429.0", later)
    later = re.sub(r"(request_prompt_tokens_sum\{.*\}) 9352.0", r"\1 39352.0", later)
    info = (
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="new",waiting_lora_adapters=""} 1.8e9\n'
    )
    paths = written(tmp_path, f"# time: 1795922200\n{text}", f"# time: 1795922300\n{later}{info}")
    read = optimizer.read_metrics(0, *paths)
    assert (read.answered, read.arrived, read.prompt_tokens) == (300.0, 300.0, 100.0)
    assert (read.running, read.waiting) == (Gauge(7, 7, 7), Gauge(12, 12, 12))
    assert (read.kv_cache_tokens, read.max_loras, read.asked_for) == (262_144, 4, {"new"})
    assert read.kv_use is not None
    assert np.isclose(read.kv_use.mean, 0.003662556464412159)
