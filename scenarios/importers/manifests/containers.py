"""Containers of pods: the server that one starts, and its kind of GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import AdapterFacts, ImportSourceError, Said, ServerFacts, SourceFacts
from scenarios.importers.images import with_image
from scenarios.importers.links import LabelledServer
from scenarios.importers.manifests.documents import Document

GPU_LABEL = "nvidia.com/gpu.product"
"""Label of a node with the kind of its GPUs (NVIDIA/k8s-device-plugin, GPU feature discovery)."""

_NODE_TERMS = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_DYNAMO = "dynamo.vllm"

_FOLDERS = ("VLLM_LORA_RESOLVER_CACHE_DIR", "NIM_PEFT_SOURCE")
"""Variables that name a folder of adapters, which is the pod's and none of this machine."""


class Engine(NamedTuple):
    """What a container says of the engine in it.

    Parameters
    ----------
    server
        The server that it starts.
    adapters
        The adapters that its command names.
    base_names
        Names by which clients ask for the base model.
    """

    server: ServerFacts
    adapters: tuple[AdapterFacts, ...]
    base_names: tuple[str, ...]


def engine_in(container: Document, name: str) -> Engine | None:
    """The engine in a container; None: it starts none that is known.

    Parameters
    ----------
    container
        The container, as an item of a list or a mapping.
    name
        What the server is called.

    Raises
    ------
    ImportSourceError
        If its command cannot be what it starts.
    """
    environment = variables(container)
    command = [expanded(word, environment) for word in container.words("command")]
    arguments = [expanded(word, environment) for word in container.words("args")]
    image = container.text("image") or ""
    engine = engine_of(container, process_words(image, command, arguments), environment, name)
    if engine is None:
        return None
    server = with_image(engine.server, image, container.origin("image"))
    said = server.takes_adapters
    if said is not None and not said.value and _has_hidden_variables(container):
        server = replace(server, takes_adapters=None)
    return engine._replace(server=server)


def _has_hidden_variables(container: Document) -> bool:
    """Whether a container gets variables of other objects."""
    from_others = container.value("envFrom") is not None
    return from_others or any(entry.value("valueFrom") is not None for entry in container.items("env"))


def engine_of(
    document: Document, words: Sequence[str], environment: Mapping[str, str], name: str
) -> Engine | None:
    """The engine that words start, said of a document.

    Raises
    ------
    ImportSourceError
        If they cannot be meant.
    """
    from scenarios.importers.servers.vllm_command import command_facts  # it imports much

    inside = {key: "" if key in _FOLDERS else value for key, value in environment.items()}
    try:
        facts = command_facts(words, inside, name, document.origin("args"))
    except ImportSourceError as error:
        problem = error.problems[0]
        what = f"is refused: {problem.path} {problem.message}"
        raise document.wrong("args", what, problem.remedy or "correct it") from error
    if facts is None:
        return None
    told = [
        f"Adapters are read from {plain_address(environment[key])} of its pod ({key}): give that folder too."
        for key in _FOLDERS
        if environment.get(key)
    ]
    server = replace(facts.server, notes=(*facts.server.notes, *told))
    return Engine(server, facts.adapters, facts.base_names)


def variables(container: Document) -> dict[str, str]:
    """Variables of a container that have a value in it; secrets are none of them.

    Raises
    ------
    ImportSourceError
        If one has no name, or a value that is no text.
    """
    found: dict[str, str] = {}
    for entry in container.items("env"):
        value = entry.value("value")
        if isinstance(value, str):  # Kubernetes takes nothing else
            found[entry.needed("name")] = expanded(value, found)
    return found


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Text with its variables, as Kubernetes puts them in: ``$(NAME)``, and ``$$`` for ``$``.

    A variable that is not known stays as it is (kubernetes/kubernetes, third_party/forked/golang/expansion).
    """

    def put(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else environment.get(match[1], match[0])

    return _REFERENCE.sub(put, text)


def process_words(image: str, command: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Words of the process of a container.

    Arguments alone belong to the entry point of the image, which is vLLM's server in its own images
    (vllm-project/vllm, docker/Dockerfile); they are taken so where they name a model. Dynamo's worker has
    vLLM's arguments (ai-dynamo/dynamo, examples/backends/vllm/deploy/lora/agg_lora.yaml @01c94133).
    """
    words = [*command, *arguments]
    if _DYNAMO in words:
        return ["vllm", "serve", *words[words.index(_DYNAMO) + 1 :]]
    if command or not arguments or "vllm" not in image.lower() or "serve" in arguments[:2]:
        return words
    told = any(word.partition("=")[0] == "--model" for word in arguments)
    return ["vllm", "serve", *arguments] if told or not arguments[0].startswith("-") else words


def device_of(pod: Document) -> Said[str] | None:
    """The kind of GPU that a pod asks for by the label of its node; None: it does not say."""
    value = pod.inner("nodeSelector").values.get(GPU_LABEL)
    if value is None:
        return device_of_terms(pod, _NODE_TERMS)
    if not isinstance(value, str) or not value:
        raise pod.wrong(f"nodeSelector.{GPU_LABEL}", "is no text", "put it in quotes")
    return Said(value, pod.origin(f"nodeSelector.{GPU_LABEL}"))


def device_of_terms(document: Document, path: str) -> Said[str] | None:
    """The kind of GPU that all terms of a node selector ask for; None: they do not, or name several.

    Of several terms any may choose the node (NodeSelector of Kubernetes' core/v1).
    """
    found: list[Said[str]] = []
    for term in document.items(path):
        asked = [
            Said(one.values[0], term.origin("matchExpressions"))
            for one in term.requirements("matchExpressions")
            if one.key == GPU_LABEL and one.operator == "In" and len(one.values) == 1
        ]
        if len(asked) != 1:
            return None
        found += asked
    return found[0] if len({said.value for said in found}) == 1 else None


def running(
    kind: str, engine: Engine, labels: Mapping[str, str], replicas: int, device: Said[str] | None
) -> SourceFacts:
    """What an object says whose engine runs with some labels.

    Parameters
    ----------
    kind
        What the object is.
    engine
        The engine in it; engines that share its requests inside count as replicas.
    labels
        Labels of its pods.
    replicas
        Number of its pods; with none nothing runs.
    device
        Its kind of GPU.
    """
    server = engine.server
    if not replicas:
        note = f"{server.name} has no replicas: it is left out."
        return SourceFacts(kind, engine.adapters, notes=(note,))
    server = replace(server, replicas=replicas * server.replicas, device=server.device or device)
    link = LabelledServer(server.name, labels, replicas)
    return SourceFacts(kind, engine.adapters, (server,), base_names=engine.base_names, links=(link,))
