"""What a live server tells of itself, before it is sent anything."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scenarios import ImportSourceError, Problem
from scenarios.errors import InputError
from twin.live.client import Client, Timeouts, connected, run_async
from twin.live.failures import AnswerError, Failure
from twin.server_metrics.figures import cache_labels, kv_cache_tokens, max_loras, whole_number
from twin.server_metrics.series import MetricsText, single_reading

NO_LIST = "no list of models in the answer"


class ServerError(InputError):
    """A live server cannot be asked, or is none that can be measured."""


@dataclass(frozen=True)
class ServerAnswers:
    """What a server says of itself; None is what it does not say.

    Parameters
    ----------
    url
        Its address.
    base, adapters
        Names by which it serves the base model and adapters.
    version
        Release of the engine (``/version``, of vLLM).
    max_model_len
        Longest sequence in tokens (``/v1/models``, of vLLM).
    kv_cache_tokens, block_size
        Its KV cache, by its metrics.
    max_loras
        Adapter slots, by its metrics; vLLM tells them only once it served an adapter.
    enable_prefix_caching, gpu_memory_utilization, kv_cache_memory_bytes
        As in ``vllm:cache_config_info``.
    """

    url: str
    base: tuple[str, ...]
    adapters: tuple[str, ...]
    version: str | None = None
    max_model_len: int | None = None
    kv_cache_tokens: int | None = None
    block_size: int | None = None
    max_loras: int | None = None
    enable_prefix_caching: bool | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None


def ask_servers(urls: Sequence[str], timeouts: Timeouts | None = None) -> list[ServerAnswers]:
    """Ask servers what they are; they are sent no request for tokens.

    Raises
    ------
    ServerError
        If some cannot be asked, all of them in one message.
    """

    async def ask_all() -> list[ServerAnswers | AnswerError]:
        async with connected(timeouts) as client:
            return [await _asked(client, url) for url in urls]

    answers = run_async(ask_all())
    problems = [
        Problem(url, f"does not say which models it serves: {one}", "name a running server and its port")
        for url, one in zip(urls, answers, strict=True)
        if isinstance(one, AnswerError)
    ]
    if problems:
        raise ServerError(problems)
    return [one for one in answers if isinstance(one, ServerAnswers)]


async def _asked(client: Client, url: str) -> ServerAnswers | AnswerError:
    try:
        models = _models(await client.fetch(f"{url}/v1/models"))
    except AnswerError as error:
        return error
    return ServerAnswers(
        url=url,
        base=tuple(str(one["id"]) for one in models if one.get("parent") is None),
        adapters=tuple(str(one["id"]) for one in models if one.get("parent") is not None),
        version=_version(await _optional(client, f"{url}/version")),
        max_model_len=next((n for one in models if (n := _whole(one.get("max_model_len")))), None),
        **_of_metrics(url, await _optional(client, f"{url}/metrics")),
    )


async def _optional(client: Client, url: str) -> str:
    """The text at an address that not every server has; empty where there is none."""
    try:
        return await client.fetch(url)
    except AnswerError:
        return ""


def _models(text: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)["data"]
        models = [one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnswerError(Failure.NO_STREAM, NO_LIST) from error
    if not models:
        raise AnswerError(Failure.NO_STREAM, NO_LIST)
    return models


def _version(text: str) -> str | None:
    try:
        version = json.loads(text)["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, str) else None


def _of_metrics(url: str, text: str) -> dict[str, Any]:
    """What metrics say of the KV cache and of the slots; nothing where they are none."""
    try:
        told = single_reading(MetricsText.fetched(url, text, time.time()))
    except ImportSourceError:
        return {}
    labels = cache_labels(told)
    share = labels.get("gpu_memory_utilization", "")
    return {
        "kv_cache_tokens": kv_cache_tokens(told),
        "block_size": whole_number(labels.get("block_size")),
        "max_loras": max_loras(told),
        "enable_prefix_caching": {"True": True, "False": False}.get(labels.get("enable_prefix_caching", "")),
        "gpu_memory_utilization": float(share) if re.fullmatch(r"0\.\d{1,6}|1\.0", share) else None,
        "kv_cache_memory_bytes": whole_number(labels.get("kv_cache_memory_bytes")),
    }


def _whole(value: Any) -> int | None:
    """A whole number above 0 of JSON."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
