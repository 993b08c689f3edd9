"""Traces are played at other rates, for adapters by name, and keep what prompts have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenarios import FixedLengths, TraceArrivals, TraceColumns, Workload, loads
from scenarios.reading.row_files import TraceError
from twin import (
    GPULoad,
    Requests,
    WorkloadError,
    check_trace,
    draw_requests,
    find_profile,
    observation_of,
    simulate,
)
from twin.engine.requests import FloatArray
from twin.workload.recording_checks import recording_remarks
from twin.workload.trace_prefixes import common_prefixes
from twin.workload.trace_replay import Replay, replay_trace
from twin.workload.traces import PrefixHashes, Trace


def _trace(n: int = 3600, names: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> Trace:
    """An hour, one request a second; a has 60 %, b 30 % (all in the second half), c the rest."""
    rng = np.random.default_rng(seed)
    name = np.where(rng.random(n) < 0.6, 0, 2).astype(np.int32)
    half = np.arange(n) >= n // 2
    name[half & (rng.random(n) < 0.6)] = 1
    return Trace(
        np.arange(n, dtype=np.float64),
        np.arange(1, n + 1, dtype=np.int32),
        np.full(n, 7, dtype=np.int32),
        float(n),
        names,
        name,
    )


def _play(trace: Trace, rates: dict[str, float], duration_s: float, *, sustained: bool) -> Replay:
    rate, rng = np.array(list(rates.values())), np.random.default_rng(5)  # not the stream of the names
    names = tuple(rates) if trace.names else None
    return replay_trace(trace, rate, names, duration_s, rng, sustained=sustained)


def _own_rates(trace: Trace) -> FloatArray:
    assert trace.name is not None
    return np.bincount(trace.name, minlength=len(trace.names)) / trace.period_s


@pytest.mark.parametrize("sustained", [False, True])
def test_a_trace_at_its_own_rates_is_played_as_it_is(sustained: bool) -> None:
    trace = _trace()
    played = _play(trace, dict(zip("abc", _own_rates(trace), strict=True)), 5400.0, sustained=sustained)
    assert played.arrival_s == pytest.approx(np.arange(5400))
    assert list(played.row) == [*range(3600), *range(1800)]
    assert trace.name is not None
    assert list(played.adapter) == list(trace.name[played.row])


def test_adapters_get_what_is_under_their_names_in_whatever_order() -> None:
    trace = _trace()
    rate = dict(zip("abc", _own_rates(trace), strict=True))
    played = _play(trace, {"c": rate["c"], "b": rate["b"]}, 3600.0, sustained=True)
    assert trace.name is not None
    assert list(played.row) == list(np.flatnonzero(trace.name != 0))
    assert list(played.adapter) == list(np.where(trace.name == 2, 0, 1)[played.row])


@pytest.mark.parametrize("factor", [0.2, 3.5])
def test_names_are_thinned_or_copied_to_their_rates_at_the_traces_clock(factor: float) -> None:
    trace = _trace()
    own = _own_rates(trace)
    rates = {"a": own[0], "b": own[1] * factor, "c": own[2]}
    played = _play(trace, rates, 36_000.0, sustained=True)
    counts = np.bincount(played.adapter, minlength=3)
    assert counts[[0, 2]] == pytest.approx(own[[0, 2]] * 36_000)
    assert counts[1] == pytest.approx(rates["b"] * 36_000, rel=0.05)
    busy = played.arrival_s[played.adapter == 1] % 3600 >= 1800
    assert busy.mean() == pytest.approx(1.0, abs=0.18)  # copies lie up to ten minutes apart
    assert (np.diff(played.arrival_s) >= 0).all()


def test_under_paper_a_named_trace_is_stretched_to_the_total_rate() -> None:
    trace = _trace()
    own = _own_rates(trace)
    rates = dict(zip("abc", own * [20, 10, 20], strict=True))
    played = _play(trace, rates, 3600.0, sustained=False)
    counts = np.bincount(played.adapter, minlength=3) / 3600
    assert counts == pytest.approx(list(rates.values()), rel=0.05)
    speed = sum(rates.values()) / own.sum()
    second_half = (played.arrival_s * speed) % 3600 >= 1800
    assert second_half[played.adapter == 1].mean() > 0.97


def test_adapters_without_a_request_in_the_trace_are_named_with_the_remedy() -> None:
    names = {f"x{k}": 1.0 for k in range(7)} | {"a": 1.0}
    with pytest.raises(
        TraceError,
        match=r"no request for x0, x1, x2, x3, x4 and 2 more, but for a, b and c; .*\{adapter: false\}",
    ):
        _play(_trace(), names, 100.0, sustained=True)


# --- what prompts have in common -------------------------------------------------------------------


def _hashed(rows: list[list[int]], prompts: list[int] | None = None, block: int = 512) -> Trace:
    n = len(rows)
    start = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    ids = np.array([one for row in rows for one in row], dtype=np.int64)
    lengths = prompts or [max(1, len(row) * block) for row in rows]
    return Trace(
        np.arange(n, dtype=np.float64),
        np.array(lengths, dtype=np.int32),
        np.full(n, 10, dtype=np.int32),
        float(n),
        hashes=PrefixHashes(start, ids, block),
    )


def _as_recorded(trace: Trace, adapter: list[int] | None = None) -> Replay:
    n = len(trace)
    of = np.zeros(n, dtype=np.int32) if adapter is None else np.array(adapter, dtype=np.int32)
    return Replay(trace.arrival_s, np.arange(n), np.zeros(n, dtype=np.int64), of)


def test_a_prompt_continues_the_latest_with_the_longest_common_prefix() -> None:
    trace = _hashed([[0, 1, 2], [0, 3], [0, 1, 4], [0, 3, 5], [9], [], [0, 3]])
    common = common_prefixes(trace, _as_recorded(trace))
    assert common is not None
    assert list(common[0]) == [-1, 0, 0, 1, -1, -1, 3]
    assert list(common[1]) == [0, 512, 1024, 1024, 0, 0, 1024]


def test_requests_of_two_adapters_have_nothing_in_common() -> None:
    trace = _hashed([[0, 1], [0, 1], [0, 1], [0, 2]])
    common = common_prefixes(trace, _as_recorded(trace, [0, 1, 0, 1]))
    assert common is not None
    assert list(common[0]) == [-1, -1, 0, 1]
    assert list(common[1]) == [0, 0, 1024, 512]


def test_no_more_is_in_common_than_either_prompt_has() -> None:
    trace = _hashed([[0, 1], [0, 1], [0]], prompts=[600, 600, 400])
    common = common_prefixes(trace, _as_recorded(trace))
    assert common is not None
    assert list(common[1]) == [0, 600, 400]


def test_repetitions_have_no_text_in_common() -> None:
    trace = _hashed([[0, 1], [0, 2], [0, 1]])
    played = _play(trace, {"x": 1.0}, 6.0, sustained=False)
    common = common_prefixes(trace, played)
    assert common is not None
    assert list(common[0]) == [-1, 0, 0, -1, 3, 3]


def _slow_prefixes(trace: Trace, played: Replay) -> list[int]:
    """The longest common prefix of each prompt with any earlier one that may share text, in blocks."""
    assert trace.hashes is not None
    longest = []
    for k in range(len(played.row)):
        best = 0
        for j in range(k):
            if played.adapter[j] == played.adapter[k] and played.take[j] == played.take[k]:
                mine, other = (trace.hashes.of(played.row[[i]])[1] for i in (k, j))
                n = min(len(mine), len(other))
                same = mine[:n] == other[:n]
                best = max(best, n if same.all() else int(np.argmin(same)))
        longest.append(best)
    return longest


@pytest.mark.parametrize("rate", [0.4, 1.0, 2.6])
def test_thinned_copied_and_dealt_requests_have_the_prefixes_that_a_search_finds(rate: float) -> None:
    rng = np.random.default_rng(1)
    rows: list[list[int]] = []
    for k in range(60):  # most continue an earlier prompt, as conversations do
        kept = rows[rng.integers(k)] if k and rng.random() < 0.8 else []
        rows.append(
            [*kept[: rng.integers(len(kept) + 1)], *(1000 + 10 * k + np.arange(rng.integers(4))).tolist()]
        )
    trace = _hashed(rows)
    played = _play(trace, {"x": 0.7 * rate, "y": 0.3 * rate}, 150.0, sustained=True)
    common = common_prefixes(trace, played)
    assert common is not None
    continues, tokens = common
    assert [int(t) // 512 for t in tokens] == _slow_prefixes(trace, played)
    linked = continues >= 0
    assert linked.any()
    assert (continues[linked] < np.flatnonzero(linked)).all()
    assert (played.adapter[continues[linked]] == played.adapter[linked]).all()
    assert (tokens[~linked] == 0).all()


# --- of a scenario ---------------------------------------------------------------------------------

MOONCAKE = "".join(
    f'{{"timestamp": {1000 * k}, "input_length": {1024 + k}, "output_length": 5, '
    f'"hash_ids": [0, {50 + k // 2}, {100 + k}]}}\n'
    for k in range(10)
)


def _load(rates: dict[str, float]) -> GPULoad:
    n = len(rates)
    lengths = (FixedLengths(tokens=222),) * n
    return GPULoad(
        tuple(rates), np.full(n, 8, dtype=np.int32), np.array(list(rates.values())), lengths, lengths
    )


def _drawn(arrivals: TraceArrivals, rates: dict[str, float], duration_s: float = 10.0) -> Requests:
    return draw_requests(_load(rates), Workload(arrivals=arrivals, duration_s=duration_s), 0, sustained=True)


def test_requests_of_a_scenario_carry_prefixes_only_with_the_traces_own_prompts(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(MOONCAKE)
    arrivals = TraceArrivals(file=str(tmp_path / "m.jsonl"), lengths=True)
    requests = _drawn(arrivals, {"x": 1.0})
    assert requests.continues is not None
    assert requests.common_tokens is not None
    assert list(requests.continues) == [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert list(requests.common_tokens) == [0, 1024, 512, 1024, 512, 1024, 512, 1024, 512, 1024]
    assert _drawn(arrivals.model_copy(update={"lengths": False}), {"x": 1.0}).continues is None


NAMED = "arrival_time,prompt_tokens,output_tokens,adapter\n" + "".join(
    f"{k}.5,{10 + k},{k + 1},{'fr' if k % 4 else 'de'}\n" for k in range(20)
)


def test_rows_of_one_name_are_dealt_to_adapters_of_others(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    arrivals = TraceArrivals(file=str(tmp_path / "t.csv"), lengths=True, adapter_name="de")
    requests = _drawn(arrivals, {"x": 0.15, "y": 0.1}, 20.0)
    assert list(requests.output_tokens) == [1, 5, 9, 13, 17]
    many = _drawn(arrivals, {"x": 0.15, "y": 0.1}, 20_000.0)
    assert (many.adapter == 0).mean() == pytest.approx(0.6, abs=0.03)
    with pytest.raises(TraceError, match="no request for nl, but for de and fr"):
        _drawn(arrivals.model_copy(update={"adapter_name": "nl"}), {"x": 1.0})
    anonymous = arrivals.model_copy(update={"columns": TraceColumns(adapter=False)})
    with pytest.raises(TraceError, match=r'names no adapters, and "de" is asked for; say which column does'):
        _drawn(anonymous, {"x": 1.0})


def test_adapters_of_one_gpu_get_what_is_under_their_names_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    columns = TraceColumns(adapter="adapter")
    arrivals = TraceArrivals(file=str(tmp_path / "t.csv"), columns=columns, lengths=True)
    rates = {"fr": 0.75, "de": 0.25}
    requests = _drawn(arrivals, rates, 20.0)
    assert list(requests.output_tokens) == list(range(1, 21))
    assert [k for k in range(20) if requests.adapter[k] == 1] == [0, 4, 8, 12, 16]
    judged = replace(_load({"0": 0.75, "1": 0.25}), arrivals=(arrivals.of("fr"), arrivals.of("de")))
    same = draw_requests(judged, Workload(arrivals=arrivals, duration_s=20.0), 0, sustained=True)
    assert list(same.adapter) == list(requests.adapter)


def test_adapters_of_a_trace_with_names_differ_and_others_do_not() -> None:
    text = """
