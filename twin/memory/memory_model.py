"""Constants from which an engine's memory is computed, beside the model's shapes."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from scenarios import EngineConfig, FrozenModel
from twin.architectures import ModelArchitecture
from twin.memory.launch import Version, version_of
from twin.memory.versions import V1_SINCE, is_v1, on_new_runner

MEASURED = (
    "weights, slots and KV cache computed from the model's shapes; constants measured with vLLM 0.8.5 on an "
    "H100 64 GB (Llama-3.1-8B and Qwen-2.5-7B, 50 to 2048 sequences, 2048 batched tokens)"
)
DERIVED = "weights, slots and KV cache computed from the model's shapes; constants of public start-up logs"


class MemoryModel(FrozenModel):
    """Everything from which an engine's memory is computed; part of an engine profile.

    PyTorch's peak is the largest of the forward pass, ``forward_gib`` + tokens × (``forward_intermediate`` ×
    intermediate size + ``forward_hidden`` × hidden size) × bytes, of its compilation, ``forward_gib`` +
    ``embedding_copies`` × embedding, and of the sampler, ``sampler_gib`` + sequences × vocabulary ×
    ``sampler_bytes``. Beside it the GPU holds ``context_gib``, with adapters
    ``lora_gib`` more, on several GPUs ``nccl_gib`` more; of these the engine does not count
    ``uncounted_gib``.
    """

    architecture: ModelArchitecture
    engine_version: str = Field(default="0.8.5", description="Release of vLLM.")
    v1: bool | None = Field(
        default=True, description="Whether it is the release's V1 engine; null: as its arguments make it."
    )
    weights_gib: float | None = Field(
        default=None, gt=0, le=100_000, description="Measured weights on one GPU; absent: computed."
    )
    context_gib: float = Field(
        default=0.745, ge=0, le=100, description="CUDA context, libraries and workspaces."
    )
    uncounted_gib: float = Field(
        default=0.0, ge=0, le=100, description="Part of them that is there before the engine first measures."
    )
    lora_gib: float = Field(default=0.24, ge=0, le=100, description="More of them when LoRA is on.")
    nccl_gib: float = Field(
        default=0.4, ge=0, le=100, description="Communication buffers of an engine of several GPUs."
    )
    forward_gib: float = Field(default=0.13, ge=0, le=100, description="Forward pass at any batch.")
    forward_intermediate: float = Field(
        default=3.0, ge=0, le=1000, description="Forward pass: vectors of the intermediate size per token."
    )
    forward_hidden: float = Field(
        default=11.0, ge=0, le=1000, description="Forward pass: vectors of the hidden size per token."
    )
    sampler_gib: float = Field(default=0.0, ge=0, le=100, description="Sampler at any batch.")
    sampler_bytes: float = Field(
        default=14.0,
        ge=0,
        le=1000,
        description="Bytes per sequence and vocabulary entry while sampling: logits in 16 and 32 bits, "
        "probabilities and random numbers in 32 bits.",
    )
    embedding_copies: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Copies of the embedding and of its slots while the forward pass is compiled and tuned.",
    )
    graph_gib: float = Field(default=0.0, ge=0, le=100, description="CUDA graphs of any model.")
    graph_layer_gib: float = Field(
        default=0.0537, ge=0, le=100, description="67 CUDA graphs of a layer, without LoRA."
    )
    graph_layer_lora_gib: float = Field(
        default=0.1045, ge=0, le=100, description="67 CUDA graphs of a layer, with LoRA."
    )
    splits_sequences: bool | None = Field(
        default=None,
        description="Whether attention in CUDA graphs divides long sequences, as FlashAttention 3 does on "
        "Hopper; null: on GPUs of 60 to 150 GiB.",
    )
    largest_graph: int = Field(
        default=512, ge=1, le=8192, description="Largest batch with a CUDA graph that a V1 engine captures."
    )
    provenance: str = Field(default=MEASURED, description="Where the constants are from.")

    @field_validator("engine_version")
    @classmethod
    def _is_a_version(cls, text: str) -> str:
        version_of(text)
        return text

    @property
    def version(self) -> Version:
        """Release of vLLM."""
        return version_of(self.engine_version)

    def on_gpu(self, compute_capability: str) -> MemoryModel:
        """The same on a kind of GPU, by CUDA's number: V0 before Ampere, and other CUDA graphs.

        To 0.10.1 GPUs before Ampere fell back to V0 (engine/arg_utils.py, ``_is_v1_supported_oracle``).
        FlashAttention 3 runs on Hopper. Graphs of batches up to 1,024 are those of data centres' Blackwell
        (config/vllm.py, from 0.28; 0.27 has none).
        """
        old = compute_capability.startswith(("5.", "6.", "7.")) and self.version < _ALL_ON_V1_SINCE
        if self.v1 is None and old:
            return memory_model(self.architecture, self.engine_version, self.weights_gib, v1=False)
        more = compute_capability.startswith("10.") and self.version >= _LARGE_GRAPHS_SINCE
        kind = {"splits_sequences": compute_capability == "9.0", "largest_graph": 1024 if more else 512}
        return self.model_copy(update=kind)

    def of_engine(self, engine: EngineConfig, max_loras: int) -> MemoryModel:
        """The same for the engine, V0 or V1, that runs with these arguments."""
        if self.v1 is not None:
            return self
        if is_v1(self.version, engine, max_loras):
            return self.model_copy(update={"v1": True})
        return memory_model(self.architecture, self.engine_version, self.weights_gib, v1=False)


_ALL_ON_V1_SINCE: Version = (0, 10, 2)
_LARGE_GRAPHS_SINCE: Version = (0, 28, 0)

_SORTED = 38.0
"""Bytes of a logit where the sampler sorts (``apply_top_k_top_p`` without FlashInfer, before the kernel of
0.17.0): beside logits, probabilities and random numbers the sorted values in 32 bits and their indices in 64,
twice while they are being sorted."""

_GRAPHS = 0.0125
"""67 graphs of a layer today: 0.19 MiB each."""

_V0: tuple[tuple[Version, dict[str, float]], ...] = (
    (
        (0, 0, 0),
        {
            "context_gib": 0.58,
            "uncounted_gib": 0.51,
            "forward_gib": 0.0,
            "forward_hidden": 3.0,
            "lora_gib": 0.02,
            "sampler_gib": 0.06,
            "sampler_bytes": _SORTED,
            "graph_gib": 0.04,
            "graph_layer_gib": _GRAPHS,
            "graph_layer_lora_gib": 3.4 * _GRAPHS,
        },
    ),
    ((0, 6, 4), {"context_gib": 0.37, "uncounted_gib": 0.0}),
    ((0, 6, 5), {"context_gib": 0.58, "uncounted_gib": 0.51}),
)
_V1: tuple[tuple[Version, dict[str, float]], ...] = (
    ((0, 0, 0), {}),  # measured with 0.8.5: the defaults of `MemoryModel`
    (
        (0, 9, 1),
        {
            "context_gib": 0.60,
            "uncounted_gib": 0.51,
            "lora_gib": 0.05,
            "nccl_gib": 1.2,
            "forward_gib": 0.08,
            "forward_hidden": 3.0,
            "sampler_gib": 0.13,
            "sampler_bytes": _SORTED,
            "graph_layer_gib": 0.06,
        },
    ),
    (
        (0, 10, 0),
        {"graph_gib": 0.04, "graph_layer_gib": 1.34 * _GRAPHS, "graph_layer_lora_gib": 2.6 * _GRAPHS},
    ),
    (
        (0, 11, 0),
        {"context_gib": 0.64, "graph_layer_gib": _GRAPHS, "graph_layer_lora_gib": 1.13 * _GRAPHS},
    ),
    ((0, 17, 0), {"nccl_gib": 1.82, "sampler_gib": 0.18, "sampler_bytes": 14.0}),
    ((0, 18, 0), {"context_gib": 0.76}),
)
_NEW_RUNNER: tuple[tuple[Version, dict[str, float]], ...] = (
    ((0, 22, 0), {"sampler_gib": 0.0, "sampler_bytes": 6.0, "embedding_copies": 1.0}),
    ((0, 29, 0), {"graph_layer_gib": 0.65 * _GRAPHS, "graph_layer_lora_gib": 0.73 * _GRAPHS}),
)
"""What changed with a release, beside what stood before; docs/memory.md has the start-ups behind it.

