"""Arguments of an engine that step costs were not measured with: what is not modelled, and how that errs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scenarios import Scenario
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


def unmodelled(scenario: Scenario, profiles: Mapping[str, EngineProfile]) -> Iterator[str]:
    """Yield a sentence for each argument of a scenario's engine that its step costs know nothing of.

    Memory follows all of them; step times only what was measured.
    """
    engine = scenario.engine
    for device, profile in profiles.items():
        for name, effect in EFFECTS.items():
            given, measured = getattr(engine, name), getattr(profile.measured, name)
            if given != measured:
                told = "" if measured is None else f", which was {measured} when they were measured"
                yield f"engine.{name} is not in the step times of {device}{told}: {effect}"
