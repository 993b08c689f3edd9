"""What servers of several targets are started with: arguments that a release has, and adapters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.engine_flags import flags
from scenarios.exporters.exported import ExportedLink
from scenarios.exporters.flag_releases import has_argument
from scenarios.text.formatting import listed

NAMED = 5
"""Most names in one sentence."""

ALWAYS = frozenset(
    {
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "gpu_memory_utilization",
        "block_size",
        "dtype",
    }
)
"""Arguments that are given even at the value that a release would choose, for releases differ in it."""

_AT_DEFAULT = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "enable_expert_parallel": False,
    "kv_cache_dtype": "auto",
    "enforce_eager": False,
    "cpu_offload_gb": 0.0,
    "fully_sharded_loras": False,
    "lora_dtype": "auto",
    "specialize_active_lora": False,
    "long_prefill_token_threshold": 0,
}
"""Defaults that are the same in every release from 0.8.0 to 0.32.0 (vllm/engine/arg_utils.py)."""

_OF_PLANS = frozenset({"data_parallel_size"})
"""Arguments that a plan has taken into account: each engine of the plan is one of those behind a server."""

_OF_ADAPTERS = frozenset(
    {
        "enable_lora",
        "max_loras",
        "max_lora_rank",
        "max_cpu_loras",
        "fully_sharded_loras",
        "lora_dtype",
        "lora_target_modules",
        "specialize_active_lora",
    }
)
_MEASURED = frozenset({"mean_acceptance_length", "step_factor"})
"""Keys of speculative_config that are ours (scenarios/engine/speculation.py)."""

_RELEASE = re.compile(r":v?(\d+\.\d+\.\d+)(?:$|[^0-9.])")
"""A release in the tag of an image."""

SHARES_LOST = "Shares of adapters that several servers hold: requests are routed by --to routing's files."


class ServerArguments(NamedTuple):
    """Arguments of a server of vLLM, and the names of those that its release does not have."""

    values: dict[str, object]
    unknown: tuple[str, ...]


def server_arguments(group: Group, release: str | None) -> ServerArguments:
    """What the twin judged a group with, less what changes nothing there or is no argument of vLLM's."""
    values: dict[str, object] = {}
    unknown: list[str] = []
    for name, value in group.arguments.items():
        if value is None or name in _OF_PLANS or (not group.adapters and name in _OF_ADAPTERS):
            continue
        if name not in ALWAYS and name in _AT_DEFAULT and value == _AT_DEFAULT[name]:
            continue
        if not has_argument(name, release):
            unknown.append(name)
        elif name == "speculative_config" and isinstance(value, dict):
            values[name] = {k: v for k, v in value.items() if v is not None and k not in _MEASURED}
        else:
            values[name] = value
    return ServerArguments(values, tuple(unknown))


def server_flags(group: Group, deployment: Deployment) -> list[str]:
    """The words of a server's command line that say the arguments of a group."""
    release = deployment.engine_version
    return list(flags(server_arguments(group, release).values, release))


def unknown_arguments(deployment: Deployment) -> Iterator[str]:
    """Say which arguments of the plan its release of vLLM does not have, and that they are left out."""
    names = {
        n: None for g in deployment.groups for n in server_arguments(g, deployment.engine_version).unknown
    }
    if names:
        release = deployment.engine_version or "0.32.0"
        yield f"Arguments that vLLM {release} does not have are left out: {', '.join(names)}."


def check_served(deployment: Deployment, left_out: Sequence[str], taken: str) -> None:
    """Refuse an export in which no adapter would be served.

    Parameters
    ----------
    left_out
        Names of the adapters that the target cannot fetch.
    taken
        What it takes, and what is to be done.

    Raises
    ------
    ExportError
        If those are all that there are.
    """
    names = {adapter.name for group in deployment.groups for adapter in group.adapters}
    if names and names <= set(left_out):
        message = f"have no source that can be fetched ({listed(sorted(names), NAMED)}): {taken}"
        raise ExportError([Problem("adapters", message, "change adapters[].source in the scenario")])


