"""Target ``systemd``: a unit for each GPU, and a target that starts them all."""

from __future__ import annotations

from scenarios.errors import Problem
from scenarios.exporters.deployment import Deployment, ExportError, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.servers import (
    SHARES_LOST,
    head,
    path_sentences,
    release_sentences,
    unknown_arguments,
)
from scenarios.exporters.steps_between.stepping import Change, Stepping, ready_commands
from scenarios.exporters.vllm import module_words, serve_words
from scenarios.exporters.yaml_text import comment_lines

NAME = "systemd"
CHECKED = "systemd 252: systemd.service(5), section COMMAND LINES, and systemd.syntax(7), section QUOTING"


def commands(change: Change) -> list[str]:
    """What is typed for a step, on each host what is of its engines."""
    target = f"{change.after.settings.name}.target"
    folder = "/etc/systemd/system"
    hosts = [f"{group.name} is on {group.host}" for group in (*change.started, *change.stopped)]
    lines = [f"# {line}" for line in hosts]
    lines += [f"sudo systemctl disable --now {group.name}.service" for group in change.stopped]
    lines += [f"sudo rm -f {folder}/{group.name}.service" for group in change.stopped]
    units = [f"{group.name}.service" for group in change.started]
    listed_target = [file.path for file in change.files if file.path == target]
    if units or listed_target:
        lines.append(f"sudo cp {' '.join([*units, *listed_target])} {folder}/")
    lines.append("sudo systemctl daemon-reload")
    return [*lines, *(f"sudo systemctl enable --now {unit}" for unit in units), *ready_commands(change)]


STEPS = Stepping(commands, named_at_start=True, routed_beside=True)


def quoted(word: str) -> str:
    """A word of ExecStart: in double quotes, with escapes of C, ``%%`` for ``%`` and ``$$`` for ``$``."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'


def export(deployment: Deployment) -> Export:
    """Units of a deployment."""
    command = deployment.settings.vllm
    if "/" in command and not command.startswith("/"):
        message = f'is "{command}", and a unit needs a whole path or a name in the search path'
        raise ExportError([Problem("export.vllm", message, "give the whole path")])
    lost, cautions = path_sentences(deployment)
    cautions += [*release_sentences(deployment), *unknown_arguments(deployment)]
    lost += [SHARES_LOST] * bool(deployment.split)
    cautions.append(f"The user {deployment.settings.user} must exist, and read the adapters.")
    name = deployment.settings.name
    units = [
        ExportedFile(f"{group.name}.service", _service(group, deployment, lost, cautions))
        for group in deployment.groups
    ]
    target = comment_lines([f"All engines of {name}"]) + (
        f"[Unit]\nDescription=Engines of {name}\n"
        f"Wants={' '.join(unit.path for unit in units)}\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    steps = (
        "sudo cp *.service *.target /etc/systemd/system/  # on each host those of its groups",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {name}.target",
    )
    files = (*units, ExportedFile(f"{name}.target", target))
    return Export(files, (), tuple(lost), tuple(cautions), steps)


def _service(group: Group, deployment: Deployment, lost: list[str], cautions: list[str]) -> str:
    words = serve_words(group, deployment) + module_words(group, deployment)
    devices = ",".join(map(str, group.devices))
    name = deployment.settings.name
    first, rest = words[0], words[1:]  # the command itself takes no quotes, and holds nothing to be quoted
    return comment_lines(head(f"group: {group.name}, host {group.host}", lost, cautions)) + (
        f"[Unit]\nDescription=Engine {group.name}\nAfter=network-online.target\n"
        f"Wants=network-online.target\nPartOf={name}.target\n\n"
        f"[Service]\nUser={deployment.settings.user}\nEnvironment=CUDA_VISIBLE_DEVICES={devices}\n"
        f"ExecStart={first} {' '.join(map(quoted, rest))}\nRestart=on-failure\n\n"
        f"[Install]\nWantedBy={name}.target\n"
    )
