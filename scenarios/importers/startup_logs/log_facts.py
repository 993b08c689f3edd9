"""What one start has told: each fact once, from the message that knows it best and the worker that binds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from scenarios.importers.startup_logs.log_arguments import ARGUMENTS, Argument, argument_line, model_name
from scenarios.importers.startup_logs.log_lines import Record
from scenarios.importers.startup_logs.log_wordings import (
    ATTENTION,
    FACTS,
    FAILED,
    GPU_NAMES,
    MODELS,
    NOT_ATTENTION,
    READY,
    REFUSALS,
    SERVING,
    VERSIONS,
    compiled,
)
from scenarios.text.display import visible

_BLOCK_SIZES = (16, 32, 8, 64, 128)
"""Tokens that a block may have where the log does not tell; vLLM's default on GPUs first (`arg_utils.py`)."""

_ROUNDING = 0.0051
"""What a concurrency of two decimals may be off by."""

_MIB = 1024
"""MiB of a GiB."""

_LEAST = frozenset(
    {
        "free_gib",
        "gpu_total_gib",
        "kv_cache_gib",
        "kv_cache_tokens",
        "num_gpu_blocks",
        "num_cpu_blocks",
        "max_concurrency",
    }
)
"""Facts of which the least of all workers counts: the engine has no more than its poorest worker."""

_OF_WORKERS = frozenset(
    {
        "free_gib",
        "weights_gib",
        "activation_gib",
        "non_torch_gib",
        "graph_gib",
        "graph_estimated_gib",
        "kv_cache_gib",
    }
)
"""Facts that every worker tells of its own GPU."""

_WHOLE = frozenset({"kv_cache_tokens", "num_gpu_blocks", "num_cpu_blocks"})
"""Facts that are counts."""

_PARTS = frozenset({"consumed_gib", "torch_peak_gib"})
"""Sums that stand in a log for a fact, which is computed from them."""

_NAMED = (
    ("engine_version", VERSIONS),
    ("gpu_name", GPU_NAMES),
    ("model", MODELS),
    ("attention_backend", ATTENTION),
)

_FACTS = tuple((wording, compiled(wording.begin, wording.rest)) for wording in FACTS)
_REFUSALS = tuple((refusal, compiled(refusal.begin, refusal.rest)) for refusal in REFUSALS)


