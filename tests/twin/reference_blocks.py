"""Texts and KV blocks of the slow reference: which blocks are free, and which of them a prompt finds."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from twin import Requests


def block_names(requests: Requests, block_size: int) -> list[list[int]]:
    """A number for each full block of each prompt and answer, equal if all tokens up to its end are equal.

    The same text under another adapter is another text (``generate_block_hash_extra_keys`` in
    vllm/v1/core/kv_cache_utils.py).
    """
    texts = Texts(requests)
    numbers: dict[Hashable, int] = {}
    names: list[list[int]] = []
    for i in range(len(requests)):
        text = texts.of_request(i)
        name: Hashable = ("adapter", int(requests.adapter[i]))
        names.append([])
        for end in range(block_size, len(text) + 1, block_size):
            name = numbers.setdefault((name, *text[end - block_size : end]), len(numbers))
            names[i].append(name)
    return names


class Texts:
    """Tokens of all texts: those of the requests, and those that are no request's own."""

    def __init__(self, requests: Requests) -> None:
        assert requests.continues is not None
        assert requests.common_tokens is not None
        self.requests = requests
        self.continues, self.common = requests.continues.tolist(), requests.common_tokens.tolist()

    def of_request(self, i: int) -> list[Hashable]:
        """Prompt and answer."""
        prompt, answer = int(self.requests.prompt_tokens[i]), int(self.requests.output_tokens[i])
        return self.begin(i, prompt) + [("answer", i, k) for k in range(answer)]

    def begin(self, text: int, tokens: int) -> list[Hashable]:
        """So many tokens of a text: those of the text that it begins with, then its own."""
        before, common = self.continues[text], min(self.common[text], tokens)
        begin: list[Hashable] = []
        if before >= len(self.requests):
            begin = self.begin(before, common)
        elif before >= 0:
            begin = self.of_request(before)[:common]
        return begin + [("own", text, k) for k in range(len(begin), tokens)]


@dataclass(eq=False)
class Block:
    """A KV block: how many requests use it, and the text that it holds, if a prompt may find it by that."""

    users: int = 0
    name: int | None = None


class Pool:
    """The KV blocks: the free ones in the order in which they are taken, and who holds which text."""

    def __init__(self, blocks: int, uncached_first: bool) -> None:
        self.free = [Block() for _ in range(blocks)]
        self.uncached_first = uncached_first
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
        first = [block for block in idle if block.name is None and self.uncached_first]
        self.free = first + self.free + [block for block in idle if block not in first]
