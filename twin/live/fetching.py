"""Texts of live servers, such as what they answer at /metrics; nothing but a GET is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import NamedTuple

from scenarios import LorapackError, visible
from twin.live.client import KEY_VARIABLE, Client, Timeouts, connected, run_async
from twin.live.failures import AnswerError, Failure

REMEDIES = {
    Failure.NO_CONNECTION: "name a running server and its port",
    Failure.TLS: "mend its certificate",
    Failure.TIMEOUT: "look whether it is overloaded, or behind a firewall",
    Failure.REDIRECT: "name the address to which it redirects, if you trust that",
    Failure.CLIENT_ERROR: f"name the address of its metrics; where it asks for a key, set {KEY_VARIABLE}",
}
"""What a user can do about a failure; of others `LOOK` is all that there is."""

LOOK = "look into the server's log"


class FetchError(LorapackError, RuntimeError):
    """A server that was asked did not answer as it should."""


class FetchedText(NamedTuple):
    """A text, and when it came, in seconds since 1970."""

    text: str
    taken_s: float


def fetch_texts(urls: Iterable[str], *, timeout_s: float = 30.0) -> dict[str, FetchedText | FetchError]:
    """The texts at some addresses, all asked for at once; one that is not to be had costs no other.

    Parameters
    ----------
    urls
        Of http or https.
    timeout_s
        Seconds in which each must be answered.
    """
    asked = tuple(dict.fromkeys(urls))

    async def fetch_all() -> list[FetchedText | FetchError]:
        async with connected(Timeouts(connect_s=timeout_s, stall_s=timeout_s)) as client:
            return await asyncio.gather(*(_fetched(client, url) for url in asked))

    return dict(zip(asked, run_async(fetch_all()), strict=True))


async def _fetched(client: Client, url: str) -> FetchedText | FetchError:
    try:
        text = await client.fetch(url)
    except AnswerError as error:
        return FetchError(visible(f"{url}: {error}; {REMEDIES.get(error.failure, LOOK)}"))
    return FetchedText(text, time.time())
