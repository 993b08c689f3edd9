"""Speculative decoding: vLLM's configuration of it, and what was measured of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field

from scenarios.base import FrozenModel, refuse_booleans
from scenarios.reading.findings import Finding

_Count = Annotated[int, Field(ge=1, le=1024), BeforeValidator(refuse_booleans)]

WITHOUT_MEMORY = ("ngram", "ngram_gpu", "suffix")
"""Methods that propose from the text so far, without weights (vllm/config/speculative.py)."""


class Speculation(NamedTuple):
    """What was measured of an engine that speculates.

    Parameters
    ----------
    draft_tokens
        Tokens that are proposed for a request in each step.
    tokens_per_step
        Tokens that a request gets of a step, on average: those accepted, and one more.
    step_factor
        How many times as long a step lasts as without speculation.
    """

    draft_tokens: int
    tokens_per_step: float
    step_factor: float


class SpeculativeConfig(FrozenModel):
    """vLLM's ``--speculative-config``, and two figures that only a measurement tells."""

    method: str | None = None
    """How tokens are proposed, as vLLM calls it: ngram, eagle3, mtp."""
    model: str | None = None
    """The model that proposes."""
    num_speculative_tokens: _Count | None = None
    """Tokens that are proposed for a request in each step."""
    draft_tensor_parallel_size: _Count | None = None
    """GPUs of the model that proposes; of no effect here."""
    prompt_lookup_max: _Count | None = None
    """Longest piece of text that ngram looks for; of no effect here."""
    prompt_lookup_min: _Count | None = None
    """Shortest piece of text that ngram looks for; of no effect here."""
    quantization: str | None = None
    """How the model that proposes is quantised; of no effect here."""
    max_model_len: Annotated[int | None, Field(ge=1), BeforeValidator(refuse_booleans)] = None
    """Longest sequence of the model that proposes; of no effect here."""
    enforce_eager: bool | None = None
    """Whether the model that proposes runs without CUDA graphs; of no effect here."""
    disable_by_batch_size: _Count | None = None
    """Batch from which nothing is proposed (V0); of no effect here."""
    disable_padded_drafter_batch: bool | None = None
    """Whether batches of the model that proposes are not padded; of no effect here."""
    parallel_drafting: bool | None = None
    """Whether all tokens are proposed at once; of no effect here."""
    mean_acceptance_length: Annotated[
        float | None, Field(ge=1, le=1025), BeforeValidator(refuse_booleans)
    ] = None
    """Measured: tokens that a request gets of a step on average, as vLLM logs it (0.8.5 logs one less)."""
    step_factor: Annotated[float | None, Field(gt=0, le=100), BeforeValidator(refuse_booleans)] = None
    """Measured: how many times as long a step lasts as without speculation."""

    def findings(self) -> Iterator[Finding]:
        """Yield figures that are not given together, or that no engine can have."""
        figures = ("mean_acceptance_length", "step_factor")
        missing = [name for name in figures if getattr(self, name) is None]
        if len(missing) == 1:
            (given,) = set(figures) - set(missing)
            yield Finding((missing[0],), f"is missing beside {given}", "give both as measured, or neither")
        drafts, length = self.num_speculative_tokens, self.mean_acceptance_length
        if length is None:
            return
        if drafts is None:
            message = "is missing beside mean_acceptance_length"
            yield Finding(("num_speculative_tokens",), message, "give it as vLLM gets it")
        elif length > 1 + drafts:
            message = f"is {length:g}, above 1 + num_speculative_tokens, {1 + drafts}"
            yield Finding(("mean_acceptance_length",), message, "give the mean that vLLM logs")

    @property
    def measured(self) -> Speculation | None:
        """What was measured; None where it was not."""
        figures = self.num_speculative_tokens, self.mean_acceptance_length, self.step_factor
        drafts, length, factor = figures
        if drafts is None or length is None or factor is None:
            return None
        return Speculation(drafts, length, factor)

    @property
    def has_weights(self) -> bool:
        """Whether what proposes takes memory of the GPU, as far as the method tells."""
        return self.method not in WITHOUT_MEMORY
