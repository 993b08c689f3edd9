"""Measured runs beside the twin's predictions: table in, table out, errors, the command."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import twin
from scenarios import OutputFileError, ScenarioError
from tests.slow import slow
from twin import FidelityReport, Requests
from twin.engine.run import simulate_requests
from twin.measured.client_view import ClientView, Stalls, client_view, held_back
from twin.measured.predict import COLUMNS
from twin.measured.replayed import run_requests, run_setup
from twin.measured.report import mape, smape
from twin.measured.run_tables import measured_runs, read_runs
from twin.profile import Frontend

MEASURED = Path(__file__).parents[2].parent / "shared" / "measurements" / "serving_runs.csv"

EXPECTED = [
    "run_id",
    "predicted_total_throughput",
    "predicted_output_throughput",
    "predicted_itl_ms",
    "predicted_tpot_ms",
    "predicted_ttft_ms",
    "predicted_starved",
    "predicted_starts",
    "wall_s",
]


@pytest.fixture
def asked(measured_tables: ModuleType) -> pd.DataFrame:
    """Three short runs without measured columns: at ease, overloaded, and too large for its memory."""
    table = measured_tables.run_rows().head(3)[
        ["run_id", "model", "max_loras", "n_adapters", "max_lora_rank", "rates", "sizes", "total_time_s"]
    ]
    table = table.assign(total_time_s=60.0).astype({"max_loras": int})
    table.loc[1, "rates"] = "20;10"
    table.loc[2, ["max_loras", "n_adapters", "max_lora_rank"]] = [384, 384, 32]
    return table


def written(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "runs.csv"
    table.to_csv(path, index=False)
    return path


def test_a_table_without_measured_columns(asked: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    report = twin.fidelity(written(asked, tmp_path), out=out)
    said = pd.read_csv(out)
    assert list(said.columns) == EXPECTED == list(COLUMNS)
    assert said["run_id"].tolist() == asked["run_id"].tolist()
    assert said["predicted_starts"].tolist() == [True, True, False]
    assert said["predicted_starved"].tolist() == [False, True, False]
    numbers = said.drop(columns=["run_id", "predicted_starved", "predicted_starts", "wall_s"])
    assert (numbers.iloc[:2] > 0).all(axis=None)
    assert numbers.iloc[2].isna().all()
    assert (said["predicted_output_throughput"] < said["predicted_total_throughput"])[:2].all()
    assert "3 runs simulated" in report.summary()
    assert (str(report), repr(report)) == (report.summary(), "<FidelityReport: 3 runs>")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("workers", [1, *slow([2])])
def test_same_predictions_for_any_workers_and_order(
    asked: pd.DataFrame, tmp_path: Path, workers: int
) -> None:
    one = twin.fidelity(written(asked, tmp_path), workers=1).predictions.drop(columns="wall_s")
    turned = twin.fidelity(written(asked.iloc[::-1], tmp_path), workers=workers)
    back = turned.predictions.drop(columns="wall_s")
    pd.testing.assert_frame_equal(one, back.iloc[::-1].reset_index(drop=True))


def test_compares_with_what_was_measured(measured_tables: ModuleType, tmp_path: Path) -> None:
    measured_tables.write_runs(tmp_path)
    table = pd.read_csv(tmp_path / "serving_runs.csv")
    table["peer_twin_total_throughput"] = table["total_throughput"] * 1.1
    table["ideal_tok_s"] = table["total_throughput"]
    table.loc[0, "status"] = "infra_port_in_use"
    report = twin.fidelity(written(table, tmp_path), measured_tables.truth())
    rows = report.table().set_index("metric")
    assert rows.loc["throughput", "runs"] == 9
    # The same engine behind other requests of the same kind.
    assert rows.loc["throughput", "SMAPE"] < 4
    assert rows.loc["itl", "SMAPE"] < 4
    assert rows.loc["throughput", "peer"] == pytest.approx(200 * 0.1 / 2.1)
    starvation = report.starvation().set_index("who")
    assert starvation.loc["twin", "runs"] == 9
    assert starvation.loc["published", "right %"] == 100
    assert max(map(len, report.summary().splitlines())) <= 100


def test_a_row_with_more_cells_than_columns_is_no_shifted_row(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("run_id,model\na,b,c\nd,e,f\n")
    with pytest.raises(ScenarioError, match="more cells in a row than columns"):
        twin.fidelity(tmp_path / "runs.csv")


def test_other_columns_are_kept(asked: pd.DataFrame, tmp_path: Path) -> None:
    table = read_runs(written(asked.assign(notes="mine", max_open_requests=7), tmp_path))
    assert table["notes"].tolist() == ["mine"] * 3
    assert [run.max_open_requests for run in measured_runs(table, tmp_path)] == [7] * 3


def test_parameters_of_the_comparison(asked: pd.DataFrame, tmp_path: Path) -> None:
    table = written(asked.head(1), tmp_path)
    once = twin.FidelityParams(max_replications=1)
    usual, changed = twin.fidelity(table), twin.fidelity(table, params=once)
    assert changed.predictions["predicted_itl_ms"].iloc[0] != usual.predictions["predicted_itl_ms"].iloc[0]
    overloaded = written(asked.iloc[1:2], tmp_path)
    lenient = twin.FidelityParams(starved_shortfall=0.999)
    starved = [
        twin.fidelity(overloaded, params=p).predictions["predicted_starved"].all() for p in (None, lenient)
    ]
    assert starved == [True, False]


def test_dealing_is_round_robin(asked: pd.DataFrame, tmp_path: Path) -> None:
    table = asked.assign(n_adapters=5, rates="4;2;1", sizes="8;16")
    run = measured_runs(read_runs(path := written(table, tmp_path)), path)[0]
    assert run.rate.tolist() == [4, 2, 1, 4, 2]
    assert run.rank.tolist() == [8, 16, 8, 16, 8]


def test_counted_arrivals_are_used_where_plausible(asked: pd.DataFrame, tmp_path: Path) -> None:
    table = asked.assign(n_adapters=4, rates="5", total_time_s=100.0, arrivals_est=[2020.0, 300.0, np.nan])
    runs = measured_runs(read_runs(path := written(table, tmp_path)), path)
    assert [run.arrivals for run in runs] == [2020, 2000, 2000]


def test_requests_that_a_capped_client_never_sends_are_not_drawn(
    asked: pd.DataFrame, tmp_path: Path, measured_tables: ModuleType
) -> None:
    table = asked.head(1).assign(rates="500", total_time_s=600.0)
    run = measured_runs(read_runs(path := written(table, tmp_path)), path)[0]
    requests = run_requests(run, measured_tables.truth())
    assert 25_000 < len(requests) < run.arrivals
    # They still arrive at the run's rate.
    assert requests.arrival_s[-1] * float(run.rate.sum()) == pytest.approx(len(requests), rel=0.01)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.drop(columns="rates"), "column rates is missing"),
        (lambda t: t.rename(columns={"rates": "rate"}), 'column rates is missing; rename "rate"'),
        (lambda t: t.assign(n_adapters="many"), 'row 2, n_adapters is the text "many"; give a whole number'),
        (lambda t: t.assign(max_loras=0), "row 4, max_loras is 0; give a number above 0"),
        (lambda t: t.assign(rates="0.1;-1"), 'row 2, rates is the text "0.1;-1"; give numbers above 0'),
        (lambda t: t.assign(itl_mean_ms="fast"), 'row 2, itl_mean_ms is the text "fast"; give a number'),
        (lambda t: t.assign(run_id=""), "row 2, run_id is missing"),
        (lambda t: t.assign(model="gpt-2"), 'no engine profile is shipped for model "gpt-2"'),
        (lambda t: t.assign(kv_cache_tokens=32), "run odd/.*8_8: request"),
    ],
)
def test_bad_tables(
    change: Callable[[pd.DataFrame], pd.DataFrame], expected: str, asked: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        twin.fidelity(written(change(asked), tmp_path))
    assert isinstance(caught.value, ValueError | LookupError)


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02\xff", b"run_id\n"])
def test_files_that_are_no_tables(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=r"runs\.csv"):
        twin.fidelity(path)


def test_predictions_hold_no_formula_and_replace_no_table(asked: pd.DataFrame, tmp_path: Path) -> None:
    table = written(asked.iloc[:1].assign(run_id="=cmd()\x1b"), tmp_path)
    report = twin.fidelity(table, out=tmp_path / "out.csv")
    said = pd.read_csv(tmp_path / "out.csv")
    assert list(said["run_id"]) == [r"'=cmd()\x1b"]
    exact = report.predictions.drop(columns="run_id").to_csv(index=False, float_format="%.6g")
    assert said.drop(columns="run_id").to_csv(index=False) == pd.read_csv(io.StringIO(exact)).to_csv(
        index=False
    )
    (tmp_path / "link.csv").symlink_to(table)
    with pytest.raises(OutputFileError, match="is what the command reads"):
        twin.fidelity(table, out=tmp_path / "link.csv")


def test_an_output_that_cannot_be_written_is_noticed_first(tmp_path: Path) -> None:
    with pytest.raises(OutputFileError, match="folder that exists"):
        twin.fidelity(tmp_path / "absent.csv", out=tmp_path / "nowhere" / "out.csv")


def test_errors_in_percent() -> None:
    a, b = pd.Series([1.0, np.nan, 0.0, 4.0]), pd.Series([3.0, 1.0, 0.0, 4.0])
    assert smape(a, b) == pytest.approx(100 * (2 * 2 / 4 + 0) / 2)
    assert mape(a, b) == pytest.approx(100 * (2 / 1 + 0) / 2)
    assert np.isnan(smape(a[:0], b[:0]))


def test_starvation_counts() -> None:
    measured = pd.DataFrame(
        {"run_id": list("abcd"), "model": "m", "status": "ok", "starved": [True, True, False, False]}
    )
    said = pd.DataFrame({"run_id": list("abcd"), "predicted_starved": [True, False, True, False]})
    said = said.assign(predicted_total_throughput=1.0, predicted_starts=True, wall_s=0.0)
    row = FidelityReport(measured, said).starvation().iloc[0]
    assert (row["found"], row["missed"], row["false alarms"], row["healthy"]) == (1, 1, 1, 1)
    assert row["right %"] == 50


def test_a_stall_holds_back_requests_and_tokens(measured_tables: ModuleType, tmp_path: Path) -> None:
    spans = Stalls(np.array([1.0, 5.0]), np.array([2.0, 5.5]))
    np.testing.assert_allclose(
        spans.released(np.array([0.5, 1.0, 1.5, 2.0, 5.2, 6.0])), [0.5, 2, 2, 2, 5.5, 6]
    )
    requests = Requests(
        arrival_s=np.array([0.0, 1.2, 1.4]),
        prompt_tokens=np.full(3, 10, dtype=np.int32),
        output_tokens=np.full(3, 5, dtype=np.int32),
        adapter=np.zeros(3, dtype=np.int32),
        n_adapters=8,
    )
    assert held_back(requests, spans).arrival_s.tolist() == [0.0, 2.0, 2.0]
    table = measured_tables.run_rows().head(1)
    setup_run = measured_runs(read_runs(path := written(table, tmp_path)), path)[0]
    setup = run_setup(setup_run, measured_tables.truth())
    records = simulate_requests(held_back(requests, spans), setup, 100.0, record_steps=True)
    direct = client_view(records, Frontend())
    seen = client_view(records, Frontend(first_token_s=0.5), spans, requests.arrival_s)
    assert isinstance(seen, ClientView)
    # Two of three requests waited 0.8 s and 0.6 s for the end of the stall, and all 0.5 s for the server.
    assert seen.ttft_s == pytest.approx(direct.ttft_s + 0.5 + (0.8 + 0.6) / 3)


@pytest.mark.skipif(not MEASURED.exists(), reason="the measurements are not here")
def test_some_measured_runs(tmp_path: Path) -> None:
    table = pd.read_csv(MEASURED)
    light = table[(table["quality"] == "clean") & (table["running_mean"] < 30) & (table["max_loras"] == 32)]
    some = light.groupby(["model", "max_lora_rank"]).head(1)
    report = twin.fidelity(written(some, tmp_path))
    errors = report.errors(())
    assert len(some) == 3
    assert errors["throughput_smape"].iloc[0] < 3
    assert errors["itl_smape"].iloc[0] < 6
