"""What vLLM's start-up says, release by release, and which fact stands where in it.

Collected from the logger calls and errors of vLLM 0.4.2 to 0.32.0 (worker/, v1/worker/, v1/core/, executor/,
engine/, config, entrypoints/, platforms/, utils/mem_utils.py) and checked against whole logs. Where a release
says GB it means GiB all the same: it divides bytes by 2^30.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Failure = Literal["oom_cuda", "no_kv_memory", "kv_below_max_model_len", "no_free_memory"]
"""Why an engine did not start: out of memory on the GPU; nothing left for keys and values; less than one
sequence of full length needs; less free at the start than it may use."""

_FIELD = re.compile(r"\{(\w+)\}")


class Wording(NamedTuple):
    """A message of the engine.

    Parameters
    ----------
    begin
        Text that it has, literally.
    rest
        The pattern of what follows; ``{fact}`` is a number, whose name in the log is `fact`. A name that ends
        in ``_mib`` is told in MiB.
    versions
        Releases whose sources have it, of those looked at.
    v1
        Whether only V1 says it, or only V0; None: both do.
    """

    begin: str
    rest: str
    versions: str
    v1: bool | None = None


class Refusal(NamedTuple):
    """A message by which the engine says that it does not start; the parameters are those of `Wording`."""

    failure: Failure
    begin: str
    rest: str
    versions: str


FACTS = (
    Wording("Initial free memory: ", "{free_gib} GiB", "0.9.2 to 0.32 (debug)", True),
    Wording("Initial free memory ", "{free_gib} GiB, reserved {kv_cache_gib} ?GiB", "0.10.2 to 0.32"),
    Wording(
        "Free memory on device ", r"\({free_gib}/{gpu_total_gib} GiB\) on startup\. Desired", "0.10.2 to 0.32"
    ),
    Wording(
        "worker init memory snapshot: ",
        r"[^\n]{0,120}?\bfree_memory={free_gib}GiB, total_memory={gpu_total_gib}GiB",
        "0.14 to 0.32 (debug)",
        True,
    ),
    Wording(
        "use total_gpu_memory ",
        r"\({gpu_total_gib}GiB\) x gpu_memory_utilization \({utilization}\)",
        "0.7 to 0.10.2",
        False,
    ),
    Wording("Memory profiling results: ", r"total_gpu_memory={gpu_total_gib}GiB", "0.6.3 to 0.6.4", False),
    Wording("total_gpu_memory", r"\s{1,8}{gpu_total_gib}GiB", "0.6.5, one line per figure", False),
    Wording(
        "Before memory profiling run, total GPU memory: ",
        "{gpu_total_mib} MB, model load takes {weights_mib} MB",
        "0.9.2 to 0.14 (XPU)",
    ),
    Wording("Loading model weights took ", "{weights_gib} Gi?B", "0.4 to 0.9 (V0), 0.6.4 to 0.8 (V1)"),
    Wording("Model loading took ", "{weights_gib} Gi?B(?: memory)? and {load_s} seconds", "0.8 to 0.32"),
    Wording("model weights take", r"\s{1,8}{weights_gib}GiB", "0.6.5 to 0.10.2", False),
    Wording("weights memory: ", "{weights_gib}GiB", "0.9.2 to 0.32 (debug)", True),
    Wording("Actual usage is ", "{weights_gib} GiB for weight", "0.10.2 to 0.26 (debug)"),
    Wording("torch peak memory increase: ", "{activation_gib}GiB", "0.9.2 to 0.32 (debug)", True),
    Wording(
        "PyTorch activation peak memory", r"(?: takes)?\s{1,8}{activation_gib}GiB", "0.6.5 to 0.10.2", False
    ),
    Wording(
        "GiB for weight, ",
        "{activation_gib} GiB for peak activation, {non_torch_gib} GiB for non-torch",
        "0.10.2 to 0.26 (debug)",
    ),
    Wording("(weights + non-torch), ", "{activation_gib} GiB for peak activation", "0.32 (debug)", True),
    Wording(" peak_torch_memory=", "{torch_peak_gib}GiB", "0.6.3 to 0.6.4", False),
    Wording("non-torch forward increase memory: ", "{non_torch_gib}GiB", "0.9.2 to 0.26 (debug)", True),
    Wording("non_torch_memory takes ", "{non_torch_gib}GiB", "0.7 to 0.10.2", False),
    Wording(
        " non_torch_memory=", "{non_torch_gib}GiB kv_cache_size={kv_cache_gib}GiB", "0.6.3 to 0.6.4", False
    ),
    Wording("non_torch_memory", r"\s{1,8}{non_torch_gib}GiB", "0.6.5, one line per figure", False),
    Wording("total consumed (from mem_get_info): ", "{consumed_gib}GiB", "0.32 (debug)", True),
    Wording("Actual usage is ", r"{consumed_gib} GiB for consumed memory", "0.32 (debug)", True),
    Wording(
        "CUDA graph pool memory: ",
        r"{graph_gib} GiB \(actual\), {graph_estimated_gib} GiB \(estimated\)",
        "0.18 to 0.32",
        True,
    ),
    Wording("Graph capturing finished in ", r"[\d.]{1,12} secs, took {graph_gib} GiB", "0.6.4 to 0.32"),
    Wording(
        " GiB for non-torch memory, and ", "{graph_gib} GiB for CUDAGraph memory", "0.10.2 to 0.26 (debug)"
    ),
    Wording(" GiB for peak activation, and ", "{graph_gib} GiB for CUDAGraph memory", "0.32 (debug)", True),
    Wording("Estimated CUDA graph memory: ", "{graph_estimated_gib} GiB total", "0.18 to 0.32", True),
    Wording("Available KV cache memory: ", "{kv_cache_gib} GiB", "0.9.2 to 0.32", True),
    Wording("memory reserved for KV Cache is ", "{kv_cache_gib}GiB", "0.7 to 0.10.2", False),
    Wording("available_kv_cache_memory", r"\s{1,8}{kv_cache_gib}GiB", "0.6.5, one line per figure", False),
    Wording(
        "Explicitly set ", r"\({kv_cache_gib}/[\d.]{1,12}\) GiB for KV cache", "0.21 to 0.32 (CPU)", True
    ),
    Wording("Auto set ", r"\({kv_cache_gib}/[\d.]{1,12}\) GiB for KV cache", "0.21 to 0.32 (CPU)", True),
    Wording("KV cache size: ", "{kv_cache_tokens} tokens", "0.8 to 0.32", True),
    Wording(
        "Maximum concurrency for ",
        "{concurrency_tokens} tokens per request: {max_concurrency}x",
        "0.6.4 to 0.32",
    ),
    Wording(
        "# ",
        r"[A-Za-z]{2,6} blocks: {num_gpu_blocks}, # CPU blocks:"
        r" {num_cpu_blocks}",
        "0.4 to 0.10.2",
        False,
    ),
    Wording("# GPU blocks: ", "{num_gpu_blocks}(?!,? ?#)(?=\\s|$)", "0.6.4 to 0.7 (V1)", True),
    Wording("after num_gpu_blocks is: ", "{num_gpu_blocks}", "0.9 to 0.32 (debug)", True),
    Wording("torch.compile t", r"(?:akes|ook) {compile_s} s in total", "0.7 to 0.32"),
    Wording("warmup model) took ", r"[\d.]{1,12} s \(compilation: {compile_s} s", "0.21 to 0.32", True),
    Wording("Loading weights took ", "{load_s} seconds", "0.8 to 0.32"),
    Wording("Setting max_num_batched_tokens to ", "{max_num_batched_tokens} for", "0.7 to 0.10.2"),
    Wording("Defaulting max_num_batched_tokens to ", "{max_num_batched_tokens} for", "0.11 to 0.32 (debug)"),
    Wording(
        "Chunked prefill is enabled with max_num_batched_tokens=", "{max_num_batched_tokens}", "0.5 to 0.32"
    ),
    Wording(
        "Raising max_num_batched_tokens from ", r"\d{1,9} to {max_num_batched_tokens} to", "0.23 to 0.32"
    ),
    Wording("Setting max_num_seqs to ", "{max_num_seqs} for", "0.8 to 0.10.2"),
    Wording("Defaulting max_num_seqs to ", "{max_num_seqs} for", "0.11 to 0.32 (debug)"),
    Wording("Using max model len ", "{max_model_len}", "0.9.2 to 0.32"),
    Wording("Updated max_model_len to ", "{max_model_len}", "0.14 to 0.32"),
    Wording("Auto-fit max_model_len: reduced from ", r"\d{1,9} to {max_model_len} to fit", "0.14 to 0.32"),
)
"""Messages with facts. Of one fact, a message that stands higher is believed before one that stands lower."""

REFUSALS = (
    Refusal(
        "kv_below_max_model_len",
        "To serve at least one request with the model",
        r"(?:'s|s's) max seq len \({max_model_len}\), \([\d.]{1,12} Gi?B KV cache is needed, which is larger"
        r" than the available KV cache memory \({kv_cache_gib} Gi?B\)"
        r"(?:\.\s{0,2}Based on the available memory,\s{1,2}the estimated maximum model length is \d{1,9})?",
        "0.7 to 0.32 (V1; the estimate from 0.8.4 on)",
    ),
    Refusal(
        "kv_below_max_model_len",
        "The model's max seq len ",
        r"\({max_model_len}\) is larger than the maximum number of tokens that can be stored in KV cache"
        r" \({kv_cache_tokens}\)",
        "0.4 to 0.10.2 (V0)",
    ),
    Refusal("no_kv_memory", "No available memory for the cache blocks", "", "0.4 to 0.32"),
    Refusal(
        "no_kv_memory", "Cannot auto-fit max_model_len: not enough GPU memory available", "", "0.14 to 0.32"
    ),
    Refusal(
        "no_free_memory",
        "Free memory on device ",
        r"(?:\w{1,12}(?::\d{1,3})? )?\({free_gib}/{gpu_total_gib} GiB\) on startup is less than desired"
        r" GPU memory utilization \([\d.]{1,9}, [\d.]{1,12} GiB\)",
        "0.9.2 to 0.32",
    ),
    Refusal(
        "oom_cuda",
        "out of memory. Tried to allocate ",
        r"[\d.]{1,12} [KMG]iB\. GPU \d{1,3} has a total capaci?ty of {gpu_total_gib} GiB"
        r"(?: of which [\d.]{1,12} (?:[KMG]iB|bytes) is free)?",
        "torch 2.1 and later",
    ),
    Refusal(
        "oom_cuda",
        "out of memory. Tried to allocate ",
        r"[\d.]{1,12} [KMG]iB \(GPU \d{1,3}; {gpu_total_gib} GiB total capacity"
        r"(?:; [\d.]{1,12} [KMG]iB already allocated; [\d.]{1,12} (?:[KMG]iB|bytes) free)?",
        "torch before 2.1",
    ),
    Refusal("oom_cuda", "out of memory. Tried to allocate ", r"[\d.]{1,12} [KMG]iB", "any torch"),
    Refusal(
        "oom_cuda",
        "CUDA out of memory occurred when warming up ",
        r"(?:sampler|pooler)(?: \(task=\w{1,20}\))? with \d{1,9} dummy requests",
        "0.8 to 0.32",
    ),
    Refusal("oom_cuda", "Failed to load model - not enough GPU memory", "", "0.13 to 0.32"),
    Refusal("oom_cuda", "CUDA error: out of memory", "", "torch"),
)
"""Why an engine did not start, the one that says most of each kind first."""


class Naming(NamedTuple):
    """A message that names something: text that it has, literally, and a pattern whose group is the name."""

    begin: str
    pattern: re.Pattern[str]


ATTENTION = (
    Naming(
        "Using ", re.compile(r"\bUsing ([\w .+-]{2,40}?) attention backend out of potential")
    ),  # from 0.12 on
    Naming(
        "Using ",
        re.compile(r"\bUsing (?:AttentionBackendEnum\.)?([\w .+-]{2,40}?) backend(?: on V1 engine)?\.?$"),
    ),
)
"""How the attention backend is named, in any release; `platforms/`, `attention/selector.py`."""

NOT_ATTENTION = re.compile(
    r"\bvit\b|moe|quant|gemm|linear|sampl|all2all|kernel|distributed|transformers|modeling|custom|encoder",
    re.IGNORECASE,
)
"""What is in messages of the same form about other backends."""

VERSIONS = (
    Naming(" engine (v", re.compile(r"\bInitializing an? (?:V[01] )?LLM engine \(v(\d[\w.+-]{1,40})\)")),
    Naming(
        " version ",
        re.compile(r"\bvLLM (?:\w{3,5} |batch processing API )?(?:server )?version (\d[\w.+-]{1,40})"),
    ),
    Naming(" version ", re.compile(r"[█▀▄]\s{1,9}version (\d[\w.+-]{1,40})$")),
)
"""Where the release is told."""

MODELS = (
    Naming(" model ", re.compile(r"[█▀▄]\s{1,9}model {1,9}(\S{1,300})$")),
    Naming(" serving model ", re.compile(r"\bvLLM server version \S{1,40}, serving model (\S{1,300})$")),
)
"""Where the model is told before the engine's configuration, from 0.14 on."""

