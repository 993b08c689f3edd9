"""KV blocks and texts of the slow reference: which blocks are free, and which beginnings a prompt finds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from twin import Requests


@dataclass(frozen=True)
class Texts:
    """What prompts share, one entry for each request.

    The first ``shared`` tokens of a prompt are those of ``group`` (0: none). With a ``parent`` (not -1) it
    begins with that request's whole prompt and answer instead, as far as it is long. All other tokens are
    its own. The same text under another adapter is another text.
    """

    group: Sequence[int]
    shared: Sequence[int]
    parent: Sequence[int]

    def block_names(self, requests: Requests, size: int) -> list[list[int]]:
        """A number for each full block of each prompt and answer, equal if all up to its end is equal."""
        texts: list[list[Hashable]] = []
        numbers: dict[Hashable, int] = {}
        names: list[list[int]] = []
        for i in range(len(requests)):
            texts.append(self._text(i, texts, requests))
            before: Hashable = ("adapter", int(requests.adapter[i]))
            names.append([])
            for end in range(size, len(texts[i]) + 1, size):
                before = numbers.setdefault((before, *texts[i][end - size : end]), len(numbers))
                names[i].append(before)
        return names

    def _text(self, i: int, texts: list[list[Hashable]], requests: Requests) -> list[Hashable]:
        """Tokens of a prompt and its answer; those of earlier requests are there already."""
        length, answer = int(requests.prompt_tokens[i]), int(requests.output_tokens[i])
        if self.parent[i] >= 0:
            begin = texts[self.parent[i]][:length]
        else:
            shared = min(self.shared[i], length) if self.group[i] else 0
            begin = [("group", self.group[i], k) for k in range(shared)]
        own: list[Hashable] = [("own", i, k) for k in range(length - len(begin))]
        return begin + own + [("answer", i, k) for k in range(answer)]


@dataclass(eq=False)
class Block:
    """A KV block: how many requests use it, and the text that it holds, if a prompt may find it by that."""

    users: int = 0
    name: int | None = None


class Pool:
    """The KV blocks: the free ones in the order in which they are taken, and who holds which text."""

    def __init__(self, blocks: int, unnamed_first: bool) -> None:
        self.free = [Block() for _ in range(blocks)]
        self.unnamed_first = unnamed_first
        self.holders: dict[int, list[Block]] = {}

    def find(self, names: list[int]) -> list[Block]:
        """Blocks of the longest known beginning of a text; of equal blocks the one named first."""
        found = []
        for name in names:
            if not self.holders.get(name):
                break
            found.append(self.holders[name][0])
        return found

    def take(self, found: list[Block], more: int) -> list[Block]:
        """The blocks found, from now on used by one more, and so many new ones, whose text is lost."""
        for block in found:
            if block.users == 0:
                self.free.remove(block)
        new = [self.free.pop(0) for _ in range(more)]
        for block in new:
            if block.name is not None:
                self.holders[block.name].remove(block)
                block.name = None
        for block in found + new:
            block.users += 1
        return found + new

    def name(self, block: Block, name: int) -> None:
        block.name = name
        self.holders.setdefault(name, []).append(block)

    def give_back(self, blocks: list[Block]) -> None:
        """Free the blocks of a request, the last one first."""
        for block in blocks:
            block.users -= 1
        idle = [block for block in reversed(blocks) if block.users == 0]
        first = [block for block in idle if block.name is None and self.unnamed_first]
        self.free = first + self.free + [block for block in idle if block not in first]
