"""The benchmark of the paper goes on where it stopped, and its page shows what its rows hold."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import twin

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # where `python -m benchmarks.paper` is run; installed packages come first

from benchmarks.paper import fidelity, gpus, latency, ml, traces  # noqa: E402
from benchmarks.paper.__main__ import OUT, PARTS, kept, main, measured  # noqa: E402
from benchmarks.paper.page import PageError, filled, shown_tables  # noqa: E402
from benchmarks.paper.part import MissingDataError, Part, Settings  # noqa: E402
from benchmarks.paper.pictures import bars, panels, write_picture  # noqa: E402
from benchmarks.paper.published import published, published_gpus  # noqa: E402
from benchmarks.paper.replays import Recording  # noqa: E402
from benchmarks.paper.rows import Cell, Row, RowFile, processor_share  # noqa: E402
from benchmarks.paper.text import markdown  # noqa: E402

PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
ROWS = {name: frame for name in PARTS if len(frame := kept(ROOT / OUT, name))}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        quick=True, measurements=tmp_path, traces=tmp_path, time_limit_s=2.0, replications=1, workers=1
    )


# --- rows --------------------------------------------------------------------------------------------


def test_rows_are_those_of_a_cell_until_its_inputs_change(tmp_path: Path) -> None:
    file, other = RowFile(tmp_path / "rows.csv"), Cell({"model": "qwen"}, {"table": "a"})
    cell, changed = (Cell({"model": "llama"}, {"table": table}) for table in "ab")
    file.keep(other, [{"error": 3.5}], 1.0, 1.0)
    file.keep(cell, [{"error": 1.0, "quality": "clean"}, {"error": None, "quality": "saturated"}], 2.0, 4.0)
    again = RowFile(tmp_path / "rows.csv")
    assert [(row["error"], row["quality"], row["cpu_s"]) for row in again.of(cell)] == [
        (1.0, "clean", 2.0),
        (None, "saturated", None),
    ]
    assert again.of(changed) == []
    again.keep(changed, [{"error": 7.0, "quality": "clean"}], 1.0, 1.0)
    last = RowFile(tmp_path / "rows.csv")
    assert last.of(cell) == []
    assert [row["error"] for row in last.of(changed)] == [7.0]
    assert [row["error"] for row in last.of(other)] == [3.5]


def test_only_what_was_cut_short_is_searched_for_again_with_a_longer_limit(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.csv")
    for name, cut in (("cut", True), ("ended", False)):
        file.keep(Cell({"name": name}, {}, 10.0), [{"time_limit": 10.0, "cut": cut}], 1.0, 1.0)
    known = {
        (name, limit): bool(RowFile(tmp_path / "rows.csv").of(Cell({"name": name}, {}, limit)))
        for name in ("cut", "ended")
        for limit in (5.0, 10.0, 20.0)
    }
    assert [key for key, found in known.items() if not found] == [("cut", 20.0)]


def test_a_row_is_replaced_though_its_number_was_written_otherwise(tmp_path: Path) -> None:
    for table in "ab":  # 20.0 is written as 20
        RowFile(tmp_path / "rows.csv").keep(Cell({"total": 20.0}, {"table": table}), [{"x": 1}], 1.0, 1.0)
    assert len(RowFile(tmp_path / "rows.csv").rows) == 1


def test_a_busy_machine_gives_a_search_more_of_the_clock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0.02 <= processor_share() <= 1.0
    now = time.monotonic()
    monkeypatch.setattr("benchmarks.paper.rows._BEGUN", (now - 1000.0, time.process_time() - 100.0))
    assert processor_share() == pytest.approx(0.1, abs=0.01)
    monkeypatch.setattr("benchmarks.paper.part.processor_share", lambda: 0.25)
    assert settings.clock_limit_s() == 4 * settings.time_limit_s
    assert settings.searched("time_limit")["cut"]
    assert not settings.searched("finished")["cut"]


def _counted(asked: list[str], fail_at: int = 99) -> Part:
    def measure(cell: Cell, _settings: Settings) -> list[Row]:
        if len(asked) == fail_at:
            raise KeyboardInterrupt
        asked.append(str(cell))
        return [{"value": len(asked)}]

    cells = [Cell({"number": number}, {}) for number in range(3)]
    return Part("counted", lambda _: iter(cells), measure, lambda _: {}, lambda _: {})


def test_a_part_goes_on_after_the_last_cell(settings: Settings, tmp_path: Path) -> None:
    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measured(_counted(asked, fail_at=2), settings, tmp_path, np.inf)
    rows = measured(_counted(asked), settings, tmp_path, np.inf)
    assert asked == ["number=0", "number=1", "number=2"]
    assert rows["value"].tolist() == [1, 2, 3]


def test_no_cell_begins_when_the_time_is_over(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(_counted([]), settings, tmp_path, -1.0).empty
    assert "the time is over; the same command goes on from here" in capsys.readouterr().out


@pytest.mark.parametrize(("part", "option"), [("fidelity", "--measurements"), ("traces", "--traces")])
def test_missing_data_are_told_with_the_option_that_names_them(
    part: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, out = tmp_path / "nowhere", tmp_path / "out"
    assert main(["--parts", part, option, str(where), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert str(where) in told
    assert option in told
    assert not out.exists()


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_shows_the_tables_of_its_rows() -> None:
    assert set(ROWS) == set(PARTS)
    assert filled(PAGE, shown_tables(ROWS, list(PARTS.values()))) == PAGE


def test_the_page_shows_the_pictures_of_its_rows() -> None:
    drawn = {name for part, frame in ROWS.items() for name in PARTS[part].draw(frame)}
    assert {path.stem for path in (ROOT / OUT).glob("*.svg")} == drawn
    assert all(f"(paper/{name}.svg)" in PAGE for name in drawn)


def test_tables_are_put_between_their_marks() -> None:
    text = "<!-- one -->\nold\n<!-- end -->\nwords\n<!-- two -->\nkept\n<!-- end -->\n"
    put = filled(text, {"one": pd.DataFrame({"a|b": [1], "c ": ["x"]})})
    assert put.startswith("<!-- one -->\n| a\\|b | c |\n| --- | --- |\n| 1 | x |\n<!-- end -->\nwords\n")
    assert put.endswith("kept\n<!-- end -->\n")
    with pytest.raises(PageError, match="no place for three"):
        filled(text, {"three": pd.DataFrame()})


def test_every_published_figure_has_its_source() -> None:
    assert published()["source"].str.len().min() > 10
    assert published_gpus("greedy GPUs", "llama", "high", 128) == 7
    assert published_gpus("greedy GPUs every 4", "llama", "high", 128) == 5
    assert published_gpus("greedy GPUs", "llama", "low", 128) is None


def test_a_picture_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    for name in ("first", "second"):
        drawn = bars({"a": {"x": 1.0}, "b": {"x": 2.0, "y": 1.0}}, "errors", (1.5, "known"))
        write_picture(drawn, tmp_path / name / "bars.svg")
        lines = {"p": {"m": [(2, 3), (1, 4)]}, "q": {"published": [(1, 1)]}}
        write_picture(panels(lines, "adapters", "GPUs", log=True), tmp_path / name / "panels.svg")
    for picture, word in (("bars.svg", b"errors"), ("panels.svg", b"published")):
        first, second = ((tmp_path / name / picture).read_bytes() for name in ("first", "second"))
        assert word in first
        assert first == second


# --- the parts ---------------------------------------------------------------------------------------


def _plan(method: str, count: float | None, *, accepted: bool = True, bound: float | None = None) -> Row:
    return {
        "acceptance": "paper", "model": "llama", "set": "high", "adapters": 128, "method": method,
        "gpus": count, "bound": bound, "accepted": accepted,
    }  # fmt: skip


def test_rejected_plans_are_marked_and_sums_are_over_the_same_workloads() -> None:
    frame = pd.DataFrame(
        [
            _plan("exact", 4, bound=4.0),
            _plan("proposed", 8),
            _plan("maxbackbone", 2, accepted=False),
            _plan("dlora-min", None),
            {**_plan("proposed", 90), "adapters": 256},  # exact has no plan there
        ]
    )
    shown = gpus.tables(frame)
    first = shown["gpus_paper"].iloc[0]
    assert (first["exact"], first["Proposed"], first["MaxBackbone"], first["dLoRA"]) == ("4", "8", "2 !", "–")
    assert (first["bound"], first["published greedy"], first["Random"]) == ("4", 7, "")
    sums = shown["gpus_sums"].set_index("method")
    assert sums.loc["Proposed", ["workloads", "its GPUs", "fewer by exact"]].tolist() == [1, "8", "50%"]
    assert sums.loc["MaxBackbone", "fewer where its plan is accepted"] == ""


def test_errors_are_told_as_usual_and_half_smape_beside_the_published_twin() -> None:
    run = {
        "run_id": "a", "model": "m", "quality": "clean", "status": "ok", "starved": False,
        "total_time_s": 3600.0,
        "total_throughput": 100.0, "itl_mean_ms": 10.0, "tpot_mean_ms": 10.0, "ttft_mean_ms": 50.0,
        "ideal_tok_s": 101.0, "peer_twin_total_throughput": 80.0, "peer_twin_itl_ms": 20.0,
        "peer_twin_tpot_ms": None, "peer_twin_ttft_ms": None,
    }  # fmt: skip
    said = {
        "run_id": "a", "predicted_total_throughput": 90.0, "predicted_output_throughput": 45.0,
        "predicted_itl_ms": 10.0, "predicted_tpot_ms": 10.0, "predicted_ttft_ms": 50.0,
        "predicted_starved": True, "predicted_starts": True, "wall_s": 2.0,
    }  # fmt: skip
    report = fidelity.FidelityReport(pd.DataFrame([run]), pd.DataFrame([said]))
    (row,) = fidelity._errors(report)
    frame = pd.DataFrame([{"what": fidelity.SHIPPED, "load": "poisson", "model": "llama", **row}])
    shown = fidelity.tables(frame)
    first = shown["fidelity"].iloc[0]
    assert first["throughput, usual (half)"] == "10.53 % (5.26 %)"  # 2·10/190
    assert first["throughput there, usual: ours / published"] == "10.5 % / 22.2 %"  # 2·20/180
    assert first["TTFT there, usual: ours / published"] == ""
    starved = shown["starvation"].iloc[0]
    assert (starved["missed"], starved["false alarms"], starved["false alarms "]) == (0, 1, "1")
    assert starved["times as fast as the run"] == "1,800"


def test_two_hours_of_walking_rates_are_farther_apart_than_two_of_steady_ones() -> None:
    run = fidelity.MeasuredRun(
        run_id="a", model="llama-3.1-8b-instruct", max_loras=8, n_adapters=8, max_lora_rank=8, rates="0.2",
        sizes="8", kv_cache_tokens=300_000,
    )  # fmt: skip
    hours = {
        load: [fidelity.hour(run, "llama", load, seed).served_tok_per_s for seed in (0, 1)]
        for load in fidelity.LOADS
    }
    steady, walking = (abs(first / second - 1) for first, second in hours.values())
    assert steady < 0.05 < walking


def test_models_are_shown_beside_the_papers_of_the_same_kind() -> None:
    rows = [
        {
            "model": "llama", "runs_of": ml.MEASURED, "method": "tree", "runs": 9, "throughput_smape": 4.0,
            "itl_smape": 2.0, "macro_f1": 0.9,
        },
        {
            "model": "llama", "runs_of": ml.TWIN, "method": "tree", "runs": 9, "throughput_smape": 4.0,
            "itl_smape": 2.0, "macro_f1": 0.9, "macro_f1_at_boundary": 0.7, "ms_alone": 0.5,
            "us_in_a_batch": 5.0,
            "learned_from": 100,
        },
    ]  # fmt: skip
    shown = ml.tables(pd.DataFrame(rows))
    first = shown["ml_measured"].iloc[0]
    assert (first["model"], first["throughput, usual (half)"], first["paper, half"]) == (
        "small tree",
        "4.00 % (2.00 %)",
        "10.25 %",
    )
    assert (first["one prediction, ms"], first["paper, ms"]) == ("0.50", "")
    assert shown["ml_twin"].iloc[0]["learned from"] == "100"


def test_a_latency_of_a_rejected_plan_is_marked() -> None:
    row = {
        "acceptance": "sustained", "model": "llama", "set": "mixed", "adapters": 128, "given": 2,
        "method": "greedy-lat", "itl_ms": 51.04, "ttft_ms": 99.6, "accepted": False, "bound": None,
    }  # fmt: skip
    first = latency.tables(pd.DataFrame([row]))["latency"].iloc[0]
    assert (first["ProposedLat, ITL ms"], first["ProposedLat, TTFT ms"], first["dLoRA, ITL ms"]) == (
        "51.0 !",
        "100",
        "",
    )


# --- recordings --------------------------------------------------------------------------------------


def _trace(folder: Path) -> Path:
    """Twenty minutes in which a request comes every two seconds, and every second in the second half."""
    seconds = [*range(0, 600, 2), *range(600, 1200)]
    lines = [f"2024-01-01 00:{s // 60:02d}:{s % 60:02d},100,20" for s in seconds]
    path = folder / "trace.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]).encode()))
    return path


def test_a_trace_is_planned_by_one_window_and_replayed_by_the_next(tmp_path: Path) -> None:
    recording = Recording((_trace(tmp_path),), 2.0, (8, 16), 600.0, 1200.0, n_adapters=10, seed=3)
    known, to_come = recording.known("sustained", 1), recording.to_come(tmp_path, 1)
    rates = {name: one.rate for one in known.classes for name in one.names}
    assert sum(rates.values()) == pytest.approx(2.0, rel=0.05)
    assert min(rates.values()) >= 1 / 600
    assert set(rates) == {name for one in to_come.classes for name in one.names}
    load = twin.GPULoad.from_classes(to_come.classes, [one.count for one in to_come.classes])
    played = twin.draw_requests(load, to_come.workload, 0, to_come.workload.duration_s)
    assert len(played) == pytest.approx(4 * 600, rel=0.01)  # what comes is twice as much as what was known
    assert len(np.unique(played.adapter)) == 10


def test_servegens_next_hour_is_played_at_its_own_rates(tmp_path: Path) -> None:
    day, clients = tmp_path / "day.csv", tmp_path / "clients.csv"
    windows = [f"1,{s},{1.0 if s < 3600 else 3.0},1.0,Gamma,1,1" for s in range(0, 7200, 600)]
    windows += [f"2,{s},1.0,1.0,Gamma,1,1" for s in range(3600, 7200, 600)]
    day.write_text("\n".join(["client,window_start_s,rate_req_s,cv,pattern,param1,param2", *windows]))
    clients.write_text("client,mean_prompt_tokens,mean_output_tokens\n1,100,10\n2,100,10\n")
    recording = Recording((day, clients), 2.0, (8,), 3600.0, 7200.0)
    known, to_come = recording.known("paper", 1), recording.to_come(tmp_path, 1)
    rates = {name: one.rate for one in known.classes for name in one.names}
    assert rates == {"client-1": 2.0, "client-2": 1 / 3600}  # the silent one counts as one that came once
    load = twin.GPULoad.from_classes(to_come.classes, [one.count for one in to_come.classes])
    played = twin.draw_requests(load, to_come.workload, 0, 3600.0)
    assert len(played) / 3600 == pytest.approx(6.0 + 2.0, rel=0.05)


def test_a_plan_for_a_window_is_judged_by_the_next(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPACK_CACHE", str(tmp_path / "cache"))
    _trace(tmp_path)
    monkeypatch.setattr(traces, "SOURCES", {"small": (("trace.csv.gz",), 600.0, 1200.0)})
    monkeypatch.setattr(traces, "N_ADAPTERS", 10)
    monkeypatch.setattr(traces, "TOTALS", (2.0,))
    cells = {cell.key["method"]: cell for cell in traces.cells(settings)}
    (row,) = traces.measure(cells["maxbackbone"], settings)
    assert (row["gpus"], row["replay_accepted"], row["starved"]) == (1, True, 0)
    assert row["served_share"] > 0.95
    frame = pd.DataFrame([{**cells["maxbackbone"].key, **row}])
    shown = traces.tables(frame)
    assert shown["traces"].iloc[0]["MaxBackbone"] == "1"
    assert shown["traces_outcome"].iloc[0]["hold in the replay"] == 1
    assert "small, 2 requests/s" in str([axes.get_title() for axes in traces.draw(frame)["traces"].axes])
    assert markdown(shown["traces"]).count("\n") == 2


def test_a_trace_that_is_not_there_is_told(settings: Settings) -> None:
    with pytest.raises(MissingDataError, match=r"azure_llm_2023_conv\.csv\.gz is not there; give the folder"):
        next(traces.cells(settings))
