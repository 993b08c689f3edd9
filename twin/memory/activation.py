"""What the trial batch needs beside the weights: PyTorch's peak, of the forward pass or of the sampler."""

from __future__ import annotations

from functools import lru_cache

from twin.architectures import Dense, Experts, ModelArchitecture
from twin.memory.allocator import GIB
from twin.memory.launch import Launch
from twin.memory.memory_model import MemoryModel
from twin.memory.stages import dtype_bytes, is_last
from twin.memory.versions import MemoryRules


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
    if not is_last(launch, stage):
        return forward
    sequences = min(engine.max_num_seqs, tokens)
    # Logits come in the type of the activations before they are taken to 32 bits.
    sampler = memory.sampler_gib + sequences * model.vocab_size * (memory.sampler_bytes + size - 2) / GIB
    if model.vision_parameters:
        sampler += tokens * model.hidden_size * size / GIB  # pictures as the model sees them, kept meanwhile
    return max(forward, sampler + (workspace if rules.keeps_workspace else 0.0))


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
    """Bytes of the buffers of a layer of experts for the trial batch; 0 where the model has none.

    ``fused_experts`` (vllm/model_executor/layers/fused_moe/fused_moe.py): for each token and chosen expert
    the wider of both matrices' outputs, and the input of the second.
    """
    engine = launch.engine
    sliced = 1 if engine.enable_expert_parallel else engine.tensor_parallel_size
    per_token = _widest_experts(launch.model, sliced)
    return engine.max_num_batched_tokens * per_token * dtype_bytes(launch)


@lru_cache(maxsize=4096)
def _widest_experts(model: ModelArchitecture, sliced: int) -> float:
    widths = [0.0]
    for layer in model.layers:
        if isinstance(layer.feed_forward, Experts):
            experts = layer.feed_forward
            width = experts.intermediate / sliced
            outputs = max(width * (2 if experts.gated else 1), experts.latent or model.hidden_size)
            widths.append(experts.per_token * (outputs + width))
    return max(widths)