def release_sentences(deployment: Deployment, image: str | None = None) -> list[str]:
    """Say as which release of vLLM the plan was judged, and what runs it.

    Parameters
    ----------
    image
        The image of its engines; None: they are of no image that is known.
    """
    judged = deployment.engine_version
    if judged is None:
        return []
    if image is None:
        return [f"The plan was judged as vLLM {judged}: engines of another release may do less."]
    written = _RELEASE.search(image)
    if written is None:
        return [
            f"The plan was judged as vLLM {judged}, and {image} does not say its release: let it be that."
        ]
    if written[1] == judged:
        return [f"The plan was judged as vLLM {judged}, the release of {image}."]
    return [
        f"The plan was judged as vLLM {judged}, and {image} is of another release, of which the twin said "
        f"nothing: name an image of {judged} (export.image), or measure {written[1]} (lorapack measure)."
    ]


def checked_model(deployment: Deployment) -> str:
    """The base model as a word of a command line.

    Raises
    ------
    ExportError
        If it would be read as an option.
    """
    if deployment.model.startswith("-"):
        message = f'is "{deployment.model}", which a command line takes for an option'
        raise ExportError([Problem("export.model", message, "give a folder as ./NAME")])
    return deployment.model


def adapter_path(adapter: DeployedAdapter, deployment: Deployment) -> str:
    """Where an engine finds an adapter: its folder, its name on the hub, or its place below adapters_dir.

    Raises
    ------
    ExportError
        If its name would lead out of that folder.
    """
    if adapter.location is not None and adapter.location.kind in ("folder", "hub"):
        return adapter.location.path
    path = below_adapters_dir(adapter, deployment)
    if path is None:
        message = f'is "{adapter.name}", which is no folder below {deployment.settings.adapters_dir}'
        raise ExportError([Problem("adapters", message, "give it a source")])
    return path


def below_adapters_dir(adapter: DeployedAdapter, deployment: Deployment) -> str | None:
    """An adapter's folder below adapters_dir, by its name; None where that would lead out of it."""
    name = adapter.name
    if name.startswith("/") or {".", ".."} & set(name.split("/")) or not name.isprintable():
        return None
    return f"{deployment.settings.adapters_dir.rstrip('/')}/{name}"


def path_sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    """What is lost, and what is to be watched, of where adapters lie."""
    adapters = {a.name: a for group in deployment.groups for a in group.adapters}.values()
    below = deployment.settings.adapters_dir
    remote = [a.name for a in adapters if a.location and a.location.kind not in ("folder", "hub")]
    silent = [a.name for a in adapters if a.location is None]
    lost, cautions = [], []
    if remote:
        names = listed(remote, NAMED)
        lost.append(f"Sources that the engine cannot read itself ({names}): fetch each to {below}/NAME.")
    if silent:
        names = listed(silent, NAMED)
        cautions.append(f"The plan names no source of {names}: each is expected at {below}/NAME.")
    return lost, cautions


def lora_module(adapter: DeployedAdapter, deployment: Deployment) -> str:
    """An adapter as a word of ``--lora-modules`` (vllm/entrypoints/launchers/cli_args.py of 0.32.0)."""
    path = adapter_path(adapter, deployment)
    return json.dumps({"name": adapter.served_name, "path": path, "base_model_name": deployment.base_name})


def link_name(served_name: str) -> str | None:
    """A served name as the name of a link; None where it would be no name of one entry of a folder."""
    unsafe = "/" in served_name or served_name in (".", "..") or not served_name.isprintable()
    return None if unsafe or len(served_name.encode()) > 255 else served_name


def adapter_links(deployment: Deployment, below: str) -> tuple[list[ExportedLink], list[str]]:
    """Links to the adapters of each group in folders ``below/gN``, and names of adapters that have none.

    Only a folder can be linked, under a name that is one entry of another folder.
    """
    links: list[ExportedLink] = []
    left_out: dict[str, None] = {}
    for group in deployment.groups:
        for adapter in group.adapters:
            name = link_name(adapter.served_name)
            if name is None or (adapter.location is not None and adapter.location.kind != "folder"):
                left_out[adapter.name] = None
                continue
            target = adapter_path(adapter, deployment)
            links.append(ExportedLink(f"{below}/g{group.number}/{name}", target))
    return links, list(left_out)


def bound_host(group: Group) -> str:
    """The address that a server listens at: of this host alone where routers run on it too."""
    return "127.0.0.1" if group.host == "127.0.0.1" else "0.0.0.0"


def head(title: str, lost: list[str], cautions: list[str]) -> list[str]:
    """Comments above a file: what it is, what it does not express, and what to watch."""
    lines = [title]
    lines += ["Not expressed:", *(f"- {one}" for one in lost)] if lost else []
    lines += ["Mind:", *(f"- {one}" for one in cautions)] if cautions else []
    return lines