The second model runner (``on_new_runner``) samples in its trial batch without probabilities, from a copy of
the logits in 32 bits (v1/worker/gpu/sample/sampler.py); where it compiles for the first time, the embedding
and its slots are there twice. From 0.29 it captures its graphs twice and keeps what the first capture loads.
"""


def memory_model(
    architecture: ModelArchitecture,
    engine_version: str = "0.8.5",
    weights_gib: float | None = None,
    *,
    v1: bool | None = None,
) -> MemoryModel:
    """Memory of a model under a release of vLLM.

    Parameters
    ----------
    architecture
        Shapes of the model.
    engine_version
        Release of vLLM: 0.8.5.
    weights_gib
        Measured weights on one GPU in GiB ("Model loading took" without LoRA); absent: computed.
    v1
        Whether the V1 engine runs; absent: as the release decides by its arguments.

    Raises
    ------
    EngineVersionError
        If the text names no release.
    """
    version = version_of(engine_version)
    if v1 is None and version < V1_SINCE:
        v1 = False
    values: dict[str, Any] = {}
    changes = _V0 if v1 is False else _V1
    if v1 is not False and on_new_runner(version, architecture):
        changes += _NEW_RUNNER
    for since, changed in changes:
        values |= changed if since <= version else {}
    if values:
        values["provenance"] = DERIVED
    return MemoryModel(
        architecture=architecture, engine_version=engine_version, v1=v1, weights_gib=weights_gib, **values
    )
