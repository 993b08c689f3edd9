"""What is typed to take a step in a cluster: apply, wait, and delete what is no more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from scenarios.exporters.kubernetes.pods import GROUP_LABEL
from scenarios.exporters.steps_between.folders import DELETIONS
from scenarios.exporters.steps_between.stepping import Change


def kubectl_commands(change: Change) -> list[str]:
    """Objects are applied in the order of their files, engines awaited before what is said of them.

    Pods get labels before an object asks for them, and lose them afterwards.
    """
    files = [file.path for file in change.files if file.objects]
    engines = [path for path in files if path == "engines.yaml"]
    lines = [f"kubectl apply -f {path}" for path in engines]
    lines += rollout_commands(change)
    lines += _labelled(change, added=True)
    lines += [f"kubectl apply -f {path}" for path in files if path not in engines]
    return [*lines, *_labelled(change, added=False), *delete_commands(change)]


def rollout_commands(change: Change) -> list[str]:
    """Wait for the engines that start."""
    space = change.after.settings.namespace
    return [
        f"kubectl -n {space} rollout status deployment/{group.name} --timeout=1h" for group in change.started
    ]


def delete_commands(change: Change) -> list[str]:
    """Delete what is no more: `kubectl apply` leaves it."""
    return [f"kubectl delete --ignore-not-found -f {DELETIONS}"] if change.deletes else []


def _labelled(change: Change, *, added: bool) -> Iterator[str]:
    space = change.after.settings.namespace
    for name, labels in change.labels.items():
        words = _label_words(labels, added=added)
        if words:
            yield f"kubectl -n {space} label pods -l {GROUP_LABEL}={name} --overwrite {shlex.join(words)}"


def _label_words(labels: Mapping[str, str | None], *, added: bool) -> list[str]:
    return [
        f"{label}-" if value is None else f"{label}={value}"
        for label, value in labels.items()
        if (value is not None) == added
    ]
