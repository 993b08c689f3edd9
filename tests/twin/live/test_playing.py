"""Requests played against a live server: instants, lengths, followers, limits and everything that fails."""

import asyncio
import threading
import time

import numpy as np
import pytest

from scenarios.stopping.deadline import Deadline
from tests.live_server import LiveServer
from twin import Requests, metrics
from twin.live import Drive, Failure, InputError, Limits, Timeouts, checked_url, play
from twin.live.prompts import FIRST_ID, Prompts


def requests_of(n: int, gap_s: float = 0.01, output: int = 5, **more: object) -> Requests:
    return Requests(
        arrival_s=np.arange(n) * gap_s,
        prompt_tokens=np.arange(1, n + 1, dtype=np.int32),
        output_tokens=np.full(n, output, dtype=np.int32),
        adapter=np.arange(n, dtype=np.int32) % 2,
        n_adapters=2,
        **more,
    )


def drive(server: LiveServer, requests: Requests, **more: object) -> Drive:
    return Drive(server.url, requests, ("one", "two"), **more)


@pytest.fixture
def server():
    with LiveServer(adapters=("one", "two")).serving() as one:
        yield one


def test_every_request_is_sent_as_it_stands_and_answered(server):
    (answers,) = play([drive(server, requests_of(20))])
    assert answers.completed == 20
    assert not answers.faults
    assert [len(body["prompt"]) for body in server.bodies] == list(range(1, 21))
    assert [body["model"] for body in server.bodies] == ["one", "two"] * 10
    assert all(body["max_tokens"] == 5 and body["ignore_eos"] for body in server.bodies)
    assert min(min(body["prompt"]) for body in server.bodies) >= FIRST_ID
    assert answers.generated_tokens.tolist() == [5] * 20
    assert np.all(np.diff(answers.sent_s) > 0)
    assert 0 <= answers.lag_s < 0.2
    assert len(answers.gaps_s) == 20 * 4


def test_the_metrics_are_those_of_the_twins_own_runs(server):
    (answers,) = play([drive(server, requests_of(30), horizon_s=30.0)])
    records = answers.records()
    assert records.finished.all()
    found = metrics.latencies_of(metrics.window(records), 0.0)
    assert 0.003 < found["itl"].mean_s < 0.05
    assert found["ttft"].mean_s > 0.003
    traffic = metrics.traffic(metrics.window(records))
    assert traffic.served_tok_per_s == pytest.approx((np.arange(1, 31).sum() + 150) / 30.0)


def test_followers_are_sent_when_the_one_before_has_ended(server):
    follows = np.array([-1, -1, 0, 1, 2], dtype=np.int32)
    requests = requests_of(5, gap_s=0.0, follows=follows)
    (answers,) = play([drive(server, requests)])
    assert answers.completed == 5
    assert answers.due_s[2] == pytest.approx(answers.finish_s[0])
    assert answers.sent_s[4] >= answers.finish_s[2]
    records = answers.records()
    assert np.all(np.diff(records.requests.arrival_s) >= 0)
    assert records.requests.follows is None


def test_a_follower_begins_with_the_text_before_it_and_with_its_answer(server):
    requests = Requests(
        arrival_s=np.zeros(2),
        prompt_tokens=np.array([4, 12], dtype=np.int32),
        output_tokens=np.array([3, 1], dtype=np.int32),
        adapter=np.zeros(2, dtype=np.int32),
        n_adapters=2,
        follows=np.array([-1, 0], dtype=np.int32),
        continues=np.array([2, 0, -1], dtype=np.int32),
        common_tokens=np.array([2, 7, 0], dtype=np.int32),
    )
    play([drive(server, requests)])
    first, second = (body["prompt"] for body in server.bodies)
    assert second[:4] == first
    assert second[4:7] == [1, 2, 3]
    assert "return_token_ids" in server.bodies[0]
    assert "return_token_ids" not in server.bodies[1]


def test_prompts_have_nothing_in_common_unless_they_should():
    requests = requests_of(40)
    prompts = Prompts(requests, seed=3)
    assert prompts.of(30) == Prompts(requests, seed=3).of(30)
    assert prompts.of(30)[:8] != prompts.of(31)[:8]
    assert prompts.of(30) != Prompts(requests, seed=4).of(30)


def test_two_servers_are_played_from_the_same_instant(server):
    with LiveServer(adapters=("one", "two")).serving() as other:
        first, second = play([drive(server, requests_of(10)), drive(other, requests_of(10))])
    assert first.completed == second.completed == 10
    assert abs(first.started_unix_s - second.started_unix_s) < 0.01
    assert len(other.bodies) == 10


