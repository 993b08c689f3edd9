"""Logs of starting servers: our own writing in each release's wording, with figures of public reports."""

from __future__ import annotations

import io
from pathlib import Path

from scenarios import StartupLog, parse_startup_log

LOGS = Path(__file__).parent / "data" / "startup_logs"
"""One log per file; `v32_real_cpu` is a real one."""


def text_of(name: str) -> str:
    """A log by its file's name, or by its name here."""
    return str(globals().get(name) or (LOGS / f"{name}.log").read_text(encoding="utf-8"))


def parsed(text: str) -> StartupLog:
    return parse_startup_log(io.StringIO(text, newline="\n"))


def facts(log: StartupLog) -> dict[str, object]:
    """What a log gives, without its lines, which a wrapping may shift."""
    return {name: value for name, value in log if name != "where"}


TWO_WORKERS = text_of("v08_v1_qwen3_32b_lora_tp2")
SERVING = text_of("v09_qwen3_8b_a100")
REFUSED = text_of("v06_llama31_8b_29k")
SERVING_V0 = text_of("v064_llama31_8b_3090")
NEWER = text_of("v14_mistral_7b_lora_rtx")
OLDEST = text_of("v04_llama3_70b_8x3090")
