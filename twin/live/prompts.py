"""Prompts of exact lengths, as ids of tokens: random ones, with what they have in common with others."""

from __future__ import annotations

import numpy as np

from twin.engine.requests import IntArray, Requests

FIRST_ID, END_ID = 100, 1000
"""Ids that are drawn: every vocabulary has them, and special tokens lie outside of them, as a rule."""


class Prompts:
    """The prompts of some requests.

    They are ids because no client knows the server's tokenizer, and a prompt must have the very length that
    is simulated. Two that have nothing in common by `Requests.continues` share no block of a prefix cache,
    as they are random.

    Parameters
    ----------
    requests
        Lengths, and which prompt begins with which text.
    seed
        Of the ids; another seed gives prompts that no earlier run left in a cache.
    """

    def __init__(self, requests: Requests, seed: int) -> None:
        self._requests, self._seed = requests, seed
        self._answers: dict[int, IntArray] = {}
        self._awaited = self._continued_answers()

    def of(self, k: int) -> list[int]:
        """Ids of the prompt of request k, whose length is ``requests.prompt_tokens[k]``."""
        ids: list[int] = self._text(k, int(self._requests.prompt_tokens[k])).tolist()
        return ids

    def awaits_answer(self, k: int) -> bool:
        """Whether a later prompt goes on from the answer to request k."""
        return k in self._awaited

    def answered(self, k: int, ids: list[int]) -> None:
        """Note what request k was answered; without it a later prompt has other tokens there."""
        if k in self._awaited:
            self._answers[k] = np.array(ids, dtype=np.int32)

    def _continued_answers(self) -> frozenset[int]:
        """Requests with whose answers, in part or whole, others begin."""
        requests = self._requests
        if requests.continues is None or requests.common_tokens is None:
            return frozenset()
        of = np.asarray(requests.continues)
        whose = (of >= 0) & (of < len(requests))
        beyond = requests.common_tokens[whose] > requests.prompt_tokens[of[whose]]
        return frozenset(of[whose][beyond].tolist())

    def _text(self, k: int, length: int) -> IntArray:
        """The first tokens of the k-th text: of a request its prompt and answer, else one of nobody's own."""
        requests, begun = self._requests, np.empty(0, dtype=np.int32)
        if k < len(requests) and length > requests.prompt_tokens[k]:
            prompt = self._text(k, int(requests.prompt_tokens[k]))
            answer = self._answers.get(k, np.empty(0, dtype=np.int32))
            begun = np.concatenate([prompt, answer])[:length]
        elif requests.continues is not None and requests.common_tokens is not None:
            whose = int(requests.continues[k])
            if whose >= 0:
                begun = self._text(whose, min(int(requests.common_tokens[k]), length))
        drawn = np.random.default_rng([self._seed, k, len(begun)])
        rest = drawn.integers(FIRST_ID, END_ID, size=length - len(begun), dtype=np.int32)
        return np.concatenate([begun, rest])