class StartFacts:
    """One start, as far as the log has told it."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._ranks: dict[str, int] = {}
        self._arguments: dict[str, Argument] = {}
        self._where: dict[str, int] = {}
        self._speakers: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._ready_at = 0
        self._served_at = 0

    @property
    def is_over(self) -> bool:
        """Whether it ended, or came so far that what begins now is another."""
        return self._has_kv_cache or not self._facts.keys().isdisjoint({"started", "failure"})

    @property
    def _has_kv_cache(self) -> bool:
        return not self._facts.keys().isdisjoint({"kv_cache_tokens", "num_gpu_blocks"})

    @property
    def serves(self) -> bool:
        """Whether it said that it serves."""
        return bool(self._facts.get("started"))

    @property
    def is_known(self) -> bool:
        """Whether anything was said that only an engine says."""
        return bool(self._arguments or self._facts.keys() - {"started", "gpu_name"})

    @property
    def _served_last(self) -> bool:
        """Whether a server came up after all that the engine told: it may tell nothing of its memory."""
        return self._served_at > max(self._where.values(), default=0)

    def hear(self, record: Record) -> None:
        """Take up what a message says; when the engine serves, nothing that follows is of its start."""
        if self.serves:
            return
        self._hear_names(record)
        self._hear_arguments(record)
        for rank, (wording, pattern) in enumerate(_FACTS):
            if wording.begin in record.text:
                for found in pattern.finditer(record.text):
                    self._take(found.groupdict(), rank, record)
                    if wording.v1 is not None:
                        self._first("v1", wording.v1, record)
        self._hear_refusals(record)
        self._hear_end(record)

    def told(self) -> dict[str, Any]:
        """Return the facts, by the names of `StartupLog`, with those that follow from others."""
        self._derive()
        if "started" not in self._facts and "failure" in self._facts:
            self._facts["started"], self._where["started"] = False, self._where["failure"]
        elif "started" not in self._facts and (self._ready_at or self._served_last):
            self._facts["started"], self._where["started"] = True, self._ready_at or self._served_at
        told = {name: value for name, value in self._facts.items() if name not in _PARTS}
        where = {name: line for name, line in self._where.items() if name not in _PARTS}
        workers = max((sum(each.values()) for each in self._speakers.values()), default=None)
        return {**told, "arguments": self._arguments, "workers": workers, "where": where}

    def _first(self, fact: str, value: Any, record: Record) -> None:
        if fact not in self._facts:
            self._facts[fact], self._where[fact] = value, record.line

    def _hear_names(self, record: Record) -> None:
        text = record.text.rstrip()
        for fact, forms in _NAMED:
            if fact in self._facts:
                continue
            for form in forms:
                found = form.pattern.search(text) if form.begin in text else None
                if found and not (forms is ATTENTION and NOT_ATTENTION.search(text)):
                    name = model_name(found[1]) if forms is MODELS else found[1]
                    self._first(fact, visible(name.replace("_", " ") if forms is GPU_NAMES else name), record)

    def _hear_arguments(self, record: Record) -> None:
        line = argument_line(record.text)
        if line is None:
            return
        self._arguments.update(line.values)
        self._where.update(dict.fromkeys(line.values, record.line))
        if line.model:
            self._facts["model"], self._where["model"] = visible(line.model), record.line
        if "Initializing a" in record.text:  # 0.4 to 0.7 do not say which engine it is, but its file does
            told = {" V1 LLM": True, " V0 LLM": False}
            v1 = next((v1 for mark, v1 in told.items() if mark in record.text), None)
            file = record.file.rpartition("/")[2]
            v1 = v1 if v1 is not None else {"core.py": True, "llm_engine.py": False}.get(file)
            if v1 is not None:
                self._first("v1", v1, record)

    def _take(self, groups: dict[str, str | None], rank: int, record: Record) -> None:
        """Take up the numbers of a message."""
        for name, text in groups.items():
            if text is None:
                continue
            number = float(text.replace(",", ""))
            if name == "utilization":  # rounded: what the arguments say is exact
                if "gpu_memory_utilization" not in self._arguments:
                    self._argue("gpu_memory_utilization", number, record)
            elif name in ARGUMENTS:
                self._argue(name, ARGUMENTS[name](number), record)
            elif name != "concurrency_tokens":
                fact = name.replace("_mib", "_gib")
                self._believe(fact, number / _MIB if fact != name else number, rank, record)
        tokens = groups.get("concurrency_tokens")  # belongs to the figure that it stands beside
        if tokens is not None and self._where.get("max_concurrency") == record.line:
            self._facts["concurrency_tokens"] = int(float(tokens.replace(",", "")))
            self._where["concurrency_tokens"] = record.line

    def _argue(self, name: str, value: Argument, record: Record) -> None:
        self._arguments[name], self._where[name] = value, record.line

    def _believe(self, fact: str, number: float, rank: int, record: Record) -> None:
        """Take a fact from the message of the least rank, and of one rank the value that binds the engine."""
        if fact in _OF_WORKERS and rank < len(_FACTS):
            speakers = self._speakers[fact]
            speakers[record.worker] = max(record.speakers, speakers.get(record.worker, 0))
        value = int(number) if fact in _WHOLE else number
        known, before = self._facts.get(fact), self._ranks.get(fact, rank)
        if known is not None and (rank, 0) >= (before, 0):
            binds = value < known if fact in _LEAST else value > known
            if rank > before or not binds:
                return
        self._facts[fact], self._ranks[fact], self._where[fact] = value, rank, record.line

    def _hear_refusals(self, record: Record) -> None:
        for rank, (refusal, pattern) in enumerate(_REFUSALS):
            found = pattern.search(record.text) if refusal.begin in record.text else None
            if found is None:
                continue
            self._take(found.groupdict(), len(_FACTS) + rank, record)
            known = self._facts.get("failure")
            if known is None or (known == refusal.failure and rank < self._ranks["failure"]):
                self._facts["failure"], self._ranks["failure"] = refusal.failure, rank
                self._where["failure"] = self._where["failure_text"] = record.line
                self._facts["failure_text"] = _sentence(record.text, found.start(), found.end())
            return

    def _hear_end(self, record: Record) -> None:
        if any(words in record.text for words in SERVING):
            self._served_at = record.line
            if not (self._ready_at or self._has_kv_cache):
                return  # a proxy or another server may say so too, before the engine
            self._facts["started"], self._where["started"] = True, record.line
            for fact in ("failure", "failure_text"):  # it came up all the same
                self._facts.pop(fact, None)
                self._where.pop(fact, None)
        elif READY in record.text:
            self._ready_at = record.line
        elif any(words in record.text for words in FAILED):
            self._first("started", False, record)

    def _derive(self) -> None:
        """Compute what follows from sums and blocks."""
        facts, where = self._facts, self._where
        for fact, total in (("activation_gib", "torch_peak_gib"), ("non_torch_gib", "consumed_gib")):
            if fact not in facts and total in facts and "weights_gib" in facts:  # both hold the weights too
                facts[fact], where[fact] = round(facts[total] - facts["weights_gib"], 4), where[total]
        if "kv_cache_tokens" not in facts and self._blocks_alone:
            facts["kv_cache_tokens"] = facts["num_gpu_blocks"] * self._block_size()
            where["kv_cache_tokens"] = where["num_gpu_blocks"]

    @property
    def _blocks_alone(self) -> bool:
        """Whether the engine tells blocks in place of tokens: to 0.7 all layers have equal ones."""
        return "num_gpu_blocks" in self._facts and FACTS[self._ranks["num_gpu_blocks"]].begin.startswith("# ")

    def _block_size(self) -> int:
        """Return the tokens of a block: as given, or by which the concurrency is what the log says."""
        given = self._arguments.get("block_size")
        if given is not None:
            return int(given)
        blocks, tokens = self._facts["num_gpu_blocks"], self._facts.get("concurrency_tokens")
        for size in _BLOCK_SIZES if tokens else ():
            if abs(blocks * size / tokens - self._facts["max_concurrency"]) < _ROUNDING:
                return size
        return _BLOCK_SIZES[0]


def _sentence(text: str, begin: int, end: int) -> str:
    """Return what a message says between two places, from the beginning of its sentence on, on one line."""
    if text[begin].islower():  # "CUDA out of memory", "HIP out of memory"
        begin = text.rfind(" ", 0, max(begin - 1, 0)) + 1
    return visible(" ".join(text[begin:end].split()))
