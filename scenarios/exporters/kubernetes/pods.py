"""Engines as Deployments of Kubernetes: container, probes, GPUs, volumes and secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from scenarios.errors import Problem
from scenarios.exporters.deployment import Deployment, ExportError, Group
from scenarios.exporters.exported import ExportedFile
from scenarios.exporters.servers import (
    checked_model,
    server_flags,
)
from scenarios.exporters.vllm import module_words
from scenarios.exporters.yaml_text import yaml_text

Object = dict[str, object]

PORT = 8000
"""Port of every engine, each in a pod of its own."""
GROUP_LABEL = "lorapack-group"
"""Label of a pod with the name of its group."""
SERVED_NAME = "lorapack/served-name"
"""Annotation with the name of an adapter in the plan's deployment, where an object has another."""
CACHE = "/cache"
"""Folder of a container into which the engine fetches what is on the hub."""


def literal(text: str) -> str:
    """Text that Kubernetes leaves as it is in words and values of a container.

    ``$(NAME)`` names a variable there, and ``$$`` stands for ``$``
    (k8s.io/kubernetes, third_party/forked/golang/expansion/expand.go).
    """
    return text.replace("$", "$$")


def manifest(path: str, objects: Sequence[Mapping[str, object]], comments: Sequence[str]) -> ExportedFile:
    """A file of objects."""
    return ExportedFile(path, yaml_text(objects, comments), objects=tuple(objects))


def metadata(
    name: str, deployment: Deployment, labels: Mapping[str, str] | None = None, served_name: str | None = None
) -> Object:
    """The metadata of an object: its name, the namespace of the deployment, and labels.

    Parameters
    ----------
    served_name
        Name of the adapter that it is about, as clients know it, where its own name cannot be that.
    """
    own = {"app.kubernetes.io/part-of": deployment.settings.name}
    about: Object = {
        "name": name,
        "namespace": deployment.settings.namespace,
        "labels": {**own, **(labels or {})},
    }
    if served_name is not None and served_name != name:
        about["annotations"] = {SERVED_NAME: served_name}
    return about


def engine_image(deployment: Deployment) -> str:
    """The container image of the engines.

    Raises
    ------
    ExportError
        If neither an image nor a release is known.
    """
    if deployment.settings.image is not None:
        return deployment.settings.image
    if deployment.engine_version is None:
        message = "is missing, and the plan does not say which release of vLLM was judged"
        raise ExportError([Problem("export.image", message, "name an image")])
    return f"vllm/vllm-openai:v{deployment.engine_version}"


def engine_words(
    group: Group, deployment: Deployment, *, modules: bool, aliases: Sequence[str] = ()
) -> list[str]:
    """Words after ``vllm serve``.

    Parameters
    ----------
    modules
        Whether the adapters are named there, or loaded later.
    aliases
        Further names of the base model.

    Raises
    ------
    ExportError
        If a name would be read as an option.
    """
    words = [checked_model(deployment), *served_words(deployment, aliases)]
    words += ["--host", "0.0.0.0", "--port", str(PORT)]
    words += server_flags(group, deployment)
    return words + (module_words(group, deployment) if modules else [])


def served_words(deployment: Deployment, aliases: Sequence[str]) -> list[str]:
    """Words that give the base model its names, the clients' own first."""
    others = [alias for alias in aliases if alias != deployment.base_name]
    if not others:
        return [f"--served-model-name={deployment.base_name}"]
    if deployment.base_name.startswith("-"):
        message = f'is "{deployment.base_name}", which a command line takes for an option'
        raise ExportError([Problem("export.served_model_name", message, "give another")])
    return ["--served-model-name", deployment.base_name, *others]


def environment(deployment: Deployment, values: Mapping[str, str] | None = None) -> list[Object]:
    """Variables of a container: where the hub's files go, secrets, and others."""
    settings = deployment.settings
    entries: list[Object] = [{"name": "HF_HOME", "value": CACHE}]
    secrets = (
        ("HF_TOKEN", settings.hub_secret, "token"),
        ("VLLM_API_KEY", settings.api_key_secret, "api-key"),
    )
    for name, secret, key in secrets:
        if secret is not None:
            reference = {"secretKeyRef": {"name": secret, "key": key}}
            entries.append({"name": name, "valueFrom": reference})
    return entries + [{"name": name, "value": literal(value)} for name, value in (values or {}).items()]


def mounts(deployment: Deployment) -> list[Object]:
    """Where volumes are seen in a container."""
    found: list[Object] = [
        {"name": "cache", "mountPath": CACHE},
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # what NCCL's processes share
    ]
    if deployment.settings.storage_claim is not None:
        found.append({"name": "weights", "mountPath": deployment.settings.adapters_dir, "readOnly": True})
    return found


def volumes(deployment: Deployment) -> list[Object]:
    """Volumes of a pod."""
    settings = deployment.settings
    found: list[Object] = [
        {"name": "cache", "emptyDir": {"sizeLimit": f"{settings.storage_gib}Gi"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if settings.storage_claim is not None:
        claim = {"claimName": settings.storage_claim, "readOnly": True}
        found.append({"name": "weights", "persistentVolumeClaim": claim})
    return found


def gpu_resources(group: Group, deployment: Deployment) -> Object:
    """The GPUs of a container; of extended resources limits are requests too."""
    return {"limits": {deployment.settings.gpu_resource: str(len(group.devices))}}


def probe(period: int, failures: int) -> Object:
    """A look at ``/health``, which vLLM answers without a key (entrypoints/serve/middleware of 0.32.0)."""
    check = {"path": "/health", "port": "http"}
    return {"httpGet": check, "periodSeconds": period, "failureThreshold": failures}


def engine_object(
    group: Group,
    deployment: Deployment,
    *,
    modules: bool,
    labels: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    aliases: Sequence[str] = (),
) -> Object:
    """The Deployment of a group's engine: one pod, which is ended before another one starts.

    Parameters
    ----------
    modules
        Whether adapters are named on the command line.
    labels
        Of the pod, beside that of the group.
    values
        Variables of the container.
    aliases
        Further names of the base model.
    """
    own = {GROUP_LABEL: group.name}
    words = engine_words(group, deployment, modules=modules, aliases=aliases)
    container: Object = {
        "name": "vllm",
        "image": engine_image(deployment),
        "command": [literal(deployment.settings.vllm), "serve"],
        "args": [literal(word) for word in words],
        "env": environment(deployment, values),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": gpu_resources(group, deployment),
        "startupProbe": probe(10, 360),  # an hour to fetch and load the weights
        "readinessProbe": probe(5, 3),
        "livenessProbe": probe(10, 6),
        "volumeMounts": mounts(deployment),
    }
    part = {"app.kubernetes.io/part-of": deployment.settings.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(group.name, deployment, own),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": {
                "metadata": {"labels": {**part, **own, **(labels or {})}},
                "spec": {"containers": [container], "volumes": volumes(deployment)},
            },
        },
    }


def service_object(name: str, deployment: Deployment, selector: Mapping[str, str]) -> Object:
    """A Service that reaches the engines with the labels of a selector."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, deployment),
        "spec": {
            "selector": dict(selector),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def in_claim(path: str, deployment: Deployment) -> str | None:
    """A folder's path in the claim that is mounted at adapters_dir; None where it does not lie there."""
    inner = PurePosixPath(path)
    below = deployment.settings.adapters_dir
    if deployment.settings.storage_claim is None or ".." in inner.parts or not inner.is_relative_to(below):
        return None
    return str(inner.relative_to(below))
