"""Computed against what real starts of vLLM's CPU build said and held: KV cache, slots, reading of logs.

    python benchmarks/cpu_fidelity.py --starts FOLDER

The folder is one that cpu_starts.py has written. Where figures differ, the computed one is in brackets.

The CPU build is told how large its KV cache is. So this checks bytes of a token, blocks, tokens, concurrency,
slots and the reading of logs, but not what a GPU has left beside weights and activations. Of several workers,
bytes of slots are those of all, other figures those of the first, as each is told of a KV cache of this size.

Three things differ from a GPU by the CPU build's own rules (``platforms/cpu.py`` and ``cpu_attn.py``, 0.32):
blocks that are no multiple of 32 tokens are refused, states of recurrent layers are of 32 bits, and blocks
whose size the states set are multiples of 32 tokens, not 16.

Takes some seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenarios import EngineConfig, LorapackError
from twin.architectures import read_architecture
from twin.memory.launch import Launch, version_of

if TYPE_CHECKING:
    from scenarios import StartupLog

GIB = 2**30

CPU_BLOCK_SIZE = 128
"""Tokens of a block where none is asked for (``platforms/cpu.py``, 0.32)."""

_FIGURE = re.compile(r"\d[\d.,]*\d|\d")

_PREFIX = re.compile(r"^\(.*?pid=\d+\) [A-Z]+ \S+ \S+ \[\S+:\d+\] ")
"""Process, level, time and source of a message."""

_OF_MEMORY = re.compile(
    r"(?!non-default args| )(?=.*(?:GiB|KV cache|cache blocks|block.size|num_gpu_blocks|init engine))"
)
"""What messages about memory are told by; arguments and lines of tracebacks are none."""

NOT_ANNOUNCED = {"max_loras": 1, "max_lora_rank": 16}
"""vLLM's own values (``config/lora.py``, 0.32): a log names only arguments that differ from them."""


def check(folder: Path) -> pd.DataFrame:
    """Compare every kept log with what is computed for its start; one row each, in the order of the starts.

    Raises
    ------
    FileNotFoundError
        If the folder has no kept start.
    """
    files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"{folder}: no kept starts here; make them with cpu_starts.py")
    return pd.DataFrame([compare(json.loads(file.read_text()), file.with_suffix(".log")) for file in files])


def compare(record: dict[str, Any], log: Path) -> dict[str, str]:
    """One start: what its log and its worker say, what is computed, and the largest deviation in percent."""
    from scenarios import read_startup_log

    read, workers = read_startup_log(log), record["workers"]
    worker = workers[0] if workers else {}
    said: dict[str, Any] = {
        "outcome": "serves" if read.started else read.failure or "fails",
        "blocks": worker.get("num_blocks"),
        "tokens": read.kv_cache_tokens,
        "bytes a token": _ratio(worker.get("cache_bytes"), read.kv_cache_tokens),
        "concurrency": read.max_concurrency,
        "slot bytes": sum(each["slot_bytes"] for each in workers) if workers else None,
    }
    try:
        computed = compute(record)
    except LorapackError as error:
        computed = {"outcome": str(error)}
    both = {fact: (value, computed.get(fact)) for fact, value in said.items()}
    numbers = [(a, b) for a, b in both.values() if isinstance(a, int | float) and isinstance(b, int | float)]
    worst = max((abs(b - a) / max(a, 1) * 100 for a, b in numbers), default=None)
    texts = {fact: _beside(*values) for fact, values in both.items()}
    return {
        "name": record["name"],
        **texts,
        "worst %": _text(worst),
        "misread": "; ".join(misread(record, read)),
    }


def compute(record: dict[str, Any]) -> dict[str, Any]:
    """What lorapack computes for a start, by the names of `compare`: all that is asked of it here.

    Raises
    ------
    LorapackError
        If the model is refused.
    """
    from twin.memory.kv_cache import kv_cache
    from twin.memory.slots import slot_bytes

    known = {name: value for name, value in record["arguments"].items() if name in EngineConfig.model_fields}
    engine = EngineConfig(**({"block_size": CPU_BLOCK_SIZE} | known))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(record["config"]))
        model = read_architecture(folder, name=record["model"])
    slots, rank, stages = engine.max_loras or 0, engine.max_lora_rank or 0, engine.pipeline_parallel_size
    launch = Launch(model, engine, version_of(record["engine_version"]), slots, rank)
    cache = kv_cache(launch, 0)
    blocks = engine.num_gpu_blocks_override or cache.num_blocks(_cache_bytes(record))
    if cache.longest(blocks) < engine.max_model_len:
        return {"outcome": "kv_below_max_model_len" if blocks else "no_kv_memory"}
    return {
        "outcome": "serves",
        "blocks": blocks,
        "tokens": cache.tokens(blocks),
        "bytes a token": _ratio(blocks * cache.block_bytes, cache.tokens(blocks)),
        "concurrency": round(cache.max_concurrency(blocks), 2),
        "slot bytes": sum(sum(slot_bytes(launch, stage)) for stage in range(stages))
        * engine.tensor_parallel_size,
    }


def _cache_bytes(record: dict[str, Any]) -> int:
    gib = record["variables"].get("VLLM_CPU_KVCACHE_SPACE")
    return int(record["arguments"]["kv_cache_memory_bytes"] if gib is None else gib * GIB)


def misread(record: dict[str, Any], read: StartupLog) -> Iterator[str]:
    """Yield what the log was read to say and is not what the server was given or did."""
    from scenarios.importers.startup_logs.log_arguments import ARGUMENTS

    serves = record["outcome"] == "serves"
    arguments = {name: value for name, value in record["arguments"].items() if name in ARGUMENTS}
    found = {
        "engine_version": (read.engine_version, record["engine_version"]),
        "v1": (read.v1, True),
        "started": (bool(read.started), serves),
        "concurrency_tokens": (read.concurrency_tokens, record["arguments"]["max_model_len"]),
        "kv_cache_gib": (read.kv_cache_gib, round(_cache_bytes(record) / GIB, 2)),
        **{name: (read.arguments.get(name), value) for name, value in arguments.items()},
    }
    for name, (value, right) in found.items():
        # What fails may have said nothing of it.
        silent = value is None and (not serves or NOT_ANNOUNCED.get(name) == right)
        if value != right and not silent:
            yield f"{name} {value} for {right}"


def wordings(folder: Path) -> dict[str, int]:
    """What the logs say of memory, with # for each figure, and in how many starts it is said."""
    found: Counter[str] = Counter()
    for log in folder.glob("*.log"):
        lines = [_PREFIX.sub("", line) for line in log.read_text(errors="replace").splitlines()]
        found.update({_FIGURE.sub("#", line) for line in lines if _OF_MEMORY.match(line)})
    return dict(found.most_common())


def _ratio(whole: float | None, parts: float | None) -> float | None:
    return whole / parts if whole and parts else None


def _beside(said: Any, computed: Any) -> str:
    """What was said, and in brackets what is computed where it is not the same."""
    text, ours = _text(said), _text(computed)
    return text if text == ours else f"{text or '-'} ({ours or '-'})"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:,.10g}" if isinstance(value, int | float) else str(value)


def main() -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=Path, required=True, help="folder of kept starts")
    folder = parser.parse_args().starts
    try:
        table = check(folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    print(table.to_string(index=False, max_colwidth=100))
    print("\nstarts  what their logs say of memory")
    for text, starts in wordings(folder).items():
        print(f"{starts:6}  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
