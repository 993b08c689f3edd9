"""Answers of ``/v1/models``: which adapters a server has."""

from __future__ import annotations

import json
import re

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import (
    ANSWERED,
    MODELS,
    AdapterFacts,
    ImportOptions,
    Said,
    ServerFacts,
    SourceFacts,
)
from scenarios.importers.source import Kind, Source
from scenarios.text.formatting import shown

MOST_MODELS = 250_000
LONGEST_NAME = 1000


def _fits(source: Source) -> bool:
    head = source.head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return bool(
        not source.is_folder
        and head.startswith(b"{")
        and re.match(rb'\{\s*"(?:object|data)"\s*:', head)
        and (b'"owned_by"' in head or b'"parent"' in head)
        and b'"resourceSpans"' not in head
    )


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    cards = _cards(source)
    parents = {parent for card in cards if (parent := _text(source, card, "parent"))}
    bases = [card for card in cards if not _text(source, card, "parent")]
    adapters = tuple(_adapter(source, card) for card in cards if _text(source, card, "parent"))
    origin = source.path.name
    names = tuple(dict.fromkeys([str(_text(source, card, "id")) for card in bases] + sorted(parents)))
    first = bases[0] if bases else {}
    model = _text(source, first, "root")
    longest = first.get("max_model_len")
    engine: dict[str, Said[object]] = {}
    if isinstance(longest, int) and not isinstance(longest, bool) and 1 <= longest <= 10_000_000:
        engine["max_model_len"] = Said(longest, f"{origin}, max_model_len")
    server = ServerFacts(
        source.path.stem,
        origin,
        tuple(dict.fromkeys(adapter.served_name for adapter in adapters)),
        engine,
        model=Said(plain_address(model), f"{origin}, root of {names[0]}") if model and names else None,
        served_model_name=Said(names[0], f"{origin}, id") if names else None,
        asked=MODELS,
    )
    return SourceFacts(MODEL_LIST.name, adapters, (server,), base_names=names)


def _cards(source: Source) -> list[dict[str, object]]:
    """The models of an answer."""
    try:
        value = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise source.error("is no JSON, or cut off", "fetch /v1/models again") from error
    cards = value.get("data") if isinstance(value, dict) else None
    if not isinstance(cards, list):
        raise source.error(f"is {shown(cards)}", "give the list that /v1/models answers", place="data")
    if not cards or len(cards) > MOST_MODELS:
        raise source.error(f"has {len(cards):,} models", f"give 1 to {MOST_MODELS:,}", place="data")
    for k, card in enumerate(cards):
        if not isinstance(card, dict) or not isinstance(card.get("id"), str) or not card["id"]:
            raise source.error(f"is {shown(card)}", "give a model with its id", place=f"data[{k}]")
    return cards


def _text(source: Source, card: dict[str, object], key: str) -> str | None:
    value = card.get(key)
    if value is None or (isinstance(value, str) and len(value) <= LONGEST_NAME):
        return value
    raise source.error(f"is {shown(value)}", "give a name", place=f"{key} of {shown(card.get('id'))}")


def _adapter(source: Source, card: dict[str, object]) -> AdapterFacts:
    name, root = str(_text(source, card, "id")), _text(source, card, "root")
    origin = f"{source.path.name}, data"
    where = Said(plain_address(root), f"{source.path.name}, root") if root else None
    return AdapterFacts(name, origin, source=where, source_weight=ANSWERED)


MODEL_LIST = Kind("answer of /v1/models", _fits, _read)
"""A model with a parent is an adapter of it, whose root is its path: ModelCard of
vllm/entrypoints/serve/engine/protocol.py, 0.32.0, and of SGLang 0.5.23,
sglang/srt/entrypoints/openai/protocol.py."""
