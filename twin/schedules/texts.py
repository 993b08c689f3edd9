"""Whose text the prompts of a schedule begin with, as the engine's prefix cache sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twin.engine.requests import IntArray

NONE = -1
"""A text that begins with no other."""


def common_texts(rows: Sequence[Sequence[float]]) -> tuple[IntArray, IntArray]:
    """What each prompt begins with: `Requests.continues` and `Requests.common_tokens`.

    Cached blocks belong to one adapter, so that the text of a group, or of a request of another adapter, is a
    text of its own for every adapter whose prompts begin with it.

    Parameters
    ----------
    rows
        Arrival, prompt, output, adapter, group, tokens of the group's text, and parent of each request.
    """
    texts = _Texts(rows)
    for k, row in enumerate(rows):
        texts.set_common(k, int(row[3]), row)
    return np.array(texts.continues, dtype=np.int32), np.array(texts.common, dtype=np.int32)


class _Texts:
    """Texts by number: those of the requests first, then those that are none's own."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.rows = rows
        self.continues, self.common = [NONE] * len(rows), [0] * len(rows)
        self._numbers: dict[tuple[str, int, int], int] = {}

    def set_common(self, text: int, adapter: int, row: Sequence[float]) -> None:
        """Say what a text begins with that an adapter reads as the prompt of a row."""
        prompt, group, shared, parent = (int(row[k]) for k in (1, 4, 5, 6))
        if parent >= 0:
            tokens = sum(int(self.rows[parent][k]) for k in (1, 2))
            self.continues[text], self.common[text] = self._of_request(adapter, parent), min(tokens, prompt)
        elif group and shared:
            self.continues[text] = self._new("group", adapter, group)[0]
            self.common[text] = min(shared, prompt)

    def _of_request(self, adapter: int, request: int) -> int:
        """The text of a request as an adapter reads it."""
        row = self.rows[request]
        if int(row[3]) == adapter:
            return request
        text, new = self._new("request", adapter, request)
        if new:
            self.set_common(text, adapter, row)
        return text

    def _new(self, kind: str, adapter: int, number: int) -> tuple[int, bool]:
        key = (kind, adapter, number)
        if key in self._numbers:
            return self._numbers[key], False
        self._numbers[key] = len(self.continues)
        self.continues.append(NONE)
        self.common.append(0)
        return self._numbers[key], True
