"""Arguments of vLLM that change a plan only where they are given, or that no figure of a plan follows.

Which are modelled, and how the others err, is said in `twin.startup.unmodelled` and docs/scenarios.md. Names
are those of ``EngineArgs`` (vllm/engine/arg_utils.py) in 0.8.5, 0.14.0 and 0.32.0, as far as scheduling or
memory depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scenarios.base import FrozenModel, refuse_booleans
from scenarios.engine.speculation import Speculation, SpeculativeConfig
from scenarios.reading.findings import Finding


def settings_text(value: object) -> object:
    """Settings of one argument as JSON, which can be compared and hashed; vLLM's command takes it too."""
    if isinstance(value, Mapping):
        return json.dumps(_listed(value), sort_keys=True)
    return value


def _listed(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


_Count = Annotated[int, Field(ge=1), BeforeValidator(refuse_booleans)]
_Whole = Annotated[int, Field(ge=0), BeforeValidator(refuse_booleans)]
_Size = Annotated[float, Field(ge=0), BeforeValidator(refuse_booleans)]
_Settings = Annotated[str, BeforeValidator(settings_text, json_schema_input_type=dict[str, Any] | str)]


class FurtherArguments(FrozenModel):
    """Arguments of one vLLM engine that are None unless they are given."""

    speculative_config: SpeculativeConfig | None = None
    """How the engine proposes tokens to be checked, and what was measured of it."""
    scheduler_reserve_full_isl: bool | None = None
    """Whether a request is admitted only if its whole prompt has blocks; absent: the release's rule."""
    watermark: Annotated[float | None, Field(ge=0, lt=1), BeforeValidator(refuse_booleans)] = None
    """Share of the KV blocks that is kept free when a request joins others; absent: the release's."""
    max_num_scheduled_tokens: _Count | None = None
    """Token budget of a step, where it is below max_num_batched_tokens."""
    max_num_active_seqs: _Count | None = None
    """Most requests in one batch, where they are fewer than max_num_seqs."""
    kv_cache_memory_bytes: _Count | None = None
    """Bytes of the KV cache of each GPU, whatever gpu_memory_utilization is."""
    enable_lora: bool | None = None
    """Whether adapters are served, as a scenario's are."""
    enable_chunked_prefill: bool | None = None
    """Whether prompts are read in parts, as V1 engines do."""
    data_parallel_size: _Count | None = None
    """Engines behind one server; a plan counts each as a GPU of its own."""
    enable_prefix_caching: bool | None = None
    """Whether prompts that begin alike are computed once."""
    async_scheduling: bool | None = None
    """Whether the next step is scheduled while one runs."""
    scheduling_policy: Literal["fcfs", "priority"] | None = None
    """By what waiting requests are ordered."""
    scheduler_cls: str | None = None
    """Class of a scheduler of the user's own."""
    max_num_partial_prefills: _Count | None = None
    """Prompts that are read in parts at once (V0)."""
    max_long_partial_prefills: _Count | None = None
    """Long prompts among them (V0)."""
    long_prefill_token_threshold_adaptive: bool | None = None
    """Whether long_prefill_token_threshold is at least a fair share of the budget."""
    prefill_schedule_interval: _Count | None = None
    """Steps between two that admit prompts, under data parallelism."""
    max_num_queued_reqs: _Whole | None = None
    """Requests in flight from which on the server refuses more."""
    max_num_queued_tokens: _Whole | None = None
    """Tokens of waiting prompts from which on the server refuses more."""
    num_scheduler_steps: _Count | None = None
    """Steps that are scheduled at once (V0)."""
    num_lookahead_slots: _Whole | None = None
    """Slots of the KV cache ahead of each request (V0)."""
    scheduler_delay_factor: _Size | None = None
    """How long prompts are held back, in times of the last one's (V0)."""
    preemption_mode: Literal["recompute", "swap"] | None = None
    """What becomes of a preempted request's KV cache (V0)."""
    disable_async_output_proc: bool | None = None
    """Whether outputs are not processed beside the steps (V0)."""
    swap_space: _Size | None = None
    """GiB of the host's memory for preempted requests (V0)."""
    stream_interval: _Count | None = None
    """Tokens of an answer that are sent at once."""
    disable_chunked_mm_input: bool | None = None
    """Whether a picture is read in one step."""
    kv_transfer_config: _Settings | None = None
    """Connector that brings KV caches from elsewhere, or takes them there."""
    kv_offloading_size: _Size | None = None
    """GiB of the host's memory for KV caches."""
    kv_offloading_backend: str | None = None
    """What moves KV caches to the host's memory."""
    disable_hybrid_kv_cache_manager: bool | None = None
    """Whether layers with a window keep as much as the others."""
    disable_sliding_window: bool | None = None
    """Whether windows of attention are left out, and sequences are as long as one at most."""
    kv_cache_dtype_skip_layers: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    """Layers whose keys and values keep the type of the activations."""
    calculate_kv_scales: bool | None = None
    """Whether scales of an fp8 KV cache are computed in the first step."""
    mamba_cache_dtype: str | None = None
    """Type of the states of Mamba layers."""
    mamba_ssm_cache_dtype: str | None = None
    """Type of their recurrent states."""
    mamba_block_size: _Count | None = None
    """Tokens of a block of their states."""
    mamba_cache_mode: str | None = None
    """Which of their states are kept."""
    offload_backend: str | None = None
    """What brings offloaded weights to the GPU."""
    offload_group_size: _Whole | None = None
    """Layers of a group, some of which are offloaded."""
    offload_num_in_group: _Whole | None = None
    """Layers of each group that are offloaded."""
    offload_prefetch_step: _Whole | None = None
    """Layers ahead of which offloaded ones are fetched."""
    enable_sleep_mode: bool | None = None
    """Whether the engine can give its memory back."""
    limit_mm_per_prompt: _Settings | None = None
    """Most pictures, videos and sounds of a prompt."""
    language_model_only: bool | None = None
    """Whether what sees and hears is not loaded."""
    skip_mm_profiling: bool | None = None
    """Whether pictures are left out when the engine measures its memory."""
    lora_extra_vocab_size: _Whole | None = None
    """Tokens that an adapter may add (to 0.11)."""
    enable_lora_bias: bool | None = None
    """Whether adapters have biases (to 0.11)."""
    enable_tower_connector_lora: bool | None = None
    """Whether what sees is adapted too."""
    enable_mixed_moe_lora_format: bool | None = None
    """Whether adapters of experts come in several forms."""
    enable_moe_shared_loras: bool | None = None
    """Whether experts share parts of an adapter."""
    enable_prompt_adapter: bool | None = None
    """Whether prompts are adapted (to 0.10)."""
    cudagraph_capture_sizes: Annotated[tuple[_Count, ...] | None, Field(min_length=1)] = None
    """Batch sizes with a CUDA graph."""
    max_cudagraph_capture_size: _Whole | None = None
    """Largest batch with a CUDA graph."""
    max_seq_len_to_capture: _Whole | None = None
    """Longest sequence with a CUDA graph (V0)."""
    compilation_config: _Settings | None = None
    """How the model is compiled and captured."""
    optimization_level: _Whole | None = None
    """How far the model is compiled."""
    performance_mode: Literal["balanced", "interactivity", "throughput"] | None = None
    """What defaults of other arguments aim at."""
    attention_backend: str | None = None
    """What computes attention."""
    moe_backend: str | None = None
    """What computes experts."""
    linear_backend: str | None = None
    """What computes quantised layers."""
    all2all_backend: str | None = None
    """What carries tokens to their experts."""
    distributed_executor_backend: str | None = None
    """What starts the processes of several GPUs."""
    disable_custom_all_reduce: bool | None = None
    """Whether sums over GPUs are NCCL's."""
    disable_cascade_attn: bool | None = None
    """Whether attention to a common beginning is not computed once for a batch."""
    kv_sharing_fast_prefill: bool | None = None
    """Whether layers that share keys and values leave prompts out."""
    decode_context_parallel_size: _Count | None = None
    """GPUs over which the KV cache of a sequence is divided."""
    prefill_context_parallel_size: _Count | None = None
    """GPUs over which a prompt is divided."""
    enable_dbo: bool | None = None
    """Whether two halves of a batch take turns."""
    enable_eplb: bool | None = None
    """Whether experts are moved to where they balance GPUs."""
    model_impl: str | None = None
    """Whose code runs the model: auto, vllm, transformers."""

    @property
    def speculation(self) -> Speculation | None:
        """What was measured of speculative decoding; None where nothing was."""
        return None if self.speculative_config is None else self.speculative_config.measured

    def further_findings(self) -> Iterator[Finding]:
        """Yield arguments that cannot be meant of a plan's engines."""
        if self.enable_lora is False:
            message = "is false, and a scenario's engines serve adapters"
            yield Finding(("enable_lora",), message, "leave it out")
        if self.enable_chunked_prefill is False:
            message = "is false, and V1 engines always read prompts in parts, as the twin does"
            yield Finding(("enable_chunked_prefill",), message, "leave it out")

    def written(self, values: Any) -> Any:
        """Without what is not given, as it changes nothing; what is given comes last."""
        further = FurtherArguments.model_fields.keys()
        given = {name: value for name, value in values.items() if name in further and value is not None}
        return {name: value for name, value in values.items() if name not in further} | given

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Fields to show: those that are given."""
        further = FurtherArguments.model_fields
        yield from (one for one in super().__repr_args__() if one[0] not in further or one[1] is not None)
