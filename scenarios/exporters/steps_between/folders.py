"""Steps of a target as folders, one for each step of a wave: what it changes, and a script that does it.

What runs on and is not to change is in no folder, so that no step can start it again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

from scenarios.exporters.deployment import Deployment, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.steps_between.actions import Load, Start, Stop, Switch, Unload
from scenarios.exporters.steps_between.stepping import PARTS, Change, Part, Stepping, route_commands
from scenarios.exporters.steps_between.waves import DeployedWave
from scenarios.exporters.yaml_text import comment_lines, yaml_text

SCRIPT = "apply.sh"
DELETIONS = "delete.yaml"
"""Objects that a step deletes, by their names."""

Target = Callable[[Deployment], Export]
Objects = dict[tuple[object, ...], Mapping[str, object]]
"""Objects of Kubernetes by what names them."""

IN_ORDER = "Run the scripts in this order, each when the one before has ended and what it says is so."
NOTHING = "There is no file: what the steps change, the target cannot say."

_ACTIONS = {"1-load": (Start, Load), "2-switch": (Switch,), "3-unload": (Unload, Stop)}


def step_folders(
    deployed: Sequence[DeployedWave], stepping: Stepping, target: Target, routes: Target
) -> Export:
    """The files of every step that changes something, below ``wave-N/STEP``.

    Parameters
    ----------
    deployed
        The waves.
    stepping
        How the target is changed.
    target, routes
        The files of a deployment for the target, and for the target ``routing``.
    """
    files: list[ExportedFile] = []
    scripts: list[str] = []
    for number, one in enumerate(deployed, start=1):
        for step in _steps(one, stepping):
            if stepping.routed_beside and step.part == "2-switch":
                made = routes(step.after)
                change = Change(step.part, step.after, made.files, (), (), {}, deletes=False)
                typed: Callable[[Change], Sequence[str]] = route_commands
            else:
                made, change = _changes(step, target)
                typed = stepping.commands
            folder = f"wave-{number}/{step.part}"
            script = ExportedFile(SCRIPT, _script(change, typed), executable=True)
            files += [replace(file, path=f"{folder}/{file.path}") for file in (script, *made.files)]
            scripts.append(f"./{folder}/{SCRIPT}")
    ends = target(deployed[-1].unload)
    order = IN_ORDER if scripts else NOTHING
    cautions = tuple(dict.fromkeys((order, *stepping.cautions, *ends.cautions)))
    return Export(tuple(files), (), ends.lost, cautions, tuple(scripts))


@dataclass(frozen=True)
class _Step:
    """Two states, and which step of a wave lies between them."""

    part: Part
    before: Deployment
    after: Deployment


def _steps(one: DeployedWave, stepping: Stepping) -> Iterator[_Step]:
    """The steps of a wave that do anything, as far as the target can tell them apart."""
    states = dict(zip(PARTS, (one.load, one.switch, one.unload), strict=True))
    before = one.before
    for part in PARTS:
        if part not in stepping.parts:
            continue
        does = any(isinstance(action, _ACTIONS[part]) for action in one.wave.actions)
        if does:
            yield _Step(part, before, states[part])
        before = states[part]


def _changes(step: _Step, target: Target) -> tuple[Export, Change]:
    """What a step changes of a target's files."""
    whole, was = target(step.after), target(step.before)
    numbers = {group.number for group in step.before.groups}
    after = {group.number for group in step.after.groups}
    running = [group.name for group in step.after.groups if group.number in numbers]
    files, old = [], {file.path: file.text for file in was.files}
    before, now = _objects(was.files), _objects(whole.files)
    for file in whole.files:
        if file.objects:
            changed = [
                o for o in file.objects if before.get(_key(o)) != o and not _runs_on(o, before, running)
            ]
            if changed:
                files.append(replace(file, text=_rewritten(file.text, changed), objects=tuple(changed)))
        elif old.get(file.path) != file.text:
            files.append(file)
    gone = [_named(one) for key, one in before.items() if key not in now]
    if gone:
        files.append(ExportedFile(DELETIONS, yaml_text(gone, ["Objects that this step deletes."])))
    change = Change(
        step.part,
        step.after,
        tuple(file for file in files if file.path != DELETIONS),
        tuple(group for group in step.after.groups if group.number not in numbers),
        tuple(group for group in step.before.groups if group.number not in after),
        _labels(before, now, running),
        bool(gone),
    )
    return replace(whole, files=tuple(files)), change


def _objects(files: Iterable[ExportedFile]) -> Objects:
    return {_key(one): one for file in files for one in file.objects}


def _key(one: Mapping[str, object]) -> tuple[object, ...]:
    about = cast("Mapping[str, object]", one.get("metadata", {}))
    return one.get("apiVersion"), one.get("kind"), about.get("namespace"), about.get("name")


def _runs_on(one: Mapping[str, object], before: Objects, running: Container[str]) -> bool:
    """Whether an object is the engine of a group that runs and goes on, so that it must not be touched."""
    return one.get("kind") == "Deployment" and _key(one) in before and _key(one)[3] in running


def _named(one: Mapping[str, object]) -> dict[str, object]:
    api, kind, namespace, name = _key(one)
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _rewritten(text: str, objects: Sequence[Mapping[str, object]]) -> str:
    """A file with some of its objects, under the comments that it has."""
    head = takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True))
    return "".join(head) + yaml_text(objects)


def _labels(before: Objects, after: Objects, running: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Labels of pods that run on which the step adds, or takes off, by the name of their group."""
    found: dict[str, dict[str, str | None]] = {}
    for key, one in after.items():
        if key not in before or not _runs_on(one, before, running):
            continue
        was, now = _pod_labels(before[key]), _pod_labels(one)
        changed: dict[str, str | None] = {label: v for label, v in now.items() if was.get(label) != v}
        changed |= {label: None for label in was if label not in now}
        if changed:
            found[str(key[3])] = changed
    return found


def _pod_labels(one: Mapping[str, object]) -> Mapping[str, str]:
    template = cast("dict[str, Any]", one)["spec"]["template"]
    return cast("Mapping[str, str]", template["metadata"]["labels"])


def _script(change: Change, typed: Callable[[Change], Sequence[str]]) -> str:
    lines = ["#!/bin/bash", "set -euo pipefail", 'cd -- "$(dirname -- "${BASH_SOURCE[0]}")"']
    return "\n".join(lines) + "\n" + comment_lines(_waits(change.stopped)) + "\n".join(typed(change)) + "\n"


def _waits(stopped: Sequence[Group]) -> list[str]:
    """Say that engines must have no requests before they stop (vllm/v1/metrics/loggers.py)."""
    if not stopped:
        return []
    names = ", ".join(group.name for group in stopped)
    return [
        f"Before you run this, wait until no request is left on {names}: vllm:num_requests_running and "
        "vllm:num_requests_waiting of /metrics are 0 there."
    ]
