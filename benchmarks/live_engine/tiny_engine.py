"""The engine that the benchmark measures: its command line, and how the twin is told of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from live_engine.models import ModelFolder
from live_engine.processes import HOST
from scenarios import EngineConfig, FixedLengths
from twin import EngineProfile, EngineSetup, GPULoad, build_setup

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
class TinyEngine:
    """An engine of the small model.

    Parameters
    ----------
    model
        Its files.
    arguments
        Those of its command line, in vLLM's names.
    """

    model: ModelFolder
    arguments: Mapping[str, object] = field(default_factory=lambda: dict(ENGINE))

    def changed(self, **arguments: object) -> TinyEngine:
        """The same with other arguments."""
        return TinyEngine(self.model, {**self.arguments, **arguments})

    @property
    def config(self) -> EngineConfig:
        """The arguments as the twin takes them."""
        return EngineConfig(**self.arguments)

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names of the adapters, and after them that of the base model."""
        return (*self.model.ranks, MODEL)

    def setup(self, profile: EngineProfile) -> EngineSetup:
        """The engine as the twin plays it."""
        engine, ranks = self.config, [*self.model.ranks.values(), 0]
        assert engine.max_loras is not None
        assert engine.max_lora_rank is not None
        n, one = len(ranks), FixedLengths(tokens=1)  # the requests have lengths of their own
        load = GPULoad(self.served_names, np.array(ranks, np.int32), np.ones(n), (one,) * n, (one,) * n)
        slots, rank = engine.max_loras, engine.max_lora_rank
        return build_setup(profile, engine, load, max_loras=slots, max_lora_rank=rank)

    def command(self, port: int) -> list[str]:
        """Its command line, as somebody would type it."""
        words = ["vllm", "serve", str(self.model.base), "--served-model-name", MODEL]
        words += ["--host", HOST, "--port", str(port), "--enable-lora"]
        for name, value in self.arguments.items():
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
