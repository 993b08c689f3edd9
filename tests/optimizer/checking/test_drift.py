"""Fleets beside their plan: what is as planned, what endangers the plan, and what is only noted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import poisson

import optimizer
from optimizer.checking.drift.engine_rows import _most_preemptions
from optimizer.checking.drift.planned import planned_gpus
from scenarios import ScenarioError
from tests.optimizer.checking.engine_metrics import gateway_text
from tests.optimizer.checking.plans import SECONDS, SLOTS, files, plan
from twin.server_metrics.figures import Gauge

READ = optimizer.MetricsReading(
    gpu=0,
    origin="made by hand",
    seconds=600.0,
    readings=2,
    arrived=1800.0,
    answered=1800.0,
    failed=0.0,
    prompt_tokens=200.0,
    output_tokens=200.0,
    running=Gauge(9, 10, 9.5),
    waiting=Gauge(0, 0, 0),
    kv_use=Gauge(0.01, 0.01, 0.01),
    preemptions=0.0,
    kv_cache_tokens=329_648,
    max_loras=SLOTS,
    asked_for=frozenset(f"team {k}" for k in range(1, 7)),
)
"""GPU 0 as planned: 3 requests/s of 200 and 200 tokens, 9.4 of them running."""


def rows_of(report: optimizer.DriftReport, verdict: str = "drift") -> dict[str, optimizer.DriftRow]:
    return {row.figure: row for row in report.rows if row.verdict == verdict}


def checked(**changes: object) -> optimizer.DriftReport:
    return optimizer.check_drift(plan(), [replace(READ, **changes)])  # type: ignore[arg-type]


def served(folder: Path, times: float) -> optimizer.DriftReport:
    read = [optimizer.read_metrics(gpu, *files(folder, gpu, times)) for gpu in (0, 1)]
    return optimizer.check_drift(plan(), read)


def test_a_fleet_that_gets_what_was_planned_is_as_planned(tmp_path: Path) -> None:
    report = served(tmp_path, 1.0)
    assert report.as_planned
    assert report.drifted == ()
    assert {row.verdict for row in report.rows} == {"as planned"}
    assert {row.gpu for row in report.rows} == {0, 1}
    assert report.seconds == {0: SECONDS, 1: SECONDS}
    assert report.unread == ()
    assert str(report).startswith("as planned: 2 GPUs read\n")


def test_a_fleet_that_gets_half_more_is_not(tmp_path: Path) -> None:
    report = served(tmp_path, 1.5)
    assert not report.as_planned
    assert [row.gpu for row in report.drifted if row.figure == "requests/s"] == [0, 1]
    told = " ".join(str(report).split())
    assert "NOT AS PLANNED" in told
    assert "requests/s of GPU 0 and 1: more is asked for than planned" in told
    assert "`lorapack replan`" in told


def test_a_fleet_that_gets_less_is_noted_and_as_planned(tmp_path: Path) -> None:
    report = served(tmp_path, 0.5)
    assert report.as_planned
    assert rows_of(report, "note")["requests/s"].suggests == "less is asked for than planned"


def test_the_longer_a_gpu_is_read_the_less_is_left_to_chance() -> None:
    ends = []
    for seconds in (60.0, 600.0, 86_400.0):
        rate = checked(seconds=seconds, arrived=3 * seconds, answered=3 * seconds).rows[0]
        assert rate.verdict == "as planned"
        assert rate.high is not None
        ends.append(rate.high)
    assert ends[0] > ends[1] > ends[2] > 3 * 1.05
    assert ends[2] == pytest.approx(3 * 1.05, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "figure", "verdict", "suggests"),
    [
        ({"arrived": 2100.0}, "requests/s", "drift", "more is asked for"),
        ({"arrived": 1500.0}, "requests/s", "note", "less is asked for"),
        (
            {"prompt_tokens": 240.0},
            "prompt tokens",
            "drift",
            "prompts are longer .* into the scenario",
        ),
        ({"prompt_tokens": 160.0}, "prompt tokens", "note", "prompts are shorter"),
        ({"output_tokens": 240.0}, "answer tokens", "drift", "answers are longer"),
        ({"output_tokens": 160.0}, "answer tokens", "note", "answers are shorter"),
        ({"waiting": Gauge(30, 30, 30)}, "waiting", "drift", "though traffic is as planned"),
        ({"waiting": Gauge(0, 40, 20)}, "queue growth", "drift", "does not keep up"),
        ({"running": Gauge(60, 60, 60)}, "running", "drift", "the engine is slower than the twin's"),
        ({"kv_use": Gauge(0.95, 0.95, 0.95)}, "KV use", "drift", "more of the KV cache is in use"),
        ({"kv_use": Gauge(0.5, 0.5, 0.5)}, "KV use", "note", "more of the KV cache is in use"),
        ({"preemptions": 100.0}, "preemptions", "drift", "the KV cache is too small"),
        ({"kv_cache_tokens": 200_000}, "KV cache tokens", "drift", "200,000 tokens instead of 329,648"),
        ({"kv_cache_tokens": 400_000}, "KV cache tokens", "note", "400,000 tokens instead of 329,648"),
        ({"max_loras": 4}, "slots", "drift", "max_loras is 4 instead of 8"),
        ({"max_loras": 16}, "slots", "note", "max_loras is 16 instead of 8"),
        ({"failed": 100.0}, "failed", "drift", "ended in errors, or were refused"),
        ({"failed": 3.0}, "failed", "note", "ended in errors, or were refused"),
    ],
)
def test_what_differs_is_told_with_what_it_suggests(
    changes: dict[str, object], figure: str, verdict: str, suggests: str
) -> None:
    report = checked(**changes)
    row = rows_of(report, verdict)[figure]
    assert re.search(suggests, row.suggests)
    assert report.as_planned == (verdict == "note")
    assert figure in str(report)


def test_as_many_preemptions_as_the_twin_shows_and_chance_adds_are_as_planned() -> None:
    for bursts in (1.0, 4.0):
        foretold: Any = SimpleNamespace(preemptions_per_s=0.5, preemption_dispersion=bursts)
        most = _most_preemptions(foretold, 200.0, 0.001)
        assert poisson.sf(most / bursts, 100 / bursts) <= 0.001
        assert 100 < most < 100 + 5 * (100 * bursts) ** 0.5


def test_longer_queues_of_more_traffic_are_no_slower_engine() -> None:
    report = checked(arrived=6000.0, waiting=Gauge(0, 500, 250), running=Gauge(60, 60, 60))
    assert "as more is asked for than planned" in rows_of(report)["waiting"].suggests
    assert "as more is asked for than planned" in rows_of(report)["running"].suggests


def test_many_readings_of_a_queue_are_held_against_means() -> None:
    assert checked(running=Gauge(18, 18, 18)).as_planned
    assert "running" in rows_of(checked(running=Gauge(18, 18, 18), readings=41))


def test_few_requests_tell_nothing_of_lengths() -> None:
    report = checked(answered=19.0, arrived=1800.0, prompt_tokens=900.0)
    assert report.as_planned
    assert set(rows_of(report, "too few")) == {"prompt tokens", "answer tokens"}


def test_requests_at_the_wrong_server_are_told_with_where_they_belong() -> None:
    report = checked(asked_for=READ.asked_for | {"team 9", "$(touch x)\n"})
    told = rows_of(report)["adapters seen"].suggests
    assert "team 9 (of GPU 1)" in told
    assert "(in no plan)" in told
    assert r"$(touch x)\n (in no plan)" in " ".join(str(report).split())


def test_adapters_that_nobody_asks_for_are_noted() -> None:
    report = checked(asked_for=frozenset({"team 1"}))
    told = rows_of(report, "note")["adapters seen"].suggests
    assert "nobody asks here for team 2, team 3, team 4 and 2 more" in told
    assert report.as_planned
    assert not rows_of(checked(asked_for=frozenset({"team 1"}), seconds=5.0, arrived=15.0), "note")


def test_what_metrics_do_not_say_is_not_compared() -> None:
    nothing = optimizer.MetricsReading(gpu=1, origin="m.prom", seconds=60.0, readings=2)
    report = optimizer.check_drift(plan(), [nothing])
    assert report.rows == ()
    assert report.as_planned
    assert report.unread == (0,)
    assert "GPU 1: m.prom counts no requests" in report.notes[0]
    assert "not read: GPU: 0" in str(report)


def test_a_restart_is_told() -> None:
    assert "GPU 0 was started again meanwhile" in checked(restarted=True).notes[0]


def test_rates_between_low_and_high_are_all_as_planned() -> None:
    result = plan("adapters[0].rate={low: 0.1, high: 1.1}", "adapters[0].prompt=400")
    for rate, prompt in ((2.6, 200.0), (3.6, 260.0)):
        read = replace(READ, arrived=600 * rate, answered=600 * rate, prompt_tokens=prompt)
        assert optimizer.check_drift(result, [read]).as_planned, rate
    over = replace(READ, arrived=600 * 4.5)
    assert "requests/s" in rows_of(optimizer.check_drift(result, [over]))
    planned = planned_gpus(result, {0: 600.0})[0]
    assert planned.rate == pytest.approx((2.6, 3.6))
    assert planned.prompt.low == pytest.approx((0.1 * 400 + 2.5 * 200) / 2.6, rel=0.01)
    assert planned.prompt.high == pytest.approx((1.1 * 400 + 2.5 * 200) / 3.6, rel=0.01)


def test_bursts_widen_what_a_rate_may_be() -> None:
    calm = checked().rows[0]
    bursty = optimizer.check_drift(plan("workload.arrivals={process: gamma, cv: 3}"), [READ]).rows[0]
    assert calm.high is not None
    assert bursty.high is not None
    assert bursty.high > 1.1 * calm.high


def test_a_gateway_tells_of_each_name_whether_it_is_asked_for_more(tmp_path: Path) -> None:
    counts = {f"team {k}": 300 for k in range(1, 13)} | {"base": 600}
    read = {}
    for name, changed in (("as", {}), ("more", {"team 3": 600, "stranger": 50}), ("less", {"base": 100})):
        paths = [tmp_path / f"{name}{k}.prom" for k in (1, 2)]
        paths[0].write_text(gateway_text(dict.fromkeys(counts, 0), 0))
        paths[1].write_text(gateway_text({**counts, **changed}, 600))
        read[name] = optimizer.check_drift(plan(), [optimizer.read_metrics(None, *paths)])
    assert read["as"].as_planned
    assert [row.figure for row in read["as"].rows] == ["names asked for"]
    assert set(rows_of(read["more"])) == {"requests/s of team 3"}
    assert rows_of(read["more"], "note")["names asked for"].suggests == "in no plan: stranger"
    assert set(rows_of(read["less"], "note")) == {"requests/s of base"}
    assert read["more"].unread == (0, 1)
    assert "requests/s of team 3 of the gateway" in str(read["more"])


def test_a_report_is_a_frame_and_json_and_reads_back_equal() -> None:
    report = checked(arrived=2400.0)
    frame = report.to_frame()
    assert list(frame.columns[:4]) == ["gpu", "figure", "planned", "low"]
    assert len(frame) == len(report.rows)
    told = json.loads(report.to_json())
    assert told["as_planned"] is False
    assert told["rows"][0]["verdict"] == "drift"
    assert optimizer.DriftReport.model_validate_json(report.to_json()) == report
    assert repr(report) == "<DriftReport: NOT AS PLANNED: 1 figure on GPU 0; 1 GPU read>"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_report_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(checked(arrived=2400.0, kv_cache_tokens=100)).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "are of no GPU; give 0 or 1"),
        ((0, 0), "of GPU 0 are given twice"),
        ((None, None), "of a gateway are given twice"),
        ((7,), "are of GPU 7, which the plan has not; give 0 or 1"),
    ],
)
def test_readings_of_other_gpus_are_refused(given: tuple[int | None, ...], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        optimizer.check_drift(plan(), [replace(READ, gpu=gpu) for gpu in given])


def test_without_a_plan_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(ScenarioError, match="there is no plan"):
        optimizer.check_drift(plan().model_copy(update={"placement": None}), [READ])
