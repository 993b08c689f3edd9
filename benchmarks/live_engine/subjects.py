"""The engine that the benchmark measures: its command line, and how the twin is told of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from live_engine.models import ModelFolder
from live_engine.processes import HOST
from scenarios import EngineConfig

DEVICE = "CPU"
MEMORY_GIB = 12.0
KV_BYTES = 2**30
MODEL = "tiny-llama"

ENGINE: Mapping[str, object] = {
    "max_loras": 8,
    "max_lora_rank": 32,
    "max_cpu_loras": 16,
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "max_num_batched_tokens": 1024,
    "block_size": 32,
    "dtype": "bfloat16",
    "kv_cache_memory_bytes": KV_BYTES,
    "enable_prefix_caching": False,
    "async_scheduling": False,
}
"""Arguments of the measured engine; the CPU build takes what its cache may hold, as it has
no GPU to ask, and never schedules ahead (``vllm/platforms/cpu.py``, 0.32.0)."""


@dataclass(frozen=True)
class Subject:
    """An engine of the small model.

    Parameters
    ----------
    model
        Its files.
    engine
        Its arguments, in vLLM's names.
    """

    model: ModelFolder
    engine: Mapping[str, object] = field(default_factory=lambda: dict(ENGINE))

    def changed(self, **arguments: object) -> Subject:
        """The same with other arguments."""
        return Subject(self.model, {**self.engine, **arguments})

    @property
    def config(self) -> EngineConfig:
        """The arguments as the twin takes them."""
        return EngineConfig(**self.engine)

    def command(self, port: int) -> list[str]:
        """Its command line, as somebody would type it."""
        words = ["vllm", "serve", str(self.model.base), "--served-model-name", MODEL]
        words += ["--host", HOST, "--port", str(port), "--enable-lora"]
        for name, value in self.engine.items():
            flag = name.replace("_", "-")
            words += (
                [f"--{'' if value else 'no-'}{flag}"]
                if isinstance(value, bool)
                else [f"--{flag}", str(value)]
            )
        modules = [
            json.dumps({"name": name, "path": str(path)}) for name, path in self.model.adapters.items()
        ]
        return [*words, "--enable-logging-iteration-details", "--lora-modules", *modules]

    def write_command(self, file: Path, port: int) -> Path:
        """Write the command line as a script, which tells a measurement of the engine."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(shlex.join(self.command(port)) + "\n")
        return file
