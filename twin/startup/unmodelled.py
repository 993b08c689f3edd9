"""Arguments of an engine that the twin does not model, or not with these step costs, and how that errs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from scenarios import EngineConfig, Scenario
from twin.engine.rules import is_unread, unread_in_words
from twin.profile import EngineProfile

EFFECTS: dict[str, str] = {
    "tensor_parallel_size": "each GPU computes less, and waits for the others: they may be off either way",
    "pipeline_parallel_size": "batches pass from GPU to GPU: they may be off either way",
    "enable_expert_parallel": "experts are spread over GPUs whole: they may be off either way",
    "dtype": "activations of another type: they may be off either way",
    "quantization": "quantised weights make small batches faster: plans may have more GPUs than needed",
    "kv_cache_dtype": "a smaller KV cache is read faster: plans may have more GPUs than needed",
    "enforce_eager": "without CUDA graphs small batches are slower: plans may have too few GPUs",
    "cpu_offload_gb": "weights in the host's memory are read in every step: plans may have too few GPUs",
    "fully_sharded_loras": "slots are computed in parts: they may be off either way",
    "lora_dtype": "adapters of another type: they may be off either way",
    "lora_target_modules": "fewer modules are adapted: plans may have more GPUs than needed",
    "specialize_active_lora": "steps with few adapters are faster: plans may have more GPUs than needed",
}
"""What an argument does to step times where they were measured with another value, and how that errs."""


class Unmodelled(NamedTuple):
    """An argument that no figure of a plan follows.

    Parameters
    ----------
    effect
        What it does to an engine, and how plans err without it.
    modelled
        The values with which nothing is left out.
    """

    effect: str
    modelled: tuple[object, ...] = (False,)


_MORE = "plans may have more GPUs than needed"
_FEWER = "plans may have too few GPUs"
_EITHER = "plans may be off either way"
_NONE = "plans do not depend on it"

UNMODELLED: dict[str, Unmodelled] = {
    "data_parallel_size": Unmodelled(
        "each of its engines is a GPU of the plan, which says how many; where the model has experts, "
        f"such engines wait for each other: {_FEWER}",
        (1,),
    ),
    "scheduling_policy": Unmodelled(f"requests are served here as they come: {_EITHER}", ("fcfs",)),
    "scheduler_cls": Unmodelled(f"the scheduler is vLLM's own here: {_EITHER}", ()),
    "max_num_partial_prefills": Unmodelled(
        f"only V0 engines take it, and prompts are read here as V1 reads them: {_EITHER}", (1,)
    ),
    "max_long_partial_prefills": Unmodelled(
        f"only V0 engines take it, and prompts are read here as V1 reads them: {_EITHER}", (1,)
    ),
    "long_prefill_token_threshold_adaptive": Unmodelled(f"the threshold stays as given here: {_EITHER}"),
    "prefill_schedule_interval": Unmodelled(f"prompts wait for their turn: {_FEWER}", (1,)),
    "max_num_queued_reqs": Unmodelled(f"requests that a server refuses wait here: {_EITHER}", ()),
    "max_num_queued_tokens": Unmodelled(f"requests that a server refuses wait here: {_EITHER}", ()),
    "num_scheduler_steps": Unmodelled(
        f"only V0 engines take it, and each step is scheduled here: {_EITHER}", (1,)
    ),
    "num_lookahead_slots": Unmodelled(f"only V0 engines take it: {_EITHER}", (0,)),
    "scheduler_delay_factor": Unmodelled(
        f"only V0 engines take it, and no prompt is held back here: {_EITHER}", (0,)
    ),
    "preemption_mode": Unmodelled(
        f"only V0 engines take it, and preempted requests are computed again here: {_EITHER}", ("recompute",)
    ),
    "disable_async_output_proc": Unmodelled(f"only V0 engines take it: {_FEWER}"),
    "swap_space": Unmodelled(f"V1 engines take it and never swap: {_NONE}", (0, 4)),
    "stream_interval": Unmodelled(
        f"tokens are sent in groups, with longer gaps between: where itl_ms is limited, {_FEWER}", (1,)
    ),
    "disable_chunked_mm_input": Unmodelled(f"prompts hold no pictures here: {_EITHER}"),
    "kv_transfer_config": Unmodelled(f"no KV cache comes from elsewhere or goes there here: {_EITHER}", ()),
    "kv_offloading_size": Unmodelled(
        f"KV caches in the host's memory are never used again here: {_EITHER}", (0,)
    ),
    "kv_offloading_backend": Unmodelled(f"KV caches stay on the GPU here: {_EITHER}", ("native",)),
    "disable_hybrid_kv_cache_manager": Unmodelled(f"layers with a window keep more, so less fits: {_FEWER}"),
    "disable_sliding_window": Unmodelled(f"attention has its windows here: {_EITHER}"),
    "kv_cache_dtype_skip_layers": Unmodelled(f"some layers keep more, so less fits: {_FEWER}", ()),
    "calculate_kv_scales": Unmodelled(f"scales are computed once, in the first step: {_NONE}"),
    "mamba_cache_dtype": Unmodelled(f"states have the model's type here: {_EITHER}", ("auto",)),
    "mamba_ssm_cache_dtype": Unmodelled(f"states have the model's type here: {_EITHER}", ("auto",)),
    "mamba_block_size": Unmodelled(f"a sequence has one state here: {_FEWER}", ()),
    "mamba_cache_mode": Unmodelled(f"a sequence has one state here: {_FEWER}", ("none",)),
    "offload_backend": Unmodelled(f"no weights are fetched in turn here: {_EITHER}", ("auto", "uva")),
    "offload_group_size": Unmodelled(f"no weights are fetched in turn here: {_EITHER}", (0,)),
    "offload_num_in_group": Unmodelled(f"no weights are fetched in turn here: {_EITHER}", ()),
    "offload_prefetch_step": Unmodelled(f"no weights are fetched in turn here: {_EITHER}", ()),
    "enable_sleep_mode": Unmodelled(f"memory is taken by another allocator: {_EITHER}"),
    "limit_mm_per_prompt": Unmodelled(f"memory is that of the release's own limits here: {_EITHER}", ()),
    "language_model_only": Unmodelled(f"what sees is loaded here, so less fits: {_MORE}"),
    "skip_mm_profiling": Unmodelled(f"memory is measured with pictures here, so less fits: {_MORE}"),
    "lora_extra_vocab_size": Unmodelled(f"adapters may add 256 tokens here: {_EITHER}", (256,)),
    "enable_lora_bias": Unmodelled(f"slots with biases are larger: {_FEWER}"),
    "enable_tower_connector_lora": Unmodelled(f"slots for what sees come on top: {_FEWER}"),
    "enable_mixed_moe_lora_format": Unmodelled(f"slots have the model's own form here: {_EITHER}"),
    "enable_moe_shared_loras": Unmodelled(f"slots hold each expert's own parts here: {_MORE}"),
    "enable_prompt_adapter": Unmodelled(f"no prompt is adapted here: {_FEWER}"),
    "cudagraph_capture_sizes": Unmodelled(
        f"graphs and step times are of the release's own sizes: {_EITHER}", ()
    ),
    "max_cudagraph_capture_size": Unmodelled(
        f"graphs and step times are of the release's own sizes: {_EITHER}", ()
    ),
    "max_seq_len_to_capture": Unmodelled(f"only V0 engines take it: {_EITHER}", (8192,)),
    "compilation_config": Unmodelled(f"graphs and step times are of the release's own: {_EITHER}", ()),
    "optimization_level": Unmodelled(f"graphs and step times are of the release's own: {_EITHER}", (2,)),
    "performance_mode": Unmodelled(f"graphs and defaults are those of balanced: {_EITHER}", ("balanced",)),
    "attention_backend": Unmodelled(f"step times are of what was measured: {_EITHER}", ()),
    "moe_backend": Unmodelled(f"step times are of what was measured: {_EITHER}", ("auto",)),
    "linear_backend": Unmodelled(f"step times are of what was measured: {_EITHER}", ("auto",)),
    "all2all_backend": Unmodelled(f"step times are of what was measured: {_EITHER}", ()),
    "distributed_executor_backend": Unmodelled(f"step times are of what was measured: {_EITHER}", ()),
    "disable_custom_all_reduce": Unmodelled(f"several GPUs wait longer for each other: {_FEWER}"),
    "disable_cascade_attn": Unmodelled(f"prompts have nothing in common here: {_NONE}"),
    "kv_sharing_fast_prefill": Unmodelled(f"some layers leave prompts out: {_MORE}"),
    "decode_context_parallel_size": Unmodelled(f"each GPU keeps whole sequences here: {_EITHER}", (1,)),
    "prefill_context_parallel_size": Unmodelled(f"each GPU reads whole prompts here: {_EITHER}", (1,)),
    "enable_dbo": Unmodelled(f"batches are computed whole here: {_EITHER}"),
    "enable_eplb": Unmodelled(f"experts stay where they are here: {_EITHER}"),
    "model_impl": Unmodelled(f"other code than vLLM's may be slower: {_FEWER}", ("auto", "vllm")),
}
"""Arguments that are accepted and not modelled, as far as the releases differ in them."""


def unmodelled(scenario: Scenario, profiles: Mapping[str, EngineProfile]) -> Iterator[str]:
    """Yield a sentence for each argument of a scenario's engine that is not modelled, in full or in part.

    Memory follows all of `EFFECTS`; step times only what was measured.
    """
    engine = scenario.engine
    yield from unmodelled_arguments(engine)
    for device, profile in profiles.items():
        if is_unread(profile.engine_version):
            yield unread_in_words(device, profile.engine_version)
        for name, effect in EFFECTS.items():
            given, measured = getattr(engine, name), getattr(profile.measured, name)
            if given != measured:
                told = "" if measured is None else f", which was {measured} when they were measured"
                yield f"engine.{name} is not in the step times of {device}{told}: {effect}"


def unmodelled_arguments(engine: EngineConfig) -> Iterator[str]:
    """Yield a sentence for each argument that is not modelled, whatever the step costs."""
    yield from _speculation(engine)
    for name, argument in UNMODELLED.items():
        given = getattr(engine, name)
        if given is not None and given not in argument.modelled:
            yield f"engine.{name} is not modelled: {argument.effect}"


def _speculation(engine: EngineConfig) -> Iterator[str]:
    config = engine.speculative_config
    if config is None:
        return
    if config.measured is None:
        yield (
            "engine.speculative_config is not modelled without what was measured of it "
            f"(num_speculative_tokens, mean_acceptance_length, step_factor): {_MORE}"
        )
    elif (
        config.has_weights and engine.num_gpu_blocks_override is None and engine.kv_cache_memory_bytes is None
    ):
        yield (
            "engine.speculative_config: the memory of what proposes tokens is not counted, so less fits: "
            f"{_FEWER}; set engine.num_gpu_blocks_override to what your server logs"
        )
