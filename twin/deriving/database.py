"""Kernel times of a public database, as a second opinion on the step without adapters.

aiconfigurator-core (NVIDIA, Apache-2.0) holds times of single kernels, measured on many GPUs with the
kernels of engines much newer than those of the measured profiles, and adds them up for a model; it knows no
LoRA, and the host's work apart from the kernels is not in it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, resources
from typing import Any

from scenarios import LorapackError

SYSTEMS = {
    "A100-80GB": "a100_sxm",
    "H100-80GB": "h100_sxm",
    "H200": "h200_sxm",
    "L40S": "l40s",
    "RTX-PRO-6000": "rtx_pro_6000_server",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "GB200": "gb200",
    "GB300": "gb300",
}
"""GPUs of the catalogue with kernels of vLLM in the database, and their names there."""

_PACKAGE = "aiconfigurator_core"
_ENDINGS = ("instruct", "base", "chat", "meta")


class DatabaseError(LorapackError, RuntimeError):
    """The database of kernels is not installed, or has nothing of a model on a GPU."""


class KernelDatabase:
    """Times of the kernels of one model on one kind of GPU.

    Parameters
    ----------
    model
        Name of the model; the database knows it by its name at Hugging Face.
    device
        Name of the GPU in the catalogue.
    tensor_parallel_size
        GPUs of an engine.

    Raises
    ------
    DatabaseError
        If the extra is not installed, or the database has nothing of the model or the GPU.
    """

    def __init__(self, model: str, device: str, tensor_parallel_size: int = 1) -> None:
        if device not in SYSTEMS:
            raise DatabaseError(
                f"the database has no kernels of vLLM on {device}; it has those on {', '.join(SYSTEMS)}"
            )
        engine = _module("sdk.engine")
        with _quietly():
            try:
                self._handle: Any = engine.EngineHandle.compile(
                    _name_of(model),
                    SYSTEMS[device],
                    "vllm",
                    tp_size=tensor_parallel_size,
                    moe_tp_size=tensor_parallel_size,
                )
            except (ValueError, RuntimeError, KeyError, FileNotFoundError) as error:
                raise DatabaseError(f"the database has nothing of {model} on {device}: {error}") from error

    def decode_s(self, requests: int, context: int) -> float:
        """Seconds of the kernels of a step in which so many requests with so many tokens each decode."""
        with _quietly():
            return float(self._handle.predict_decode_latency(requests, max(context, 1), 2)) / 1e3

    def prefill_s(self, prompts: int, tokens: int) -> float:
        """Seconds of the kernels of a step of so many whole prompts of so many tokens."""
        with _quietly():
            return float(self._handle.predict_prefill_latency(prompts, tokens)) / 1e3

    def mixed_s(self, prefill: int, requests: int, prompt: int, output: int) -> float:
        """Seconds of the kernels of a step with tokens of prompts beside so many decoding requests."""
        with _quietly():
            if prefill < 1:
                return self.decode_s(requests, prompt + output // 2)
            return float(self._handle.mixed_step_latency(prefill, requests, prompt, output)) / 1e3


def _module(name: str) -> Any:
    try:
        return import_module(f"{_PACKAGE}.{name}")
    except ImportError as error:
        raise DatabaseError(
            f"the database of kernels needs {_PACKAGE}: pip install 'lorapack[aiconfigurator]'"
        ) from error


def _name_of(model: str) -> str:
    """A model's name at Hugging Face, of those whose config.json the database holds."""
    _module("sdk")
    folder = resources.files(_PACKAGE) / "model_configs"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith("_config.json"))
    names = [
        file.removesuffix("_config.json").replace("--", "/", 1) for file in files if "hf_quant" not in file
    ]
    found = [name for name in names if _plain(name) == _plain(model)]
    if not found:
        raise DatabaseError(f"the database does not know the model {model}")
    return found[0]


def _plain(name: str) -> tuple[str, ...]:
    words = re.split(r"[^a-z0-9.]+", name.rsplit("/", 1)[-1].lower())
    return tuple(word for word in words if word not in _ENDINGS)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the database's remarks on tables that it lacks from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
