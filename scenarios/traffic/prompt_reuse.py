"""What prompts have in common, so that a prefix cache may spare an engine to compute it again."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from scenarios.base import FrozenModel


class Sessions(FrozenModel):
    """Conversations: each prompt begins with all that was said, and is sent some time after the answer."""

    turns: Annotated[int, Field(ge=2, le=1000)]
    """Requests of one conversation."""
    think_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Mean seconds from an answer's last token to the next request; they are exponential."""


class PromptReuse(NamedTuple):
    """What the prompts of an adapter have in common.

    Parameters
    ----------
    system_prompt
        Tokens that every prompt begins with.
    sessions
        Conversations; None: every request stands alone.
    cached_share
        Share of every prompt that is found in the prefix cache, whatever is computed.
    """

    system_prompt: int = 0
    sessions: Sessions | None = None
    cached_share: float = 0.0

    def mean_prompt_tokens(self, prompt: float, output: float) -> float:
        """Mean tokens of a whole prompt, of the mean tokens that are new in it and of an answer."""
        turns = 1 if self.sessions is None else self.sessions.turns
        # The prompt of turn k has k new parts and k - 1 answers; turns are equally frequent.
        return self.system_prompt + prompt * (turns + 1) / 2 + output * (turns - 1) / 2
