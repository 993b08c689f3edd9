"""CUDA graphs: how many an engine captures, and what they take."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from scenarios import EngineConfig
from twin.architectures import Attention, Experts, LatentAttention, Layer, Mixer
from twin.memory.allocator import GIB
from twin.memory.launch import Launch
from twin.memory.memory_model import MemoryModel
from twin.memory.stages import dtype_bytes, stage_layers
from twin.memory.versions import MemoryRules, has_states

_MEASURED = 67
"""Graphs that the constants of `MemoryModel` are for: those of V1 engines up to 0.10.1."""

_SPLITS = 32
"""Parts into which FlashAttention 3 may divide a sequence while it is in a graph
(``flash_attn_max_num_splits_for_cuda_graph``)."""

_HOPPER_GIB = (60.0, 150.0)
"""Memory of the GPUs that are taken for Hopper's where no more is known: H100, H200, GH200."""

_BOTH_WAYS = "gemma3_text"
"""The type of models that see the parts of a picture in both directions (``is_mm_prefix_lm``)."""

_LARGEST_V0 = 8192

_TO_1024 = "gpt_oss"
"""The type of models with graphs of batches up to 1,024 (models/config.py, ``GptOssForCausalLMConfig``)."""


class CapturedGraphs(NamedTuple):
    """Graphs of one GPU: of steps without adapters, and with."""

    plain: int
    lora: int


def graph_gib(memory: MemoryModel, launch: Launch, rules: MemoryRules, gpu_gib: float, stage: int) -> float:
    """GiB that the CUDA graphs of a GPU of a pipeline stage take.

    Each graph of each layer takes about the same, whatever the layer's size; beside them stand a constant
    and, on Hopper with whole graphs, what FlashAttention 3 keeps to divide long sequences.
    """
    rules = _rules_of_model(memory, launch, rules)
    graphs = captured_graphs(launch.engine, rules, launch.max_loras)
    if not graphs.plain + graphs.lora:
        return 0.0
    of_a_layer = memory.graph_layer_gib * (graphs.plain / _MEASURED)
    of_a_layer += memory.graph_layer_lora_gib * (graphs.lora / _MEASURED)
    layers = sum(_share(layer) for layer in stage_layers(launch, stage))
    least, most = _HOPPER_GIB
    splits = least <= gpu_gib <= most if memory.splits_sequences is None else memory.splits_sequences
    split = _split_gib(launch, rules) if rules.full_graphs and splits else 0.0
    return memory.graph_gib + of_a_layer * layers + split


def _rules_of_model(memory: MemoryModel, launch: Launch, rules: MemoryRules) -> MemoryRules:
    """What the release's rules are for this model and GPU."""
    full = rules.full_graphs or (rules.full_graphs_of_states and has_states(launch.model))
    rules = replace(rules, full_graphs=full, largest=memory.largest_graph)
    if launch.model.model_type == _TO_1024:
        return replace(rules, sizes="all", largest=1024)
    return rules


def _share(layer: Layer) -> float:
    """Graph of a layer, as a multiple of that of a dense one with keys and values: it grows with its kernels.

    From six models in memory_h100_80 (docs/memory.md): two with experts, one with both.
    """
    experts = 1.25 if isinstance(layer.feed_forward, Experts) else 1.0
    latent = any(isinstance(mixer, LatentAttention) for mixer in layer.mixers)
    return experts * (1.5 if latent else 1.0)


def _outputs(mixer: Mixer) -> int:
    """Outputs of all heads of an attention before they are projected back; 0 where there is none."""
    match mixer:
        case Attention():
            return mixer.heads * mixer.head_dim
        case LatentAttention():
            return mixer.heads * mixer.kv_rank
    return 0


def _split_gib(launch: Launch, rules: MemoryRules) -> float:
    """GiB that FlashAttention keeps for the largest whole graph: outputs of every part, head and request.

    They are of 32 bits. Models that see the parts of a picture in both directions, and activations in 32
    bits, run on other kernels.
    """
    model, engine = launch.model, launch.engine
    both_ways = model.model_type == _BOTH_WAYS and model.vision_parameters
    if both_ways or dtype_bytes(launch) != 2:
        return 0.0
    widest = max((_outputs(mixer) for layer in model.layers for mixer in layer.mixers), default=0)
    requests = min(engine.max_num_seqs, rules.largest)
    return _SPLITS * requests * widest / engine.tensor_parallel_size * 4 / GIB


def captured_graphs(engine: EngineConfig, rules: MemoryRules, max_loras: int) -> CapturedGraphs:
    """How many graphs the engine captures."""
    if engine.enforce_eager:
        return CapturedGraphs(0, 0)
    sizes = _sizes(engine, rules)
    graphs = len(sizes)
    if rules.full_graphs:
        graphs += sum(size <= engine.max_num_seqs for size in sizes)
    if not max_loras:
        return CapturedGraphs(graphs, 0)
    counts = _active_counts(max_loras) if engine.specialize_active_lora else 1
    return CapturedGraphs(graphs if rules.lora_twice else 0, graphs * counts)


def _sizes(engine: EngineConfig, rules: MemoryRules) -> list[int]:
    """Batch sizes with a graph, ascending."""
    seqs = engine.max_num_seqs
    match rules.sizes:
        case "seqs":
            largest = min(_LARGEST_V0, -(-seqs // 8) * 8 if seqs > 4 else 1 << (seqs - 1).bit_length())
        case "steps_of_8" | "all":
            largest = rules.largest
        case _:
            largest = min(2 * seqs, rules.largest)
    largest = min(largest, engine.max_num_batched_tokens)
    coarse = 16 if rules.sizes in ("steps_of_16", "all") else 8
    steps = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, coarse)]
    return [size for size in steps if size <= largest]


def _active_counts(max_loras: int) -> int:
    """Counts of active adapters with graphs of their own: powers of two, and one more than the slots.

    vllm/lora/utils.py, ``get_captured_lora_counts``.
    """
    return len({1 << k for k in range(max_loras.bit_length()) if 1 << k <= max_loras} | {max_loras + 1})
