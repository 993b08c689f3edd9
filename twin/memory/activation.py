"""What the trial batch needs beside the weights: PyTorch's peak, of the forward pass or of the sampler."""

from __future__ import annotations

from functools import lru_cache

from twin.architectures import Dense, Experts, ModelArchitecture
from twin.memory.allocator import GIB
from twin.memory.launch import Launch, Version
from twin.memory.memory_model import MemoryModel
from twin.memory.quantised import quantization_of
from twin.memory.slots import adapts_embeddings
from twin.memory.stages import dtype_bytes, is_first, is_last
from twin.memory.versions import MemoryRules

_MODULAR_SINCE: Version = (0, 14, 0)
"""Release from which experts that are not quantised run in modular kernels too
(fused_moe/unquantized_fused_moe_method.py, ``FusedMoEModularKernel``); 0.13 calls ``fused_experts``."""


def activation_gib(memory: MemoryModel, launch: Launch, rules: MemoryRules, stage: int) -> float:
    """Peak of the trial batch in GiB on a GPU of a pipeline stage."""
    engine, model, size = launch.engine, launch.model, dtype_bytes(launch)
    tokens = engine.max_num_batched_tokens
    workspace = _workspace_bytes(launch) / GIB
    wide = memory.forward_intermediate * _widest(model) / engine.tensor_parallel_size
    per_token = (wide + memory.forward_hidden * model.hidden_size) * size
    forward = memory.forward_gib + tokens * per_token / GIB + workspace
    if engine.pipeline_parallel_size > 1:
        # Hidden states and residuals that come from the stage before and go to the next.
        forward += tokens * 2 * model.hidden_size * size / GIB
    if memory.embedding_copies and is_first(stage):
        copies = memory.embedding_copies * _embedding_bytes(launch) / GIB
        forward = max(forward, memory.forward_gib + copies)
    if not is_last(launch, stage):
        return forward
    sequences = min(engine.max_num_seqs, tokens)
    sampler = _sampler_gib(memory, launch, sequences)
    if model.vision_parameters:
        sampler += tokens * model.hidden_size * size / GIB  # pictures as the model sees them, kept meanwhile
    return max(forward, sampler + (workspace if rules.keeps_workspace else 0.0))


def _sampler_gib(memory: MemoryModel, launch: Launch, sequences: int) -> float:
    """Peak of the sampler in GiB, for so many requests."""
    engine, logits, size = launch.engine, sequences * launch.model.vocab_size, dtype_bytes(launch)
    if memory.v1 is False and engine.max_num_batched_tokens < engine.max_model_len and not launch.lora:
        # Two logs of V0 engines that chunk prompts (0.6.4 and 0.7, docs/memory.md) have room for the logits
        # alone; one with adapters has it for all. The source does not tell why.
        return logits * size / GIB
    # Logits come in the type of the activations before they are taken to 32 bits.
    return memory.sampler_gib + logits * (memory.sampler_bytes + size - 2) / GIB


def _embedding_bytes(launch: Launch) -> float:
    """Bytes of the embedding on a GPU, with the input matrices of its adapter slots, which are whole."""
    engine, model, size = launch.engine, launch.model, dtype_bytes(launch)
    slots = launch.max_loras * launch.max_lora_rank if adapts_embeddings(launch) else 0
    return model.vocab_size * size * (model.hidden_size / engine.tensor_parallel_size + slots)


@lru_cache(maxsize=4096)
def _widest(model: ModelArchitecture) -> int:
    """Most outputs between the matrices of a network that every token passes through."""
    widths = [0]
    for layer in model.layers:
        match layer.feed_forward:
            case Dense() as dense:
                widths.append(dense.intermediate)
            case Experts() as experts:
                widths.append(max(experts.shared, experts.beside.intermediate if experts.beside else 0))
    return max(widths)


def _workspace_bytes(launch: Launch) -> float:
    """Bytes of the buffers of a layer of experts for the trial batch; 0 where the model has none."""
    engine = launch.engine
    sliced = 1 if engine.enable_expert_parallel else engine.tensor_parallel_size
    places, inputs = _widest_experts(launch.model, sliced, launch.version >= _MODULAR_SINCE)
    quantization = quantization_of(launch)
    narrow = quantization is not None and any(group.kind in ("fp8", "int8") for group in quantization.groups)
    # Inputs of both matrices in 8 bits beside those in the activations' type (moe_kernel_quantize_input).
    per_token = places * dtype_bytes(launch) + (inputs if narrow else 0)
    return engine.max_num_batched_tokens * per_token


@lru_cache(maxsize=4096)
def _widest_experts(model: ModelArchitecture, sliced: int, modular: bool) -> tuple[float, float]:
    """Places of the buffers for one token, and inputs of both matrices.

    To 0.13 for each chosen expert the wider of both matrices' outputs, and the input of the second
    (``fused_experts``, vllm/model_executor/layers/fused_moe/fused_moe.py); since then both buffers hold an
    output of the second matrix too (``TritonExperts.workspace_shapes``).
    """
    widths = [(0.0, 0.0)]
    for layer in model.layers:
        if isinstance(layer.feed_forward, Experts):
            experts = layer.feed_forward
            width, hidden = experts.intermediate / sliced, experts.latent or model.hidden_size
            outputs = max(width * (2 if experts.gated else 1), hidden)
            places = experts.per_token * (outputs + (max(width, hidden) if modular else width))
            widths.append((places, hidden + experts.per_token * width))
    return max(widths)
