"""The distinct cases of losses: GPUs of equal content and engine are alike."""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.survival.pieces import LoadedGPU
from optimizer.survival.spare import Spare
from scenarios import Placement, Scenario


def distinct_losses(
    gpus: Sequence[LoadedGPU], placement: Placement, spare: Spare, scenario: Scenario
) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """Numbers of the GPUs that are lost in each distinct case, and the other losses that are alike."""
    kind = {gpu.number: repr(gpu.content) for gpu in gpus}
    first: dict[tuple[str, ...], tuple[int, ...]] = {}
    cases: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for lost in spare.losses(placement, scenario):
        key = tuple(sorted(kind[number] for number in lost))
        if key in first:
            cases[first[key]].append(lost)
        else:
            first[key] = lost
            cases[lost] = []
    return cases
