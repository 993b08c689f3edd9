"""What logged steps add to the probes: prompts alone, and prompts with requests that decode."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.twin.measuring.test_measure import subject
from twin.measuring.outcome import Outcome
from twin.measuring.stages import PROMPT
from twin.measuring.step_times import mixed_steps, prompt_step_ms
from twin.measuring.tables import tables_of


def steps(*rows: tuple[int, int, int, float], between_ms: float = 0.5) -> pd.DataFrame:
    """Logged steps by their requests and tokens of prompts, requests that decode, and milliseconds."""
    columns = ["context_requests", "context_tokens", "generation_requests", "elapsed_ms"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(generation_tokens=frame["generation_requests"], between_ms=between_ms)


def outcome(name: str, kind: str, batch: int, prompt: int, **seen: float) -> Outcome:
    values = dict.fromkeys(Outcome.model_fields, 0) | {
        "name": name,
        "kind": kind,
        "batch": batch,
        "distinct": min(batch, 8),
        "seconds": 10.0,
        "completed": 8,
        "failures": {},
        "prompt_tokens": prompt,
        "output_tokens": 64,
        "gauges": None,
        "step_ms": None,
        "ttft_ms": None,
    }
    return Outcome.model_validate(values | seen)


def probes(logged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Probes of a server that took 9 ms beside a step for a first token."""
    outcomes = [
        outcome("alone", "alone", 1, PROMPT, step_ms=6.0),
        outcome("prefill_1", "prefill", 1, 1, ttft_ms=16.5),
        outcome("prefill_64", "prefill", 1, 64, ttft_ms=34.0),
        outcome("batch_16_8", "batch", 16, PROMPT, step_ms=9.0),
    ]
    every = {one.name: logged.get(one.name, pd.DataFrame()) for one in outcomes}
    return tables_of(subject(), outcomes, {}, every)["probes"]


LOGGED = {
    "alone": steps((1, PROMPT, 0, 17.0), *[(0, 0, 1, 5.6)] * 9),
    "prefill_1": steps(*[(1, 1, 0, 7.1)] * 6, between_ms=9.0),  # from request to request, not step to step
    "prefill_64": steps(*[(1, 64, 0, 24.6)] * 6, between_ms=9.0),
    "batch_16_8": steps((8, 256, 0, 90.0), *[(2, 64, 1, 30.0)] * 3, *[(2, 64, 9, 35.0)] * 3, (0, 0, 16, 8.4)),
}


def test_a_logged_prompt_costs_what_its_step_took() -> None:
    prompts = probes(LOGGED).query("decodes == 0").set_index("batched_tokens")["step_ms"]
    # 0.4 ms lie between two steps: so much more than is logged its client sees of one request's.
    assert prompts.to_dict() == pytest.approx({1: 7.5, 64: 25.0})


def test_without_a_log_a_prompt_of_one_token_is_a_step_as_any_other() -> None:
    prompts = probes({}).query("decodes == 0").set_index("batched_tokens")["step_ms"]
    assert prompts.to_dict() == pytest.approx({1: 6.0, 64: 23.5})


def test_a_step_has_no_more_adapters_than_requests() -> None:
    mixed = probes(LOGGED).query("0 < decodes < batched_tokens").set_index("batched_tokens")
    assert mixed["n_adapters"].to_dict() == {65: 3, 73: 8}
    assert mixed["step_ms"].to_dict() == pytest.approx({65: 30.5, 73: 35.5})


def test_steps_are_alike_by_prompts_and_by_decoding_requests_and_rare_ones_are_left_out() -> None:
    found = list(
        mixed_steps(steps(*[(1, 40, 2, 20.0)] * 3, *[(1, 40, 20, 30.0)] * 2, *[(2, 80, 2, 40.0)] * 3))
    )
    assert [(one.prompt_tokens, one.requests) for one in found] == [(40, 3), (80, 4)]


@pytest.mark.parametrize(
    ("prefill", "alone"),
    [
        (pd.DataFrame(), LOGGED["alone"]),
        (LOGGED["prefill_1"], pd.DataFrame()),
        (steps((0, 0, 1, 5.6)), LOGGED["alone"]),
        (LOGGED["prefill_1"], steps((1, 32, 0, 17.0))),
    ],
)
def test_what_the_log_does_not_hold_is_not_told(prefill: pd.DataFrame, alone: pd.DataFrame) -> None:
    assert prompt_step_ms(prefill, alone, 6.0) is None
