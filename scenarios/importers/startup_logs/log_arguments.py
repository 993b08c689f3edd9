"""Arguments of an engine, out of the texts in which its log gives them, and no secret among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

Argument = bool | int | float | str

ARGUMENTS: Final[dict[str, type[Argument]]] = {
    "dtype": str,
    "max_model_len": int,
    "tensor_parallel_size": int,
    "pipeline_parallel_size": int,
    "data_parallel_size": int,
    "enable_expert_parallel": bool,
    "quantization": str,
    "kv_cache_dtype": str,
    "enforce_eager": bool,
    "max_num_seqs": int,
    "max_num_batched_tokens": int,
    "gpu_memory_utilization": float,
    "block_size": int,
    "num_gpu_blocks_override": int,
    "cpu_offload_gb": float,
    "enable_prefix_caching": bool,
    "enable_chunked_prefill": bool,
    "enable_lora": bool,
    "max_loras": int,
    "max_lora_rank": int,
    "max_cpu_loras": int,
    "fully_sharded_loras": bool,
    "lora_dtype": str,
}
"""The arguments that are kept, in vLLM's names, and their types: those that memory depends on."""

_RENAMED = {"max_seq_len": "max_model_len"}
"""Names that the engine's configuration gives to arguments; `config.py` of each release."""

_TEXT_OF_ARGUMENTS = re.compile(
    r"non-default args: \{(?P<mapping>.*)"  # from 0.9 on
    r"|\bargs: Namespace\((?P<namespace>.*)"  # before
    r"|LLM engine (?:\(v[\w.+-]{1,40}\) )?with config: (?P<config>.*)",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z][\w.-]{0,39}", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_TOKEN = re.compile(r"""['"()\[\]{}<>,]|[^'"()\[\]{}<>,]+""")

_OPENING = "([{<"
_CLOSING = ")]}>"


class ArgumentLine(NamedTuple):
    """What a line of arguments gives: those that are kept, and the model; empty: not given."""

    values: dict[str, Argument]
    model: str


def argument_line(text: str) -> ArgumentLine | None:
    """Return what a message gives of an engine's arguments; None: it is none that does.

    What stands at its end, where it breaks off, is left out: it may be half a number.
    """
    found = _TEXT_OF_ARGUMENTS.search(text)
    if found is None:
        return None
    form = found.lastgroup or ""
    values: dict[str, Argument] = {}
    model = ""
    for item in _items(found[form]):
        name, separator, value = item.strip().partition(": " if form == "mapping" else "=")
        name = name.strip("'")
        name = _RENAMED.get(name, name)
        if not separator:
            continue
        if name == "model" or (name == "model_tag" and not model):
            model = _without_secrets(_text(value))
        elif name in ARGUMENTS and (argument := _argument(value, ARGUMENTS[name])) is not None:
            values[name] = argument
    return ArgumentLine(values, model)


def _items(text: str) -> Iterator[str]:
    """Yield what stands between the commas of a text, where they are not in brackets or quotes."""
    depth, quote, begin, before = 0, "", 0, ","
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and before[-1:] in "=,:([{< ":  # no apostrophe within a word
            quote = sign
        elif sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
        if not quote and ((sign == "," and depth == 0) or depth < 0):
            yield text[begin : token.start()]
            begin = token.end()
            if depth < 0:
                return
        before = sign


def _argument(value: str, kind: type[Argument]) -> Argument | None:
    """Return an argument's value; None where it is none of that type, or not set."""
    text = _text(value)
    if kind is bool:
        return {"True": True, "False": False}.get(text)
    if kind is str:
        word = text.removeprefix("torch.")
        return word if _WORD.fullmatch(word) and word not in ("None", "True", "False") else None
    if not _NUMBER.fullmatch(text) or (kind is int and "." in text):
        return None
    return kind(text)


def _text(value: str) -> str:
    text = value.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _without_secrets(model: str) -> str:
    """Return a model's name or address without the user, the password and the query that one may hold."""
    plain = re.sub(r"^(\w[\w+.-]{0,20}://)[^/\s]*@", r"\1", model[:300])
    return plain.split("?")[0] if "://" in plain else plain


def model_name(text: str) -> str:
    """Return a model's name as a log may be quoted on it."""
    return _without_secrets(_text(text))
