"""A picture of where a GPU's memory goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scenarios.plots import Stack, draw_stacks
from twin.startup.text import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from twin.startup.answer import MemoryAnswer


def draw_memory(answers: Sequence[MemoryAnswer], ax: Axes | None = None) -> Figure:
    """Memory of a GPU of each answer, stacked part by part; hatched where the engine does not start.

    A line marks what the GPU has, where its parts would take more.

    Parameters
    ----------
    answers
        One bar each, the first on top.
    ax
        Axes to draw in, in place of those of a new figure.
    """
    return draw_stacks(ax, _title(answers), [_stack(answer) for answer in answers], "GiB of one GPU")


def _stack(answer: MemoryAnswer) -> Stack:
    parts = {words: getattr(answer.plan, name) for name, words in PARTS}
    return Stack(_name(answer), parts, answer.starts, answer.plan.gpu_gib)


def _title(answers: Sequence[MemoryAnswer]) -> str:
    first = answers[0]
    slots = f"{first.max_loras} slots of rank {first.max_lora_rank}" if first.max_loras else "no LoRA"
    return f"{first.model}, vLLM {first.engine_version}, {slots}"


def _name(answer: MemoryAnswer) -> str:
    name = answer.device or f"{answer.plan.gpu_gib:g} GiB"
    return name if answer.starts else f"{name}: does not start"
