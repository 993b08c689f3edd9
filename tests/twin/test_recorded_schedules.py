"""The slow reference plays what vLLM's own scheduler did in each version; each of its rules is needed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.twin.recorded import OWN, SHARED
from twin.engine.rules import SchedulerRules, rules_of

OLDER = sorted((OWN.parent / "vllm_schedules").glob("*/*.json.gz"))
FILES = sorted(OWN.glob("*/*.json.gz"))
MORE = sorted(SHARED.glob("*/*/*.json"))

SIDES = [
    ("0.9.1", "plain", {"passed_over": "reversed"}),
    ("0.9.2", "plain", {"passed_over": "kept"}),
    ("0.13.0", "plain", {"passed_over": "kept"}),
    ("0.14.0", "plain", {"passed_over": "reversed"}),
    ("0.17.1", "plain", {"passed_over": "queued"}),
    ("0.18.0", "plain", {"passed_over": "kept"}),
    ("0.30.0", "plain", {"passed_over": "kept"}),
    ("0.31.0", "plain", {"passed_over": "queued"}),
    ("0.18.1", "plain", {"reserve_full_isl": True}),
    ("0.19.0", "plain", {"reserve_full_isl": False}),
    ("0.30.0", "plain", {"lone_request_ignores_threshold": True}),
    ("0.31.0", "plain", {"lone_request_ignores_threshold": False}),
    ("0.24.0", "plain", {"watermark": 0.0}),
    ("0.23.0", "cached", {"frees_uncached_first": True}),
    ("0.24.0", "cached", {"frees_uncached_first": False}),
    ("0.11.0", "async", {"schedules_after_last": False}),
    ("0.11.1", "async", {"schedules_after_last": True}),
    ("0.32.0", "async", {"slots_of_all_running": True}),
    ("0.33.0", "async", {"slots_of_all_running": False}),
]
"""What was recorded on each side of a change, and the rule of the other side."""


def label(path: Path) -> str:
    return "/".join(path.parts[-2:]).removesuffix(".gz").removesuffix(".json")


def test_versions_on_both_sides_of_each_change_are_here() -> None:
    assert {(f"v{version}", f"{kind}.json.gz") for version, kind, _ in SIDES} <= {f.parts[-2:] for f in FILES}


@pytest.mark.slow  # the compiled engine plays them in test_replay.py
@pytest.mark.parametrize("path", [*OLDER, *FILES, *MORE], ids=label)
def test_the_reference_plays_what_was_recorded(
    path: Path, reference: ModuleType, recorded: ModuleType
) -> None:
    for name, document in recorded.read(path):
        played = recorded.play(reference, document)
        try:
            recorded.assert_played(played, document["result"])
        except AssertionError as error:
            raise AssertionError(f"{label(path)} {name}: {error}") from error


@pytest.mark.parametrize(("version", "kind", "other"), SIDES, ids=lambda v: str(v))
def test_by_the_rule_of_the_other_side_a_recording_is_not_played(
    version: str, kind: str, other: dict[str, object], reference: ModuleType, recorded: ModuleType
) -> None:
    def is_played(document: dict[str, object]) -> bool:
        try:
            recorded.assert_played(recorded.play(reference, document, **other), document["result"])
        except AssertionError:
            return False
        return True

    assert not all(is_played(d) for _, d in recorded.read(OWN / f"v{version}" / f"{kind}.json.gz"))


@pytest.mark.parametrize(
    ("before", "since", "changed"),
    [
        ("0.9.1", "0.9.2", {"passed_over": "reversed"}),
        ("0.9.2", "0.10.0", {"schedules_after_last": True}),
        ("0.11.0", "0.11.1", {"schedules_after_last": False}),
        ("0.13.0", "0.14.0", {"passed_over": "kept", "async_scheduling": True}),
        ("0.17.1", "0.18.0", {"passed_over": "queued"}),
        ("0.18.1", "0.19.0", {"reserve_full_isl": True}),
        ("0.23.0", "0.24.0", {"frees_uncached_first": True}),
        ("0.30.0", "0.31.0", {"passed_over": "kept", "lone_request_ignores_threshold": True}),
        ("0.32.0", "0.33.0", {"slots_of_all_running": True}),
    ],
)
def test_rules_change_with_the_version(before: str, since: str, changed: dict[str, object]) -> None:
    assert rules_of(since) == rules_of(before).model_copy(update=changed)
    assert rules_of(since) != rules_of(before)


@pytest.mark.parametrize("version", ["0.8.5", "v0.8.5.post1", "0.9", "0.9.1+cpu"])
def test_the_defaults_are_the_rules_of_the_version_of_the_measurements(version: str) -> None:
    assert rules_of(version) == SchedulerRules()


@pytest.mark.parametrize("version", ["newest", "", "0", "main"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"is no version of vLLM; write it like 0\.8\.5"):
        rules_of(version)
