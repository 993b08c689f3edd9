"""Snapshots of metrics and range queries say totals, names in flight, and rates by model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from scenarios import import_fleet
from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.source import Source
from scenarios.importers.traffic import KINDS, combined
from scenarios.traffic.lengths import Lengths

REAL = Path(__file__).resolve().parents[4] / "shared" / "real_engine" / "logs" / "metrics_under_load.txt"

ENGINE = """# TYPE vllm:request_success_total counter
process_start_time_seconds 1.79e+09
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="base"}} {0}
vllm:request_success_total{{engine="0",finished_reason="error",model_name="base"}} 3
vllm:request_prompt_tokens_bucket{{engine="0",le="100.0",model_name="base"}} {1}
vllm:request_prompt_tokens_bucket{{engine="0",le="200.0",model_name="base"}} {0}
vllm:request_prompt_tokens_bucket{{engine="0",le="+Inf",model_name="base"}} {0}
vllm:request_prompt_tokens_count{{engine="0",model_name="base"}} {0}
vllm:request_prompt_tokens_sum{{engine="0",model_name="base"}} {2}
vllm:lora_requests_info{{max_lora="4",running_lora_adapters="fr,de",waiting_lora_adapters="fr,de"}} 1.79e+09
"""
GATEWAY = (
    '# TYPE x counter\nlitellm_proxy_total_requests_metric_total{{requested_model="{}",user="anna"}} {}\n'
)


def read(path: Path, text: str | bytes, options: ImportOptions | None = None) -> SourceFacts:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = Source(path)
    kind = next((kind for kind in KINDS if kind.fits(source)), KINDS[-1])
    return kind.read(source, options or ImportOptions())


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> str:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def test_one_snapshot_says_lengths_and_names_but_no_rate(tmp_path: Path) -> None:
    facts = read(tmp_path / "m.txt", ENGINE.format(200, 100, 20_000))
    total = combined(facts.snapshots).total
    assert total is not None
    assert total.rate is None
    assert "no rate" in total.notes[0]
    assert total.prompt is not None
    assert total.prompt.value.mean_tokens == pytest.approx(100, rel=0.01)
    assert [one.served_name for one in facts.adapters] == ["fr", "de"]
    assert all(one.rate is None for one in facts.adapters)
    assert facts.servers[0].engine["max_loras"].value == 4
    assert facts.base_names == ("base",)
    assert "only adapters in flight" in facts.notes[0]


def test_two_snapshots_say_the_rate_between_them(tmp_path: Path) -> None:
    first = read(tmp_path / "m-1790000000.txt", ENGINE.format(200, 100, 20_000))
    second = read(tmp_path / "m-1790000100.txt", ENGINE.format(500, 250, 50_000))
    both = combined([*second.snapshots, *first.snapshots])
    assert both.total is not None
    assert both.total.rate is not None
    assert both.total.rate.value == pytest.approx(3.0)
    assert "by the times in their names" in both.total.notes[0]


def test_one_file_may_hold_both_snapshots(tmp_path: Path) -> None:
    text = (
        "# time: 2026-11-30T12:00:00Z\n"
        + ENGINE.format(200, 100, 20_000)
        + "# time: 2026-11-30T12:01:40Z\n"
        + ENGINE.format(500, 250, 50_000)
    )
    total = combined(read(tmp_path / "m.txt", text).snapshots).total
    assert total is not None
    assert total.rate is not None
    assert total.rate.value == pytest.approx(3.0)


def test_files_of_pairs_say_no_word_of_single_snapshots_and_lengths_of_the_time_between(
    tmp_path: Path,
) -> None:
    read(tmp_path / "m-1790000000.txt", ENGINE.format(200, 100, 20_000))
    read(tmp_path / "m-1790000100.txt", ENGINE.format(500, 100, 65_000))
    fleet = import_fleet(tmp_path)
    assert not any("no rate" in note for note in fleet.notes)
    assert sum("only adapters in flight" in note for note in fleet.notes) == 1
    prompt = yaml.safe_load(fleet.text)["workload"]["prompt"]
    # 300 requests of 150 tokens came between; since the start the mean is 130.
    assert TypeAdapter(Lengths).validate_python(prompt).mean_tokens == pytest.approx(150, rel=0.02)


@pytest.mark.parametrize("apart_s", [0.0, 0.01, 4.9])
def test_snapshots_of_one_time_are_refused_with_what_to_do(tmp_path: Path, apart_s: float) -> None:
    for k in range(2):
        path = tmp_path / f"gpu{k}.prom"
        read(path, ENGINE.format(200 + k, 100, 20_000))
        os.utime(path, (1.79e9 + k * apart_s, 1.79e9 + k * apart_s))
    with pytest.raises(
        ImportSourceError, match=r"gpu0\.prom and gpu1\.prom.* s apart .*started at one time.*# time:"
    ):
        import_fleet(tmp_path)


def test_a_counter_that_falls_without_a_new_start_is_of_another_server(tmp_path: Path) -> None:
    read(tmp_path / "m-1790000000.txt", ENGINE.format(200, 100, 20_000))
    read(tmp_path / "m-1790000100.txt", ENGINE.format(50, 10, 5_000))
    with pytest.raises(ImportSourceError, match="fell from one to the other"):
        import_fleet(tmp_path)


def test_snapshots_of_different_servers_are_not_compared(tmp_path: Path) -> None:
    first = read(tmp_path / "m-1790000000.txt", ENGINE.format(200, 100, 20_000))
    other = ENGINE.format(500, 250, 50_000).replace("1.79e+09\nvllm", "1.7900005e+09\nvllm")
    second = read(tmp_path / "m-1790000100.txt", other)
    both = combined([*first.snapshots, *second.snapshots])
    assert both.total is not None
    assert both.total.rate is None


def test_a_gateway_tells_rates_of_adapters_and_nobody_who_asked(tmp_path: Path) -> None:
    parts = [
        f"# time: {at}\n" + GATEWAY.format("fr", fr) + GATEWAY.format("de", de)
        for at, fr, de in ((1_790_000_000, 10, 0), (1_790_000_100, 60, 10))
    ]
    facts = combined(read(tmp_path / "m.txt", "".join(parts)).snapshots)
    rates = {one.served_name: one.rate.value for one in facts.adapters if one.rate is not None}
    assert rates == {"fr": 0.5, "de": 0.1}
    assert "anna" not in repr((facts.adapters, facts.total))


def samples(rates: Sequence[float], begin: float = 1.7e9, step_s: float = 60.0) -> list[tuple[float, str]]:
    """A counter that rises by some rates in 1/s, each for an hour."""
    values, count = [(begin, "5")], 5.0
    for hour, rate in enumerate(rates):
        for k in range(1, int(3600 / step_s) + 1):
            count += rate * step_s
            values.append((begin + hour * 3600 + k * step_s, f"{count:.6f}"))
    return values


@pytest.mark.parametrize("step_s", [15.0, 60.0, 900.0, 3600.0])
def test_the_busiest_hour_of_a_range_query_is_that_of_all_servers(tmp_path: Path, step_s: float) -> None:
    one, two = {**NAMED, "pod": "a"}, {**NAMED, "pod": "b"}
    text = matrix((one, samples([1, 1, 3, 1], step_s=step_s)), (two, samples([4, 1, 3, 0], step_s=step_s)))
    facts = read(tmp_path / "q.json", text)
    assert facts.total is not None
    assert facts.total.rate is not None
    assert facts.total.rate.value == pytest.approx(6.0, rel=1e-3)
    (note,) = facts.total.notes
    assert note == (
        "q.json: the busiest hour, with 1.71 times the requests of a mean hour of 4 h, "
        "from 2023-11-15 00:13 to 01:13 UTC"
    )
    whole = read(tmp_path / "q.json", text, ImportOptions(window="mean"))
    assert whole.total is not None
    assert whole.total.rate is not None
    assert whole.total.rate.value == pytest.approx(3.5, rel=1e-3)
    assert whole.total.notes[0].startswith("q.json: the whole query of 4 h, from")


def test_rates_of_models_are_those_of_the_busiest_hour_of_all(tmp_path: Path) -> None:
    name = {"__name__": "litellm_proxy_total_requests_metric_total"}
    text = matrix(
        ({**name, "requested_model": "fr"}, samples([1, 2, 9, 1])),
        ({**name, "requested_model": "de"}, samples([9, 20, 1, 1])),
    )
    facts = read(tmp_path / "q.json", text)
    rates = {one.served_name: one.rate.value for one in facts.adapters if one.rate is not None}
    assert rates == pytest.approx({"fr": 2.0, "de": 20.0}, rel=1e-3)


def test_a_query_of_few_hours_or_of_long_steps_is_taken_whole(tmp_path: Path) -> None:
    short = read(tmp_path / "q.json", matrix((NAMED, samples([1, 2])[:-2])))
    assert short.total is not None
    assert "which is only" in short.total.notes[0]
    long = read(tmp_path / "q.json", matrix((NAMED, [(k * 7200.0, str(k * 7200)) for k in range(9)])))
    assert long.total is not None
    assert long.total.rate is not None
    assert long.total.rate.value == pytest.approx(1.0)
    assert "the whole query" in long.total.notes[0]


def test_a_restart_within_the_busiest_hour_is_counted_through(tmp_path: Path) -> None:
    values = samples([1, 5, 1])
    lost = float(values[90][1])
    restarted = [(at, text if k < 90 else str(float(text) - lost)) for k, (at, text) in enumerate(values)]
    facts = read(tmp_path / "q.json", matrix((NAMED, restarted)))
    assert facts.total is not None
    assert facts.total.rate is not None
    assert facts.total.rate.value == pytest.approx(5.0 * 59 / 60, rel=1e-3)  # of its step nothing is known


def test_a_range_query_counts_through_restarts(tmp_path: Path) -> None:
    labels = {"__name__": "vllm:request_success_total", "model_name": "base", "finished_reason": "stop"}
    values = [(0.0, "100"), (60.0, "160"), (120.0, "20"), (180.0, "80")]
    facts = read(tmp_path / "q.json", matrix((labels, values)))
    assert facts.total is not None
    assert facts.total.rate is not None
    assert facts.total.rate.value == pytest.approx((60 + 20 + 60) / 180, rel=1e-5)
    assert facts.base_names == ("base",)


def test_counters_that_differ_by_a_label_of_models_say_rates(tmp_path: Path) -> None:
    series = [
        ({"__name__": "router_requests_total", "lora_name": name}, [(0.0, "0"), (100.0, str(count))])
        for name, count in (('a"b', 100), ("$(touch x)", 200))
    ]
    facts = read(tmp_path / "q.json", matrix(*series))
    assert {one.served_name: one.rate.value for one in facts.adapters if one.rate} == {
        'a"b': 1.0,
        "$(touch x)": 2.0,
    }


@pytest.mark.skipif(not REAL.is_file(), reason="the metrics of a real engine are not beside the repository")
def test_metrics_of_a_real_engine_are_read(tmp_path: Path) -> None:
    text = REAL.read_text()
    later = re.sub(r"(request_success_total\{.*length.*\}) 129.0", r"\1 429.0", text)
    facts = read(tmp_path / "m.txt", f"# time: 1795922200\n{text}\n# time: 1795922300\n{later}")
    total = combined(facts.snapshots).total
    assert total is not None
    assert total.rate is not None
    assert total.rate.value == pytest.approx(3.0)
    assert len(facts.adapters) == 16
    assert facts.base_names == ("base",)


GOOD = ENGINE.format(200, 100, 20_000)
NAMED = {"__name__": "vllm:request_success_total"}
DAMAGED: list[str | bytes] = [
    "# HELP nothing\n",
    "# TYPE x counter\nx 1\n",
    GOOD + "vllm:request_success_total{engine=\n",
    GOOD + 'vllm:request_success_total{engine="0} 3\n',
    GOOD + 'vllm:request_success_total{engine="0"} many\n',
    GOOD + 'vllm:request_success_total{engine="0"} NaN\n',
    GOOD + 'vllm:request_success_total{engine="0"} -3\n',
    GOOD + 'vllm:request_success_total{engine="0"} 1e300\n',
    GOOD + 'vllm:request_success_total{engine="0"} +Inf\n',
    GOOD + "vllm:request_success_total\n",
    GOOD + "vllm:request_success_total{0} 3\n",
    GOOD + 'vllm:lora_requests_info{max_lora="x"} 1\n',
    GOOD + 'vllm:lora_requests_info{max_lora="-1"} 1\n',
    GOOD + 'vllm:lora_requests_info{max_lora="99999999999"} 1\n',
    GOOD + "# time: yesterday\n",
    GOOD + "<html>not found</html>\n",
    GOOD[:-30],
    GOOD.encode() + b"\xff\xfe\n",
    GOOD + "x" * 100_000 + "\n",
    "# time: 2026-11-30T12:00:00Z\n",
    matrix(),
    matrix((NAMED, [])),
    matrix((NAMED, [(0.0, "1")])),
    matrix((NAMED, [(0.0, "1"), (0.0, "2")])),
    matrix((NAMED, [(0.0, "1"), (1.0, "x")])),
    matrix((NAMED, [(0.0, "1"), (1.0, "-5")])),
    matrix((NAMED, [(0.0, "1"), (1.0, "NaN")])),
    matrix((NAMED, [(0.0, "1"), (float("inf"), "2")])),
    matrix((NAMED, [(0.0, "1"), (1e300, "2")])),
    matrix((NAMED, [(-1e9, "1"), (1.0, "2")])),
    matrix((NAMED, [(float("nan"), "1"), (1.0, "2")])),
    matrix((NAMED, [(True, "1"), (False, "2")])),
    matrix(({}, [(0.0, "1"), (1.0, "2")])),
    matrix(({"__name__": "up"}, [(0.0, "1"), (1.0, "2")])),
    matrix((NAMED, [(0.0, "1"), (1.0, "2")]))[:-20],
    '{"data": {"resultType": "vector", "result": []}}',
    '{"data": {"resultType": "matrix", "result": {}}}',
    '{"data": {"resultType": "matrix"}}',
    '{"data": [], "x": {"resultType": "matrix"}}',
    '{"data": {"resultType": "matrix", "result": [1]}}',
    '{"data": {"resultType": "matrix", "result": [{"metric": 1, "values": []}]}}',
    '{"data": {"resultType": "matrix", "result": [{"metric": {}, "values": 3}]}}',
    '{"data": {"resultType": "matrix", "result": ' + "[" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_damaged_is_refused_with_its_path(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ImportSourceError, match=re.escape(str(tmp_path / "m"))):
        read(tmp_path / "m", content)
