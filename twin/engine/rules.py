"""Scheduling rules of vLLM's V1 engine, by version."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from scenarios import FrozenModel

PassedOver = Literal["kept", "reversed", "queued"]
"""What becomes of waiting requests that are passed over for want of an adapter slot."""

Version = tuple[int, int, int]

NEWEST: Version = (0, 33, 0)
"""Newest version whose rules were read."""

ASYNC_SINCE: Version = (0, 10, 0)
"""First version that can schedule a step while the one before it runs."""


class SchedulerRules(FrozenModel):
    """Scheduling rules that differ between versions of vLLM; part of the engine profile.

    The defaults are those of 0.8.5. Source: ``vllm/v1/core`` of every version; docs/vllm-versions.md tells
    which change came when, and which versions were recorded.
    """

    reserve_full_isl: bool = Field(
        default=False,
        description="Admit a waiting request only if the blocks of its whole prompt are free.",
    )
    watermark: float = Field(
        default=0.0, ge=0, lt=1, description="Share of blocks kept free when a request joins others."
    )
    lone_request_ignores_threshold: bool = Field(
        default=False,
        description="Do not apply long_prefill_token_threshold when one request is running or waiting.",
    )
    passed_over: PassedOver = Field(
        default="kept",
        description="Whether requests that are passed over for want of an adapter slot keep their places, "
        "are put back in reversed order in every step, or wait in a queue of their own before all others.",
    )
    frees_uncached_first: bool = Field(
        default=False,
        description="Use freed blocks that hold no cached text before all others, not after them.",
    )
    schedules_after_last: bool = Field(
        default=False,
        description="Under asynchronous scheduling, schedule a request once more while its last token is "
        "under way.",
    )
    async_scheduling: bool = Field(
        default=False,
        description="Schedule each step while the one before it runs, if the engine's argument says nothing.",
    )
    slots_of_all_running: bool = Field(
        default=False,
        description="Count the adapters of all running requests against max_loras, not only of those that "
        "the step schedules.",
    )

    def is_async(self, argument: bool | None) -> bool:
        """Whether steps are scheduled while others run, by the engine's argument if there is one."""
        return self.async_scheduling if argument is None else argument

    def scheduling(self, argument: bool | None) -> SchedulerRules:
        """The rules of an engine on which steps are scheduled as a measured one's argument says, if it does.

        vLLM decides it by platform too: on CPUs it never runs ahead (vllm/platforms/cpu.py, 0.32.0).
        """
        return self.model_copy(update={"async_scheduling": self.is_async(argument)})

    def changed(self, reserve_full_isl: bool | None, watermark: float | None) -> SchedulerRules:
        """The rules, but for what an engine's own arguments say; None where they say nothing."""
        own = {"reserve_full_isl": reserve_full_isl, "watermark": watermark}
        given = {name: value for name, value in own.items() if value is not None}
        return self.model_copy(update=given) if given else self


def rules_of(version: str) -> SchedulerRules:
    """Rules of a version of vLLM, with its default arguments; of an older one than 0.8.5 those of 0.8.5.

    Raises
    ------
    ValueError
        If the version does not start with two numbers.
    """
    release = release_of(version)
    passed_over: PassedOver = "kept"
    if (0, 9, 2) <= release < (0, 14, 0):
        passed_over = "reversed"
    elif (0, 18, 0) <= release < (0, 31, 0):
        passed_over = "queued"
    return SchedulerRules(
        reserve_full_isl=release >= (0, 19, 0),
        lone_request_ignores_threshold=release >= (0, 31, 0),
        passed_over=passed_over,
        frees_uncached_first=release >= (0, 24, 0),
        schedules_after_last=(0, 10, 0) <= release < (0, 11, 1),
        async_scheduling=release >= (0, 14, 0),
        slots_of_all_running=release >= (0, 33, 0),
    )


def release_of(version: str) -> Version:
    """The numbers of a version: 0.8.5.post1 is (0, 8, 5).

    Raises
    ------
    ValueError
        If it does not start with two numbers.
    """
    match = re.match(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?!\d)", version.strip())
    if match is None:
        raise ValueError(f'"{version}" is no version of vLLM; write it like 0.8.5')
    return int(match[1]), int(match[2]), int(match[3] or 0)


def is_unread(version: str) -> bool:
    """Whether a version is newer than all whose scheduler was read, so that it may schedule otherwise."""
    return release_of(version) > NEWEST


def unread_in_words(device: str, version: str) -> str:
    """That a device's version is newer than those."""
    newest = ".".join(str(number) for number in NEWEST)
    return (
        f"vLLM {version} of {device} is newer than {newest}, the newest release whose scheduler was read: it "
        "is taken to schedule alike"
    )
