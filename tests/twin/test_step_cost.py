"""Cost of a step: tables against the sum of the terms, and what no term may be."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios import ScenarioError
from twin.step_cost import CostTerm, LoadCost, StepCost

TERMS = (
    CostTerm(name="step", seconds=5e-3),
    CostTerm(name="tokens", seconds=2e-5, tokens_above=64, tokens_cap=100),
    CostTerm(name="adapters", seconds=1e-4, adapters_power=0.5, adapters_cap=3, lora=True),
    CostTerm(name="both", seconds=1e-6, tokens_above=0, adapters_power=1.0, rank_power=0.5, lora=True),
    CostTerm(name="slots", seconds=1e-4, slots_power=0.7, served_power=0.2, lora=True),
    CostTerm(name="decode", seconds=1e-5, per="decode"),
    CostTerm(name="prefill", seconds=3e-5, per="prefill", rank_power=0.3, lora=True),
    CostTerm(name="context", seconds=1e-8, per="context"),
    CostTerm(name="queue", seconds=1e-6, per="waiting"),
    CostTerm(name="prompts", seconds=2e-4, per="prompts", rank_power=0.5, lora=True),
)


@pytest.mark.parametrize("slots", [0, 1, 8])
def test_the_tables_add_up_to_the_terms(slots: int) -> None:
    rng, rank, served = np.random.default_rng(slots), 16, 6
    tables = StepCost(terms=TERMS).tables(slots, rank, 256, served)
    lora = float(slots > 0)
    for _ in range(50):
        decodes, prefill = (int(n) for n in rng.integers(0, 128, 2) * rng.integers(0, 2, 2))
        adapters = int(rng.integers(0, min(slots, served) + 1))
        context, waiting, tokens = int(rng.integers(0, 10_000)), int(rng.integers(0, 50)), decodes + prefill
        by_hand = (
            5e-3
            + 2e-5 * min(max(tokens - 64, 0), 100)
            + lora * 1e-4 * min(adapters, 3) ** 0.5
            + lora * 1e-6 * tokens * adapters * rank**0.5
            + lora * 1e-4 * slots**0.7 * served**0.2
            + 1e-5 * decodes
            + lora * 3e-5 * prefill * rank**0.3
            + 1e-8 * context
            + 1e-6 * waiting
            + lora * 2e-4 * rank**0.5 * (prefill > 0)
        )
        tabulated = (
            tables.token_s[tokens]
            + tables.adapter_s[adapters]
            + tables.adapter_token_s[adapters] * tokens
            + tables.decode_s * decodes
            + tables.prefill_s * prefill
            + tables.context_s * context
            + tables.waiting_s * waiting
            + tables.prompts_s * (prefill > 0)
        )
        assert tabulated == pytest.approx(by_hand)


def test_no_step_has_more_adapters_than_slots_or_adapters_served() -> None:
    cost = StepCost(terms=TERMS)
    assert len(cost.tables(8, 16, 64, 300).adapter_s) == 9
    assert len(cost.tables(64, 16, 64, 5).adapter_s) == 6
    assert len(cost.tables(0, 0, 64, 0).token_s) == 65


@pytest.mark.parametrize("arguments", [(-1, 8, 64, 1), (1, -8, 64, 1), (1, 8, 0, 1), (1, 8, 64, -1)])
def test_a_configuration_out_of_range_is_named(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"max_loras {arguments[0]}, max_lora_rank {arguments[1]}"):
        StepCost(terms=TERMS).tables(*arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per": "decode", "tokens_above": 0}, "let it grow with slots, rank and served only"),
        ({"per": "waiting", "adapters_power": 1.0}, 'per is "waiting" of term'),
        ({"per": "prompts", "tokens_above": 0}, 'per is "prompts" of term'),
        ({"adapters_power": 1.0, "tokens_above": 8}, "count its tokens from 0"),
        (
            {"adapters_power": 1.0, "tokens_above": 0, "tokens_cap": 8},
            "count its tokens from 0, without tokens_cap",
        ),
    ],
)
def test_a_term_that_cannot_be_tabulated_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        CostTerm(**{"name": "t", "seconds": 1.0, **fields})  # type: ignore[arg-type]


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"terms\[1\]\.name is .*as of another term; name each once"):
        StepCost(terms=(TERMS[0], TERMS[0]))


def test_smaller_adapters_are_padded_and_larger_ones_take_longer_to_read() -> None:
    loads = LoadCost(gpu_s=0.006, gpu_padding_s=0.001, disk_s=0.08, disk_rank_s=1e-4)
    assert loads.gpu_load_s([8, 16, 32], 32) == pytest.approx([0.007, 0.007, 0.006])
    assert loads.disk_load_s([8, 32]) == pytest.approx([0.0808, 0.0832])
