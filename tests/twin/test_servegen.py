"""ServeGen's recordings are read, refused where damaged, and played for adapters by name or by rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenarios import FixedLengths, ScenarioError, ServegenArrivals, Workload
from scenarios.reading.row_files import TraceError
from twin import GPULoad, Requests, arrival_values, draw_requests, observation_of
from twin.workload.recording_checks import recording_remarks
from twin.workload.servegen.clients import ClientTrace, read_servegen, read_servegen_folder
from twin.workload.servegen.replay import ClientRequests, client_lengths, replay_clients

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
needs_traces = pytest.mark.skipif(
    not TRACES.is_dir(), reason="the public traces are not beside the repository"
)

DAY = "client,window_start_s,rate_req_s,cv,pattern,param1,param2\n"
CLIENTS = "client,mean_prompt_tokens,mean_output_tokens\n"


def _played(
    clients: tuple[ClientTrace, ...],
    duration_s: float,
    rate: dict[str, float],
    start_s: float = 0.0,
    *,
    named: bool = True,
) -> ClientRequests:
    rates = np.array(list(rate.values()))
    names = tuple(rate) if named else None
    return replay_clients(clients, rates, names, duration_s, np.random.default_rng(0), start_s=start_s)


def _two_clients(folder: Path) -> tuple[ClientTrace, ...]:
    day, clients = folder / "day.csv", folder / "clients.csv"
    day.write_text(DAY + "7,0,1.0,2.0,Gamma,0,0\n7,1200,3.0,1.0,Weibull,0,0\n9,600,20.0,1.5,Weibull,0,0\n")
    clients.write_text(CLIENTS + "7,100,10\n9,200,20\n")
    return read_servegen(day, clients)


def test_the_rate_of_a_client_between_two_seconds(tmp_path: Path) -> None:
    seven, nine = sorted(_two_clients(tmp_path), key=lambda client: client.client)
    assert seven.rate_between(0, 1200) == 0.5
    assert seven.rate_between(1200, 1800) == 3.0
    assert nine.rate_between(600, 1800) == 10.0
    assert nine.rate_between(5000, 6000) == 0.0


def _folder(folder: Path) -> Path:
    """Two clients as ServeGen publishes them, from second 86,400 on."""
    (folder / "chunk-3-trace.csv").write_text(
        "86400,2.0,1.0,Gamma,1.0,0.5\n87000,0.0,0.0,,0.0,0.0\n87600,1.0,2.0,Weibull,0.5,1.0\n"
    )
    (folder / "chunk-3-dataset.json").write_text(
        '{"86400": {"input_tokens": "{100: 0.75, 300: 0.25}", "output_tokens": "{0: 1.0}"},'
        ' "87000": {"input_tokens": "{}", "output_tokens": "{}"},'
        ' "87600": {"input_tokens": "{50: 1.0}", "output_tokens": "{7: 0.5, 9: 0.5}"}}'
    )
    (folder / "chunk-12-trace.csv").write_text("87000,5.0,1.0,Gamma,1.0,0.2\n")
    (folder / "chunk-12-dataset.json").write_text(
        '{"87000": {"input_tokens": "{20: 1.0}", "output_tokens": "{5: 1.0}"}}'
    )
    return folder


def test_clients_have_their_windows_and_the_busiest_comes_first(tmp_path: Path) -> None:
    read = _two_clients(tmp_path)
    assert [client.client for client in read] == [9, 7]
    assert list(read[1].rate) == [1, 0, 3]
    assert list(read[0].weibull) == [False, True, False]
    assert read[0].period_s == 1800


def test_adapters_that_are_clients_get_their_requests_at_their_own_rates(tmp_path: Path) -> None:
    read = _two_clients(tmp_path)
    own = _played(read, 1800.0, {"client-7": 4 / 3, "client-9": 20 / 3})
    assert np.all(own.arrival_s[own.adapter == 1] // 600 == 1)
    assert np.sum(own.adapter == 1) == pytest.approx(12_000, rel=0.1)
    assert np.sum(own.adapter == 0) == pytest.approx(2400, rel=0.25)
    assert (np.diff(own.arrival_s) >= 0).all()
    prompt, output = client_lengths(read, own, np.random.default_rng(0))
    assert prompt[own.adapter == 1].mean() == pytest.approx(200, rel=0.05)
    assert output[own.adapter == 0].mean() == pytest.approx(10, rel=0.1)
    busier = _played(read, 1800.0, {"client-7": 8 / 3})
    assert len(busier.arrival_s) == pytest.approx(4800, rel=0.15)
    later = _played(read, 300.0, {"client-7": 4 / 3, "client-9": 20 / 3}, start_s=700.0)
    assert set(later.adapter) == {1}
    assert later.arrival_s[-1] < 300


def test_requests_of_all_clients_are_dealt_by_rate_by_default(tmp_path: Path) -> None:
    summed = _played(_two_clients(tmp_path), 1800.0, {"a": 6.0, "b": 2.0}, named=False)
    assert len(summed.arrival_s) == pytest.approx(8 * 1800, rel=0.1)
    assert (summed.adapter == 0).mean() == pytest.approx(0.75, abs=0.02)
    assert set(summed.client) == {0, 1}


def test_adapters_that_are_no_clients_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no client with requests for client-8, but client-9 and client-7;"):
        _played(_two_clients(tmp_path), 100.0, {"client-7": 1.0, "client-8": 1.0})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,100,1.0,2.0,Gamma,0,0\n", r'line 2: window_start_s is "100" .must be a multiple of 600'),
        ("7,0,-1.0,2.0,Gamma,0,0\n", r'rate_req_s is "-1\.0"'),
        ("7,0,1.0,nan,Gamma,0,0\n", 'cv is "nan"'),
        ("7,0,1.0,2.0,Pareto,0,0\n", "must be Gamma or Weibull"),
        ("7.5,0,1.0,2.0,Gamma,0,0\n", r'client is "7\.5"'),
        ("7,600000000,1.0,2.0,Gamma,0,0\n", "1,000,001 windows, above 100,000; cut it"),
        ("", "holds no window"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "day.csv").write_text(DAY + row)
    (tmp_path / "clients.csv").write_text(CLIENTS + "7,100,10\n")
    with pytest.raises(TraceError, match=message):
        read_servegen(tmp_path / "day.csv", tmp_path / "clients.csv")


def test_clients_without_lengths_get_the_median_of_the_others(tmp_path: Path) -> None:
    day, clients = tmp_path / "day.csv", tmp_path / "clients.csv"
    day.write_text(DAY + "7,0,3.0,2.0,Gamma,0,0\n8,0,1.0,2.0,Gamma,0,0\n")
    clients.write_text(CLIENTS + "7,100,10\n9,200,20\n")
    read = read_servegen(day, clients)
    assert (read[1].client, read[1].mean_prompt_tokens, read[1].mean_output_tokens) == (8, 150, 15)
    clients.write_text(CLIENTS)
    with pytest.raises(TraceError, match="holds no client"):
        read_servegen(day, clients)


def test_a_published_folder_is_read_with_its_distributions_of_lengths(tmp_path: Path) -> None:
    clients = read_servegen_folder(_folder(tmp_path))
    assert [(one.client, list(one.rate)) for one in clients] == [(12, [0, 5, 0]), (3, [2, 0, 1])]
    assert [len(one.lengths) for one in clients] == [1, 2]
    drawn = _played(clients, 1800.0, {"client-3": 1.0})
    prompt, output = client_lengths(clients, drawn, np.random.default_rng(0))
    early = drawn.arrival_s < 600
    assert np.sum(early) == pytest.approx(1200, rel=0.15)
    assert not np.any((drawn.arrival_s >= 600) & (drawn.arrival_s < 1200))
    assert set(prompt[early]) == {100, 300}
    assert (prompt[early] == 100).mean() == pytest.approx(0.75, abs=0.05)
    assert set(output[early]) == {1}  # a length of 0 counts with one token
    assert set(prompt[~early]) == {50}
    assert set(output[~early]) == {7, 9}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("chunk-3-trace.csv", "86400,x,1.0,Gamma,1,1\n", r'chunk-3-trace\.csv, line 1: rate_req_s is "x"'),
        (
            "chunk-3-trace.csv",
            "86400,1.0,1.0,Gamma,1,1\n86500,1.0,1.0,Gamma,1,1\n86650,1,1,Gamma,1,1\n",
            "windows",
        ),
        ("chunk-3-dataset.json", "[]", r"chunk-3-dataset\.json: is no JSON object"),
        ("chunk-3-dataset.json", "{", "is no JSON"),
        ("chunk-3-dataset.json", '{"x": {}}', 'the window "x" has no input_tokens and output_tokens'),
        (
            "chunk-3-dataset.json",
            '{"0": {"input_tokens": "{5: -1}", "output_tokens": "{}"}}',
            'input_tokens of the window "0" is "{5: -1}"',
        ),
        (
            "chunk-3-dataset.json",
            '{"0": {"input_tokens": "open(1)", "output_tokens": "{}"}}',
            r'is "open\(1\)"',
        ),
    ],
)
def test_damaged_files_of_a_folder_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (_folder(tmp_path) / name).write_text(text)
    with pytest.raises(TraceError, match=message):
        read_servegen_folder(tmp_path)


def test_a_folder_without_its_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"has no chunk-N-trace\.csv"):
        read_servegen_folder(tmp_path)
    (_folder(tmp_path) / "chunk-3-dataset.json").unlink()
    with pytest.raises(TraceError, match="cannot be read"):
        read_servegen_folder(tmp_path)


def _drawn(arrivals: ServegenArrivals, names: tuple[str, ...], duration_s: float = 1800.0) -> Requests:
    n = len(names)
    load = GPULoad(
        names,
        np.full(n, 8, dtype=np.int32),
        np.full(n, 1.0),
        (FixedLengths(tokens=222),) * n,
        (FixedLengths(tokens=195),) * n,
    )
    workload = Workload(arrivals=arrivals, duration_s=duration_s)
    return draw_requests(load, workload, 0, sustained=True)


def test_a_scenario_plays_a_folder_with_or_without_its_lengths(tmp_path: Path) -> None:
    arrivals = ServegenArrivals(folder=str(_folder(tmp_path)), lengths=True, each_client=True)
    requests = _drawn(arrivals, ("client-3", "client-12"))
    assert set(requests.prompt_tokens[requests.adapter == 1]) == {20}
    assert len(requests) == pytest.approx(3600, rel=0.15)
    own = _drawn(arrivals.model_copy(update={"lengths": False}), ("client-3", "client-12"))
    assert set(own.prompt_tokens) == {222}
    assert list(own.arrival_s) == list(requests.arrival_s)
    one = _drawn(arrivals.model_copy(update={"adapter_name": "client-12"}), ("x", "y"))
    assert set(one.prompt_tokens) == {20}
    assert set(one.adapter) == {0, 1}
    with pytest.raises(TraceError, match="no client with requests for client-4, but client-12 and client-3;"):
        _drawn(arrivals.model_copy(update={"adapter_name": "client-4"}), ("x", "y"))


def test_a_gpu_is_watched_for_whole_recordings(tmp_path: Path) -> None:
    arrivals = ServegenArrivals(folder=str(_folder(tmp_path)))
    watched = observation_of((arrivals,), 1.0, 10.0)
    assert watched.period_s == 1800
    assert (watched.settle_s, watched.measure_s) == (1800, 14_400)


def test_what_a_check_says_of_clients(tmp_path: Path) -> None:
    arrivals = ServegenArrivals(folder=str(_folder(tmp_path)))
    held = "2 clients with 2.667 requests/s on average over 0.5 h"
    unused = "1 of them are of no adapter, and left out"
    assert list(recording_remarks(arrivals, ("client-3",))) == [held, unused]
    assert list(recording_remarks(arrivals, None))[1].startswith("requests of all are dealt by rate")


def test_a_recording_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        _folder(tmp_path / name)
    one, other = (ServegenArrivals(folder=str(tmp_path / name)) for name in ("one", "other"))
    assert arrival_values(one) == arrival_values(other)
    text = (tmp_path / "other" / "chunk-3-dataset.json").read_text()
    (tmp_path / "other" / "chunk-3-dataset.json").write_text(text.replace("50: 1.0", "51: 1.0"))
    assert arrival_values(one) != arrival_values(other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "has neither folder nor file"),
        ({"folder": "a", "file": "b"}, "has both folder and file"),
        ({"folder": "a", "clients": "b"}, "clients is given without file"),
        ({"file": "b", "lengths": True}, "lengths is true, and no file has lengths"),
    ],
)
def test_files_that_do_not_go_together_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        ServegenArrivals(**values)


@needs_traces
@pytest.mark.parametrize(("name", "count"), [("m-small", 30), ("m-mid", 86)])
def test_public_days(name: str, count: int) -> None:
    clients = read_servegen(TRACES / f"servegen_{name}_day.csv.gz", TRACES / f"servegen_{name}_clients.csv")
    assert len(clients) == count
    assert all(len(client.rate) == 144 for client in clients)
    rates = [client.mean_rate for client in clients]
    assert rates == sorted(rates, reverse=True)
    scale = 20.0 / sum(rates)
    drawn = _played(clients, 3600.0, {one.name: one.mean_rate * scale for one in clients}, start_s=43_200.0)
    expected = sum(c.rate[72:78].mean() for c in clients) * scale * 3600
    assert len(drawn.arrival_s) == pytest.approx(expected, rel=0.35)