name: named
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 3, rank: 8, rate: 1}]
workload: {arrivals: {process: trace, file: t.csv, COLUMNS}, prompt: 200, output: 100}
devices: H100-64GB
"""
    named = loads(text.replace("COLUMNS", "columns: {adapter: lora}"))
    assert [one.names for one in named.classes] == [("a-1",), ("a-2",), ("a-3",)]
    own = [one.arrivals for one in named.classes]
    assert [one.adapter_name for one in own if isinstance(one, TraceArrivals)] == ["a-1", "a-2", "a-3"]
    assert len(loads(text.replace("COLUMNS", "columns: {adapter: false}")).classes) == 1


def test_an_obvious_column_of_names_must_be_stated_or_set_aside(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    with pytest.raises(
        TraceError, match=r"has a column adapter; say columns: \{adapter: adapter\}, .* \{adapter: false\}"
    ):
        _drawn(TraceArrivals(file=str(tmp_path / "t.csv")), {"x": 1.0})
    aside = TraceArrivals(file=str(tmp_path / "t.csv"), columns=TraceColumns(adapter=False))
    assert len(_drawn(aside, {"x": 1.0}, 20.0)) == 20


def test_a_gpu_is_watched_for_the_period_of_the_whole_trace(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    arrivals = TraceArrivals(file=str(tmp_path / "t.csv"), adapter_name="de")
    assert observation_of((arrivals,), 1.0, 10.0).period_s == pytest.approx(20.0)


def test_what_a_check_says_of_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    arrivals = TraceArrivals(file=str(tmp_path / "t.csv"), columns=TraceColumns(adapter="adapter"))
    assert list(recording_remarks(arrivals, ("de",))) == [
        "t.csv has 20 requests in 20 s; columns: time arrival_time (s), prompt prompt_tokens, "
        "output output_tokens, adapter adapter",
        "left out here: 15 requests under 1 other name",
    ]
    assert len(list(recording_remarks(arrivals, ("de", "fr")))) == 1


def test_a_check_says_that_a_column_of_models_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED.replace("adapter", "model"))
    said = list(recording_remarks(TraceArrivals(file=str(tmp_path / "t.csv")), None))
    assert said[1].startswith("requests are dealt by rate; columns: {adapter: model} gives each adapter")


def test_prefixes_and_names_are_right_beside_entries_of_other_processes(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(MOONCAKE)
    (tmp_path / "t.csv").write_text(NAMED)
    hashed = TraceArrivals(file=str(tmp_path / "m.jsonl"), lengths=True)
    german = TraceArrivals(file=str(tmp_path / "t.csv"), lengths=True, adapter_name="de")
    load = _load({"poisson": 2.0, "x": 1.0, "one": 0.15, "other": 0.1})
    load = replace(load, arrivals=(None, hashed, german, german))
    requests = draw_requests(load, Workload(duration_s=20.0), 0, sustained=True)
    assert requests.continues is not None
    assert requests.common_tokens is not None
    rows = np.flatnonzero(requests.adapter == 1)
    place = {int(row): k for k, row in enumerate(rows)}
    assert [place.get(int(k), -1) for k in requests.continues[rows]] == [-1, *range(9), -1, *range(10, 19)]
    assert set(requests.continues[requests.adapter != 1]) == {-1}
    assert list(requests.output_tokens[requests.adapter >= 2]) == [1, 5, 9, 13, 17]
    assert set(requests.output_tokens[requests.adapter == 0]) == {222}


def test_names_of_one_recording_are_played_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED)
    arrivals = TraceArrivals(file=str(tmp_path / "t.csv"), columns=TraceColumns(adapter="adapter"))
    load = replace(_load({"0": 0.75, "1": 0.25}), arrivals=(arrivals.of("fr"), arrivals.of("de")))
    assert load.processes(arrivals) == (arrivals,)
    # Stretched as one: each name for itself would be stretched to an adapter's rate, apart from the other.
    twice = replace(load, rate=2 * load.rate)
    requests = draw_requests(twice, Workload(arrivals=arrivals, duration_s=10.0), 0)
    assert requests.arrival_s == pytest.approx(np.arange(20) / 2)


def test_long_prompts_of_one_name_are_refused_by_the_check_and_the_simulation(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(NAMED.replace("\n0.5,10,", "\n0.5,20000,"))
    text = f"""
name: long
model: llama-3.1-8b-instruct
adapters: [{{name: x, rank: 8, rate: 1}}]
workload:
  arrivals: {{process: trace, file: {tmp_path / "t.csv"}, lengths: true, adapter_name: NAME}}
  prompt: 200
  output: 100
devices: H100-64GB
"""
    said = "workload.arrivals.file: an engine of max_model_len 16,384 refuses 1 of 5 prompts of "
    with pytest.raises(WorkloadError, match=said):
        check_trace(loads(text.replace("NAME", "de")))
    assert len(check_trace(loads(text.replace("NAME", "fr")))) == 2
    scenario = loads(text.replace("NAME", "de"))
    profile = find_profile(scenario.model, "H100-64GB")
    with pytest.raises(WorkloadError, match="refuses"):
        simulate(GPULoad.from_classes(scenario.classes), scenario.workload, scenario.engine, profile)
