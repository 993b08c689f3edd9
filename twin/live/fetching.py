"""Texts that live servers answer to a GET, such as those at /metrics.

Only the host that is named is spoken to: no redirect is followed and no proxy used. A key is taken from the
environment at each call, sent as a bearer token, and neither kept nor shown.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scenarios import LorapackError, Problem, visible
from scenarios.errors import InputError

if TYPE_CHECKING:
    import aiohttp

KEY = "OPENAI_API_KEY"
"""Environment variable of the key, as OpenAI's own client reads it."""

MOST_BYTES = 64 * 2**20
"""Longest answer, unpacked."""

SHOWN = 200
"""Characters of the system's own words that an error tells."""


class FetchError(LorapackError, RuntimeError):
    """A server that was asked did not answer as it should."""


class MissingExtraError(LorapackError, ImportError):
    """The package that speaks to servers is not installed."""


def check_url(url: str) -> None:
    """Check that an address is of http or https, with a host and without a user or password.

    Raises
    ------
    InputError
        If it is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise InputError([Problem("URL", f'is "{url}"', "write it like http://127.0.0.1:8000/metrics")])
    if "@" in parts.netloc:
        raise InputError([Problem("URL", f"of {parts.hostname} holds a user", f"give a key by {KEY}")])


async def fetch_text(url: str, *, timeout_s: float = 30.0, headers: Mapping[str, str] | None = None) -> str:
    """The text at an address.

    Parameters
    ----------
    url
        Of http or https.
    timeout_s
        Seconds for all of it.
    headers
        Sent beside the key of the environment, if there is one.

    Raises
    ------
    InputError
        If the address is none, or holds a user.
    FetchError
        If the server cannot be reached, answers another status than 200, is too slow, answers more than
        `MOST_BYTES`, or no text.
    MissingExtraError
        If aiohttp is not installed.
    """
    try:
        import aiohttp
    except ImportError as error:
        raise MissingExtraError('asking servers needs aiohttp: pip install "lorapack[live]"') from error
    check_url(url)
    key = os.environ.get(KEY)
    sent = {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    try:
        async with session, session.get(url, headers=sent, allow_redirects=False) as response:
            return await _text(url, response)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _error(url, *_why(error, timeout_s)) from error


def _why(error: Exception, timeout_s: float) -> tuple[str, str]:
    """What is wrong where a connection fails or breaks off, and what helps."""
    import aiohttp

    cause = (str(error) or type(error).__name__)[:SHOWN]
    if isinstance(error, TimeoutError):
        return f"did not answer within {timeout_s:g} s", "look whether it is overloaded or behind a firewall"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return f"has no TLS that can be trusted ({cause})", "mend its certificate"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached ({cause})", "name a running server and its port"
    return f"broke off ({cause})", "look whether an HTTP server is at this port"


async def _text(url: str, response: aiohttp.ClientResponse) -> str:
    """The body of an answer of status 200, which is read no farther than it may be long."""
    status = response.status
    if 300 <= status < 400:
        to = urlsplit(response.headers.get("Location", "")).netloc or "another path"
        raise _error(url, f"redirects to {to}, which is not followed", "name that address, if you trust it")
    if status in (401, 403):
        raise _error(url, f"asks for a key (HTTP {status})", f"set {KEY}")
    if status != 200:
        raise _error(
            url, f"answers HTTP {status}", "name the address of its metrics: http://HOST:PORT/metrics"
        )
    held = bytearray()
    async for part in response.content.iter_any():
        held += part
        if len(held) > MOST_BYTES:
            raise _error(url, f"answers more than {MOST_BYTES:,} bytes", "name the address of its metrics")
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(url, "answers no text of UTF-8", "name the address of its metrics") from error


def _error(url: str, message: str, remedy: str) -> FetchError:
    return FetchError(visible(f"{url} {message}; {remedy}"))