def test_what_is_unfinished_at_the_horizon_is_no_fault(server):
    server.max_num_seqs = 1
    (answers,) = play([drive(server, requests_of(60, gap_s=0.0, output=20), horizon_s=1.0)])
    assert 0 < answers.completed < 60
    assert set(answers.failures) <= {None, Failure.CUT, Failure.NOT_SENT}
    assert not answers.faults
    assert answers.end_s == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("400", Failure.CLIENT_ERROR),
        ("404", Failure.CLIENT_ERROR),
        ("500", Failure.SERVER_ERROR),
        ("503", Failure.SERVER_ERROR),
        ("redirect", Failure.REDIRECT),
        ("html", Failure.NO_STREAM),
        ("stall", Failure.TIMEOUT),
        ("die", Failure.LOST),
        ("error event", Failure.SERVER_ERROR),
        ("garbage", Failure.NO_STREAM),
        ("endless line", Failure.NO_STREAM),
        ("end", Failure.LOST),
    ],
)
def test_every_fault_is_told_counted_and_survived(server, fault, failure):
    server.fault = lambda number, _body: fault if number == 3 else None
    limits = Limits(timeouts=Timeouts(stall_s=0.5), error_share=0.9)
    (answers,) = play([drive(server, requests_of(10))], limits)
    assert answers.faults == {failure: 1}
    (failed,) = (k for k, one in enumerate(answers.failures) if one is not None)  # the fourth to arrive
    assert answers.failures[failed] is failure
    assert answers.completed == 9
    assert np.isnan(answers.finish_s[failed])
    assert "127.0.0.2" not in str(answers.details)
    assert not answers.stopped


def test_a_kept_connection_that_the_server_closes_costs_no_request(server):
    server.fault = lambda number, _body: "hang up" if number == 3 else None
    follows = np.arange(-1, 5, dtype=np.int32)
    (answers,) = play([drive(server, requests_of(6, gap_s=0.0, follows=follows))])
    assert answers.completed == 6
    assert len(server.bodies) == 7


def test_a_redirect_is_not_followed(server):
    with LiveServer(adapters=("one", "two")).serving() as other:
        server.fault = lambda _number, _body: "redirect"
        play([drive(server, requests_of(5))])
        assert not other.asked


def test_too_many_errors_break_the_run_off_and_say_so(server):
    server.fault = lambda _number, _body: "500"
    (answers,) = play([drive(server, requests_of(400))], Limits(error_share=0.2, enough=20))
    assert "failed; server error (5xx)" in answers.stopped
    assert "on demand" in answers.stopped
    assert len(server.bodies) < 400
    assert Failure.NOT_SENT in answers.failures


def test_a_server_that_dies_in_the_middle_is_survived():
    one = LiveServer(adapters=("one", "two"), step_s=0.02)
    with one.serving() as server:
        url = server.url
        ended = threading.Event()

        def killed() -> None:
            time.sleep(0.3)
            ended.set()

        server.fault = lambda _number, _body: "die" if ended.is_set() else None
        threading.Thread(target=killed).start()
        (answers,) = play([Drive(url, requests_of(100, output=3), ("one", "two"))], Limits(error_share=0.3))
    assert answers.completed > 5
    assert answers.faults[Failure.LOST] > 5
    assert "connection lost" in answers.stopped


def test_no_server_at_all():
    (answers,) = play([Drive("http://127.0.0.1:9", requests_of(30), ("one", "two"))])
    assert answers.completed == 0
    assert answers.faults[Failure.NO_CONNECTION] >= 20
    assert "no connection" in answers.stopped


def test_tls_of_a_server_that_speaks_none(server):
    (answers,) = play([Drive(server.url.replace("http", "https"), requests_of(2), ("one", "two"))])
    assert set(answers.faults) <= {Failure.TLS, Failure.NO_CONNECTION, Failure.LOST}
    assert answers.faults.total() == 2


def test_the_key_is_sent_and_never_shown(server, monkeypatch):
    server.key = "sk-secret-123"
    (answers,) = play([drive(server, requests_of(3))])
    assert answers.faults == {Failure.CLIENT_ERROR: 3}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    (answers,) = play([drive(server, requests_of(3))])
    assert answers.completed == 3
    assert "sk-secret" not in repr(answers) + str(answers.details)


def test_no_proxy_is_used(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (answers,) = play([drive(server, requests_of(3))])
    assert answers.completed == 3


def test_a_deadline_ends_the_run_and_keeps_what_there_is(server):
    limits = Limits(deadline=Deadline.after(0.5))
    begin = time.monotonic()
    (answers,) = play([drive(server, requests_of(1000))], limits)
    assert time.monotonic() - begin < 5
    assert answers.stopped == "time limit"
    assert 0 < answers.completed < 1000
    assert answers.records().horizon_s < 2


def test_progress_ends_with_all(server):
    told = []
    play([drive(server, requests_of(5))], progress=lambda *one: told.append(one))
    assert told[-1] == ("sending", 5, 5)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://llm.example.com/team/v1", "https://llm.example.com/team"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(given, right):
    assert checked_url(given) == right


@pytest.mark.parametrize(
    "given",
    [
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://h/?key=1",
        "http://u:p@h",
        "",
        "file:///etc",
    ],
)
def test_what_is_no_address(given):
    with pytest.raises(InputError) as error:
        checked_url(given)
    assert "p@" not in str(error.value)


def test_playing_works_where_a_loop_runs_already(server):
    async def outer() -> int:
        return play([drive(server, requests_of(2))])[0].completed

    assert asyncio.run(outer()) == 2
