"""Target ``vllm``: a script for each GPU, with adapters on the command line or in a resolver's folder."""

from __future__ import annotations

import shlex

from scenarios.exporters.deployment import Deployment, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.flag_releases import has_resolver
from scenarios.exporters.servers import (
    NAMED,
    SHARES_LOST,
    adapter_links,
    bound_host,
    checked_model,
    head,
    lora_module,
    path_sentences,
    release_sentences,
    server_flags,
    unknown_arguments,
)
from scenarios.exporters.steps_between.stepping import Stepping
from scenarios.exporters.yaml_text import comment_lines
from scenarios.text.formatting import listed

NAME = "vllm"
CHECKED = (
    "vLLM, 32 releases from 0.8.0 to 0.32.0: the parsers of vllm/engine/arg_utils.py, "
    "vllm/plugins/lora_resolvers/filesystem_resolver.py"
)

STEPS = Stepping()
"""Its steps are a script (`steps_script`)."""


def serve_words(group: Group, deployment: Deployment) -> list[str]:
    """Words that start a group's engine, without adapters."""
    words = [deployment.settings.vllm, "serve", checked_model(deployment)]
    words += [f"--served-model-name={deployment.base_name}"]
    words += ["--host", bound_host(group), "--port", str(group.port)]
    return words + server_flags(group, deployment)


def module_words(group: Group, deployment: Deployment) -> list[str]:
    """Words that name a group's adapters."""
    if not group.adapters:
        return []
    return ["--lora-modules", *(lora_module(adapter, deployment) for adapter in group.adapters)]


def export(deployment: Deployment) -> Export:
    """Command lines of a deployment."""
    resolver = has_resolver(deployment.engine_version)
    links, left_out = adapter_links(deployment, "resolver") if resolver else ([], [])
    lost, cautions = path_sentences(deployment)
    lost += [SHARES_LOST] * bool(deployment.split)
    cautions += [*release_sentences(deployment), *unknown_arguments(deployment)]
    cautions.append("Servers listen on this host alone, or on every address where hosts are named.")
    if not resolver:
        lost.append(
            f"Adapters in a resolver's folder, which vLLM {deployment.engine_version} does not know: they "
            "are on the command line alone."
        )
    if left_out:
        lost.append(
            f"The resolver's folders lack {listed(left_out, NAMED)}: only a local folder, under a name "
            "without /, can be linked; fetch it and give its folder as its source, or use serve-gN.sh."
        )
    if links:
        cautions.append(
            "The resolver takes an adapter only if base_model_name_or_path in its adapter_config.json is the "
            "name of the base model as the server has it; its servers take requests to load adapters, "
            "which must not reach them from outside."
        )
    files = []
    for group in deployment.groups:
        title = head(f"group: {group.name}", lost, [f"It belongs on host {group.host}.", *cautions])
        words = serve_words(group, deployment)
        text = _script(group, title, words + module_words(group, deployment))
        files.append(ExportedFile(f"serve-g{group.number}.sh", text, executable=True))
        if any(link.path.startswith(f"resolver/g{group.number}/") for link in links):
            text = _script(group, title, words, resolver=True)
            files.append(ExportedFile(f"serve-resolver-g{group.number}.sh", text, executable=True))
    steps = tuple(f"./serve-g{group.number}.sh" for group in deployment.groups)
    return Export(tuple(files), tuple(links), tuple(lost), tuple(cautions), steps)


def _script(group: Group, comments: list[str], words: list[str], *, resolver: bool = False) -> str:
    lines = [f"export CUDA_VISIBLE_DEVICES={','.join(map(str, group.devices))}"]
    if resolver:
        lines += [
            'here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 1',
            "export VLLM_PLUGINS=lora_filesystem_resolver",
            f'export VLLM_LORA_RESOLVER_CACHE_DIR="$here/resolver/g{group.number}"',
            "export VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
        ]
    return "\n".join(
        ["#!/bin/bash", comment_lines(comments) + lines[0], *lines[1:], f"exec {shlex.join(words)}", ""]
    )
