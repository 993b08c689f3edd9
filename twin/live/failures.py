"""Why a request to a live server came to nothing: one word for each kind, for counting and for messages."""

from __future__ import annotations

import ssl
from enum import StrEnum

import aiohttp

MOST_SHOWN = 300
"""Characters of a server's own words that are kept."""


class Failure(StrEnum):
    """What became of a request that was not answered whole."""

    NOT_SENT = "not sent before the end"
    CUT = "unfinished at the end"
    NO_CONNECTION = "no connection"
    TLS = "TLS refused"
    LOST = "connection lost"
    TIMEOUT = "no answer in time"
    REDIRECT = "redirected elsewhere"
    CLIENT_ERROR = "refused (4xx)"
    SERVER_ERROR = "server error (5xx)"
    NO_STREAM = "not what such a server answers"


CENSORED = frozenset({Failure.NOT_SENT, Failure.CUT})
"""Ends that are the run's own, and no fault of the server."""


class AnswerError(Exception):
    """A request came to nothing; caught where requests are played, and counted.

    Parameters
    ----------
    failure
        Of which kind.
    detail
        The server's or the system's own words, cut; never a header or a key.
    """

    def __init__(self, failure: Failure, detail: str = "") -> None:
        self.failure, self.detail = failure, " ".join(detail.split())[:MOST_SHOWN]
        super().__init__(f"{failure}: {self.detail}" if self.detail else str(failure))


def of_status(status: int, text: str) -> AnswerError:
    """The failure of an answer that is not 200."""
    if 300 <= status < 400:
        return AnswerError(Failure.REDIRECT, f"HTTP {status}; redirects are not followed")
    kind = Failure.SERVER_ERROR if status >= 500 else Failure.CLIENT_ERROR
    return AnswerError(kind, f"HTTP {status}: {text}")


def of_error(error: Exception) -> AnswerError:
    """The failure of a request that ended in an exception of the client or the system."""
    if isinstance(error, AnswerError):
        return error
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return AnswerError(Failure.TLS, str(error))
    if isinstance(error, TimeoutError):
        return AnswerError(Failure.TIMEOUT)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return AnswerError(Failure.NO_CONNECTION, str(error))
    if isinstance(error, aiohttp.ClientError | ConnectionError | OSError):
        return AnswerError(Failure.LOST, str(error) or type(error).__name__)
    return AnswerError(Failure.NO_STREAM, str(error))
