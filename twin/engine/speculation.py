"""Speculative decoding as a measured factor: an engine of longer steps, of which each gives a request more.

The compiled loop knows steps that give a request one token. An engine that speculates is played by it as one
whose answers have as many tokens as they take steps, and whose steps last the measured factor longer. What
follows from the tokens of an answer, the KV cache and the cost of context, is right on average over the
requests; docs/twin.md says how that errs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from scenarios import Speculation
from twin.engine.records import SERIES, RunRecords
from twin.engine.requests import FloatArray, Requests
from twin.engine.setup import EngineSetup, StepTables


@dataclass(frozen=True)
class PlayedSteps:
    """Requests and an engine by the step, in place of by the token.

    Parameters
    ----------
    requests
        The requests, with as many tokens of an answer as it takes steps.
    setup
        The engine, with the steps' cost and room for as many of these requests as it has for the others.
    """

    requests: Requests
    setup: EngineSetup

    @classmethod
    def of(cls, requests: Requests, setup: EngineSetup, speculation: Speculation) -> PlayedSteps:
        """Requests and engine as the loop plays them.

        A prompt's last step gives the first token. The others come ``tokens_per_step`` at a time, and what
        the last step gives beyond the answer is lost.
        """
        steps = np.ceil((requests.output_tokens - 1) / speculation.tokens_per_step - 1e-9)
        by_step = replace(requests, output_tokens=(1 + steps).astype(np.int32))
        if not steps.any():
            return cls(by_step, replace(setup, speculation=None))
        means = _Means.of(requests, steps)
        # Tokens that are proposed have blocks too (vllm/v1/core/sched/scheduler.py, `num_tokens_with_spec`),
        # and the last block of a request is half empty.
        half, drafts = setup.block_size / 2, speculation.draft_tokens
        shorter = (means.context_by_step + half) / (means.context + half + drafts)
        longest = int((by_step.prompt_tokens.astype(np.int64) + by_step.output_tokens - 1).max())
        blocks = max(round(setup.usable_blocks * shorter), -(-longest // setup.block_size))
        # They are taken out of the budget of a step too: so large is a batch whose prompts keep coming.
        batch = int(setup.max_num_batched_tokens / (1 + drafts + means.prompt_of_step))
        engine = replace(
            setup,
            max_num_seqs=max(min(setup.max_num_seqs, batch), 1),
            usable_blocks=min(blocks, setup.usable_blocks),
            tables=_longer(setup.tables, speculation.step_factor, means.context / means.context_by_step),
            speculation=None,
        )
        return cls(by_step, engine)

    def restored(self, records: RunRecords, requests: Requests, setup: EngineSetup) -> RunRecords:
        """Records of the steps as those of the requests, by the token.

        Gaps stay those between steps: as long does a client wait for the next tokens, which come together.
        """
        assert setup.speculation is not None
        begun, later = records.generated_tokens > 0, np.maximum(records.generated_tokens - 1, 0)
        reached = np.minimum(
            begun + np.floor(later * setup.speculation.tokens_per_step), requests.output_tokens
        )
        generated = np.where(records.finished, requests.output_tokens, reached).astype(np.int32)
        series = records.series.copy()
        steps = int(records.generated_tokens.sum(dtype=np.int64))
        series[:, SERIES.index("output_tokens")] *= int(generated.sum(dtype=np.int64)) / max(steps, 1)
        series[:, SERIES.index("blocks_s")] *= setup.usable_blocks / self.setup.usable_blocks
        return replace(records, requests=requests, generated_tokens=generated, series=series)


class _Means(NamedTuple):
    """Means over the steps in which requests get tokens after their first.

    Parameters
    ----------
    context, context_by_step
        Tokens of the request so far, and those of the request by the step.
    prompt_of_step
        Tokens of prompts that come for each such step.
    """

    context: float
    context_by_step: float
    prompt_of_step: float

    @classmethod
    def of(cls, requests: Requests, steps: FloatArray) -> _Means:
        prompt, total = requests.prompt_tokens + 1.0, float(steps.sum())
        answers = requests.output_tokens - 1, steps
        context, by_step = (float(steps @ (prompt + answer / 2)) / total for answer in answers)
        return cls(context, by_step, float(requests.prompt_tokens.sum(dtype=np.int64)) / total)


def _longer(tables: StepTables, factor: float, context: float) -> StepTables:
    longer: dict[str, FloatArray | float] = {
        field.name: getattr(tables, field.name) * factor for field in fields(tables)
    }
    return StepTables(**{**longer, "context_s": tables.context_s * factor * context})  # type: ignore[arg-type]