GPU_NAMES = (
    Naming(
        "device_name=", re.compile(r"\bdevice_name=((?:NVIDIA|AMD|Tesla)_[\w+-]{2,60}?)(?=[,.]|$)")
    ),  # of kernels
    Naming("Your ", re.compile(r"\bYour ([\w .+-]{2,60}?) GPU (?:has|does not have a) compute capability")),
    Naming("GPU 0: ", re.compile(r"(?:^|\s)GPU 0: ((?:NVIDIA|AMD|Tesla)[\w .+/-]{1,60}?) ?(?:\(UUID|$)")),
)
"""Where a card's name comes up: most start-ups do not tell it."""

SERVING = (
    "Application startup complete",
    "Uvicorn running on",
    "Started server process",
    "Starting vLLM API server",
    "Starting vLLM server on",
)
"""What follows when the engine is up: the server's own words, in every release."""

READY = "init engine (profile, create kv cache, warmup model) took"
"""What the engine says when all is allocated and captured, from 0.7 on."""

FAILED = (
    "EngineCore failed to start",
    "EngineCoreProc failed to start",
    "Engine core initialization failed",
    "EngineCore initialization failed",
    "Engine process failed to start",
    "WorkerProc failed to start",
    "WorkerProc initialization failed",
)
"""What is said when it does not start, whatever the cause."""

STARTS = re.compile(
    r"(?:vLLM (?:API |gRPC )?server version \d|Initializing an? (?:V[01] )?LLM engine (?:\(v|with )"
    r"|\s*▄▄ ▄█ [█▀▄ ]{0,40}version \d)"
)
"""With what a start begins; a log may hold several."""

START_MARKS = ("version", "engine (v")
"""Text that any such message has, literally: what serves may log for days, and is looked through for it."""

LOOKED_FOR = '"Model loading took ... GiB", "GPU KV cache size: ... tokens" or "# GPU blocks: ..."'
"""Lines that any start-up has, as messages name them."""


def compiled(begin: str, rest: str) -> re.Pattern[str]:
    """Return the pattern of a message, with a named group for each of its facts."""
    number = r"(?P<\1>-?\\d[\\d,]{0,18}(?:\\.\\d{1,9})?)"
    return re.compile(re.escape(begin) + _FIELD.sub(number, rest), re.ASCII)
