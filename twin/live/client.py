"""A client of OpenAI-compatible servers: it streams completions, and asks servers what they are.

It speaks to the hosts that it is told and to no other: it follows no redirect and uses no proxy. A key is
taken from the environment at each start, sent as a bearer token, and neither kept nor shown.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from scenarios import Problem
from scenarios.errors import InputError
from twin.live.failures import AnswerError, Failure, of_error, of_status

T = TypeVar("T")

KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable of the key, as OpenAI's own client reads it."""

KEPT_S = 2.0
"""Seconds that an idle connection is kept: less than servers do (uvicorn 5 s), which may close it then."""

MOST_BYTES = 64 * 2**20
"""Bytes of an answer that are read at most."""


@dataclass(frozen=True)
class Timeouts:
    """How long the client waits, in seconds.

    Parameters
    ----------
    connect_s
        For a connection.
    stall_s
        For the next piece of an answer.
    answer_s
        For a whole answer.
    """

    connect_s: float = 10.0
    stall_s: float = 120.0
    answer_s: float = 900.0


@dataclass
class Streamed:
    """An answer as it comes; times by the clock of the event loop, in seconds.

    Parameters
    ----------
    sent_s
        When the request went out.
    token_s
        When each piece with tokens came.
    prompt_tokens, generated_tokens
        By the server's count; None until it tells.
    ids
        Tokens of the answer, where they were asked for and the server gives them.
    answered
        Whether the server began to answer.
    """

    sent_s: float
    token_s: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    ids: list[int] = field(default_factory=list)
    answered: bool = False


def checked_url(url: str) -> str:
    """The address of a server without a path ``/v1`` and without a slash at its end.

    Raises
    ------
    InputError
        If it is no http address of a host, or holds a user or a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError([Problem("URL", f'is "{url}"', "write it like http://127.0.0.1:8000")])
    if parts.username is not None or parts.password is not None:
        raise InputError([Problem("URL", f"of {host} holds a user", f"give a key by {KEY_VARIABLE}")])
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


class Client:
    """Requests to servers, over one pool of connections; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, timeouts: Timeouts) -> None:
        self._session, self._timeouts = session, timeouts

    async def complete(
        self,
        url: str,
        model: str,
        prompt: list[int],
        max_tokens: int,
        answer: Streamed,
        *,
        with_ids: bool = False,
    ) -> None:
        """Stream one completion of just so many tokens into ``answer``.

        Raises
        ------
        AnswerError
            If it is not answered whole; what came until then is in ``answer``.
        """
        body: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "ignore_eos": True,  # of vLLM and SGLang: the answer has the length that is asked for
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if with_ids:
            body["return_token_ids"] = True  # vLLM from 0.10.2 on; others ignore it
        try:
            async with asyncio.timeout(self._timeouts.answer_s):
                try:
                    await self._posted(f"{url}/v1/completions", body, answer)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if answer.answered:
                        raise
                    # A connection that was kept, and that the server closed just then: it got no request.
                    await self._posted(f"{url}/v1/completions", body, answer)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise of_error(error) from error
        if not answer.token_s:
            raise AnswerError(Failure.NO_STREAM, "the answer has no token")

    async def _posted(self, url: str, body: dict[str, Any], answer: Streamed) -> None:
        async with self._session.post(url, json=body, allow_redirects=False) as response:
            answer.answered = True
            if response.status != 200:
                raise of_status(response.status, await _text(response, 4096))
            if response.content_type != "text/event-stream":
                raise AnswerError(Failure.NO_STREAM, f"the answer is {response.content_type}")
            await _streamed(response, answer)

    async def fetch(self, url: str) -> str:
        """The text at an address.

        Raises
        ------
        AnswerError
            If there is none.
        """
        try:
            async with (
                asyncio.timeout(self._timeouts.stall_s),
                self._session.get(url, allow_redirects=False) as response,
            ):
                text = await _text(response, MOST_BYTES)
                if response.status != 200:
                    raise of_status(response.status, text)
                if not response.content.at_eof():
                    raise AnswerError(Failure.NO_STREAM, f"the answer has more than {MOST_BYTES:,} bytes")
                return text
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise of_error(error) from error


@asynccontextmanager
async def connected(timeouts: Timeouts | None = None) -> AsyncIterator[Client]:
    """A client while the block lasts."""
    timeouts = timeouts or Timeouts()
    _raise_open_files()
    limits = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s, sock_read=timeouts.stall_s)
    key = os.environ.get(KEY_VARIABLE)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
        timeout=limits,
        trust_env=False,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield Client(session, timeouts)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, work).result()


def _raise_open_files() -> None:
    """Let the process open as many connections as the system grants: a soft limit of 1,024 is usual."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def _text(response: aiohttp.ClientResponse, most: int) -> str:
    """The beginning of an answer's text."""
    held = bytearray()
    async for part in response.content.iter_any():
        held += part
        if len(held) >= most:
            break
    return bytes(held[:most]).decode(errors="replace")


async def _streamed(response: aiohttp.ClientResponse, answer: Streamed) -> None:
    """Read server-sent events until the last.

    Raises
    ------
    AnswerError
        If the server tells an error, or ends before it said so.
    """
    clock = asyncio.get_running_loop().time
    finished = False
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        finished |= _take(json.loads(data), answer, clock())
    if not finished:
        raise AnswerError(Failure.LOST, "the stream ended before the answer did")


def _take(event: Any, answer: Streamed, now: float) -> bool:
    """Take one event into the answer; whether it is the answer's last piece.

    Raises
    ------
    AnswerError
        If it is an error, or nothing that such a server sends.
    """
    if not isinstance(event, dict) or "error" in event:
        told = event.get("error") if isinstance(event, dict) else event
        text = told.get("message", told) if isinstance(told, dict) else told
        raise AnswerError(Failure.SERVER_ERROR, str(text))
    usage, choices = event.get("usage"), event.get("choices")
    if isinstance(usage, dict):
        answer.prompt_tokens = _count(usage.get("prompt_tokens"))
        answer.generated_tokens = _count(usage.get("completion_tokens"))
    if not isinstance(choices, list) or not choices:
        return False
    choice = choices[0]
    if not isinstance(choice, dict) or "text" not in choice:
        raise AnswerError(Failure.NO_STREAM, "an event has no text; is this /v1/completions?")
    ids = choice.get("token_ids")
    if isinstance(ids, list):
        answer.ids += [one for one in ids if isinstance(one, int)]
    # vLLM says the end of a request with an empty piece of its own where the last token gave no text.
    if choice["text"] or ids or choice.get("finish_reason") is None or not answer.token_s:
        answer.token_s.append(now)
    return choice.get("finish_reason") is not None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
