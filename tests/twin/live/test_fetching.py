"""Texts of servers: what is sent, and what is told of servers that do not answer as they should."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios.errors import InputError
from tests.small_server import Answer, answering
from twin.live import fetching
from twin.live.fetching import FetchError, MissingExtraError, fetch_text

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def fetch(url: str, timeout_s: float = 5.0, **headers: str) -> str:
    return asyncio.run(fetch_text(url, timeout_s=timeout_s, headers=headers))


def test_a_text_is_fetched_by_one_get_without_a_key_where_there_is_none() -> None:
    with answering(lambda path: f"é at {path}") as server:
        assert fetch(f"{server.url}/metrics?x=1", Accept="text/plain") == "é at /metrics?x=1"
    ((method, path, headers),) = server.asked
    assert (method, path, headers["Accept"]) == ("GET", "/metrics?x=1", "text/plain")
    assert "Authorization" not in headers


def test_a_key_of_the_environment_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asks = r"asks for a key \(HTTP 401\); set OPENAI_API_KEY"
    with (
        answering(lambda _: Answer(b"who are you?", status=401)) as server,
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
        with answering(lambda _: moved) as server, pytest.raises(FetchError, match="which is not followed"):
            fetch(server.url)
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"no", status=404), "answers HTTP 404; name the address of its metrics"),
        (Answer(b"oh", status=503), "answers HTTP 503"),
        (Answer(b"\xff\xfe\x00", status=200), "no text of UTF-8"),
        (Answer(b"half", length=1000), "broke off"),
    ],
)
def test_other_answers_are_told(answer: Answer, message: str) -> None:
    with answering(lambda _: answer) as server, pytest.raises(FetchError, match=message):
        fetch(server.url)


def test_an_answer_is_read_no_farther_than_it_may_be_long_unpacked_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 100_000)
    packed = Answer(gzip.compress(b"x" * 10_000_000), headers={"Content-Encoding": "gzip"})
    answers = {"/plain": Answer(b"x" * 200_000), "/packed": packed}
    with answering(answers.__getitem__) as server:
        for path in answers:
            with pytest.raises(FetchError, match="answers more than 100,000 bytes"):
                fetch(server.url + path)


def test_a_slow_server_is_given_up() -> None:
    def slow(_: str) -> str:
        time.sleep(0.5)
        return "late"

    with answering(slow) as server, pytest.raises(FetchError, match=r"did not answer within 0\.1 s"):
        fetch(server.url, timeout_s=0.1)


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(FetchError, match=rf"http://127\.0\.0\.1:{port} cannot be reached"):
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
    with answering(lambda _: "secret", file) as server, pytest.raises(FetchError, match="no TLS that can"):
        fetch(server.url)
    assert server.asked == []


def test_a_plain_server_at_an_address_of_tls_is_told() -> None:
    with (
        answering(lambda _: "plain") as server,
        pytest.raises(FetchError, match="no TLS that can"),
    ):
        fetch(server.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu0",
        "gpu0:8000",
        "ftp://x",
        "file:///etc/passwd",
        "http://",
        "http://x:99999",
        "http://[",
        "http://x:0x",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="write it like http://"):
        fetch(url)


def test_an_address_with_a_password_is_refused_and_the_password_not_told() -> None:
    with pytest.raises(InputError, match="holds a user; give a key by OPENAI_API_KEY") as told:
        fetch(f"http://anna:{KEY}@127.0.0.1/metrics")
    assert KEY not in str(told.value)


def test_what_is_missing_is_said_where_aiohttp_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lorapack\[live\]"'):
        fetch("http://127.0.0.1:9/metrics")
