"""What adapter_config.json says of an adapter, and what vLLM refuses of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scenarios.importers.adapters.weight_header import MOST_RANK
from scenarios.importers.source import Source
from scenarios.text.display import visible
from scenarios.text.formatting import shortened, shown

CONFIG = "adapter_config.json"
"""File in which PEFT saves the settings of an adapter."""

_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Ways to begin that leave the base model as it is (vllm/lora/peft_helper.py of 0.32.0)."""

_REFUSED = {
    "use_dora": "It uses DoRA, which vLLM refuses.",
    "lora_bias": "It has lora_bias, which vLLM 0.32 refuses.",
    "alora_invocation_tokens": "It is an activated LoRA, which vLLM 0.32 refuses.",
    "layer_replication": "It repeats layers, which vLLM 0.32 refuses.",
    "use_bdlora": "It is a block-diagonal LoRA, which vLLM 0.32 refuses.",
    "use_qalora": "It is a QALoRA, which vLLM 0.32 refuses.",
}
"""What `_validate_features` of PEFTHelper refuses (vllm/lora/peft_helper.py of 0.8.5 and 0.32.0)."""


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of an adapter.

    Parameters
    ----------
    peft_type
        ``LORA``; empty: not said.
    rank
        The largest that it states, of ``r`` and ``rank_pattern``; None: it states none.
    by_pattern
        Whether that is one of ``rank_pattern``.
    base_model
        Model that it adapts; None: not said.
    notes
        What vLLM refuses of it, or reads otherwise, in sentences.
    """

    peft_type: str
    rank: int | None
    by_pattern: bool
    base_model: str | None
    notes: tuple[str, ...]


def read_adapter_config(source: Source) -> AdapterConfig:
    """The settings in an adapter_config.json.

    Raises
    ------
    ImportSourceError
        If it is no JSON, or a setting is of the wrong type.
    """
    values = _values(source)
    peft_type, base = (_text(source, values, key) for key in ("peft_type", "base_model_name_or_path"))
    rank = _number(source, values.get("r"), "r")
    patterns = values.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise source.error(f"is {shown(patterns)}", "give ranks by module", place="rank_pattern")
    ranks = [_number(source, value, f"rank_pattern.{shortened(key)}") for key, value in patterns.items()]
    told = [one for one in (rank, *ranks) if one is not None]
    highest = max(told, default=None)
    by_pattern = highest is not None and highest != rank
    notes = (*_refusals(values), *_readings(values, rank, highest))
    return AdapterConfig(peft_type or "", highest, by_pattern, plain_address(base) if base else None, notes)


def _values(source: Source) -> Mapping[str, object]:
    text = source.text
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise source.error("is no JSON, or cut off", "fetch it again, or leave the adapter out") from error
    if not isinstance(values, dict):
        raise source.error(f"is {shown(values)}", "give the mapping that PEFT saved")
    return values


def _text(source: Source, values: Mapping[str, object], key: str) -> str | None:
    value = values.get(key)
    if value is None or (isinstance(value, str) and len(value) <= 1000):
        return value
    raise source.error(f"is {shown(value)}", "give a name", place=key)


def _number(source: Source, value: object, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RANK:
        raise source.error(f"is {shown(value)}", f"give a whole number of 1 to {MOST_RANK:,}", place=place)
    return value


def _refusals(values: Mapping[str, object]) -> Iterator[str]:
    """What vLLM refuses to load, so that the server or the request fails."""
    yield from (sentence for key, sentence in _REFUSED.items() if values.get(key))
    saved = values.get("modules_to_save")
    if saved:
        only_heads = isinstance(saved, list) and all(one in ("classifier", "score") for one in saved)
        yield "It has modules_to_save, which vLLM refuses" + (" before 0.32." if only_heads else ".")
    if values.get("bias", "none") not in ("none", None):
        yield "It has biases, which vLLM refuses (0.7 to 0.11.0 without --enable-lora-bias)."
    init = values.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        changed = f"Its init_lora_weights is {shortened(init)}, which changes the base model"
        yield f"{changed}; vLLM 0.32 refuses it."
    lacking = [key for key in ("r", "lora_alpha", "target_modules") if values.get(key) is None]
    if lacking:
        yield f"Its {CONFIG} lacks {', '.join(lacking)}, without which vLLM does not load it."


def _readings(values: Mapping[str, object], rank: int | None, highest: int | None) -> Iterator[str]:
    """What releases of vLLM read otherwise."""
    if values.get("rank_pattern") and rank is not None and highest is not None and highest > rank:
        raised = f"Its rank_pattern raises some modules from {rank} to {highest}"
        yield f"{raised}; vLLM up to 0.29 checks r alone."
    if values.get("alpha_pattern"):
        yield "Its alpha_pattern is not read by vLLM up to 0.29, which scales all modules alike."


def plain_address(text: str) -> str:
    """A name, a path or an address without user, password and query."""
    scheme, separator, rest = visible(text).partition("://")
    if not separator:
        return scheme
    place = rest.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
