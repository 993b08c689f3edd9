"""Texts of servers: what is sent, and what is told of servers that do not answer as they should."""

from __future__ import annotations

import gzip
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.small_server import Answer, answering
from twin.live import client
from twin.live.fetching import FetchedText, FetchError, fetch_texts

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def fetch(url: str, timeout_s: float = 5.0) -> str:
    answer = fetch_texts([url], timeout_s=timeout_s)[url]
    if isinstance(answer, FetchError):
        raise answer
    return answer.text


def test_texts_are_fetched_by_one_get_each_without_a_key_where_there_is_none() -> None:
    before = time.time()
    with answering(lambda path: f"é at {path}") as server:
        urls = [f"{server.url}/metrics?x={k}" for k in range(3)]
        answers = fetch_texts([*urls, urls[0]])
    for k, url in enumerate(urls):
        answer = answers[url]
        assert isinstance(answer, FetchedText)
        assert answer.text == f"é at /metrics?x={k}"
        assert before <= answer.taken_s <= time.time()
    assert sorted(path for _, path, _ in server.asked) == [f"/metrics?x={k}" for k in range(3)]
    assert {method for method, _, _ in server.asked} == {"GET"}
    assert all("Authorization" not in headers for _, _, headers in server.asked)


def test_a_key_of_the_environment_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asks = r"refused \(4xx\): HTTP 401: who\?; .* set OPENAI_API_KEY"
    with (
        answering(lambda _: Answer(b"who?", status=401)) as server,
        pytest.raises(FetchError, match=asks) as told,
    ):
        fetch(server.url)
    assert server.asked[0][2]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(told.value)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(lambda _: "ok") as server:
        assert fetch(server.url) == "ok"


def test_a_redirect_is_told_and_not_followed() -> None:
    with answering(lambda _: "elsewhere") as other:
        moved = Answer(status=307, headers={"Location": f"{other.url}/metrics"})
        with answering(lambda _: moved) as server, pytest.raises(FetchError, match="redirects are not"):
            fetch(server.url)
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"no", status=404), "HTTP 404: no; name the address of its metrics"),
        (Answer(b"oh", status=503), "HTTP 503: oh; look into the server's log"),
        (Answer(b"half", length=1000), "connection lost"),
        (Answer(b"\x1b[2J\x00", status=500), r"\\x1b\[2J\\x00"),
    ],
)
def test_other_answers_are_told(answer: Answer, message: str) -> None:
    with answering(lambda _: answer) as server, pytest.raises(FetchError, match=message):
        fetch(server.url)


def test_a_failure_costs_no_other_text() -> None:
    answers = {"/good": Answer(b"good"), "/bad": Answer(status=500)}
    with answering(answers.__getitem__) as server:
        found = fetch_texts([server.url + path for path in answers])
    good, bad = found.values()
    assert isinstance(good, FetchedText)
    assert good.text == "good"
    assert isinstance(bad, FetchError)


def test_a_text_that_is_too_long_is_refused_unpacked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 100_000)
    packed = Answer(gzip.compress(b"x" * 10_000_000), headers={"Content-Encoding": "gzip"})
    answers = {"/plain": Answer(b"x" * 200_000), "/packed": packed}
    with answering(answers.__getitem__) as server:
        for path in answers:
            with pytest.raises(FetchError, match="more than 100,000 bytes"):
                fetch(server.url + path)


def test_a_slow_server_is_given_up() -> None:
    def slow(_: str) -> str:
        time.sleep(0.5)
        return "late"

    with answering(slow) as server, pytest.raises(FetchError, match="no answer in time; look whether"):
        fetch(server.url, timeout_s=0.1)


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(FetchError, match=rf"http://127\.0\.0\.1:{port}: no connection"):
            fetch(f"http://127.0.0.1:{port}")


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-keyout", str(file), "-out", str(tmp_path / "cert.pem")],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    file.write_bytes(file.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    with answering(lambda _: "secret", file) as server, pytest.raises(FetchError, match="TLS refused"):
        fetch(server.url)
    assert server.asked == []


def test_a_plain_server_at_an_address_of_tls_is_told() -> None:
    with answering(lambda _: "plain") as server, pytest.raises(FetchError, match="TLS refused"):
        fetch(server.url.replace("http:", "https:"))
