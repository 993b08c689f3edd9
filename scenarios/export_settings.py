"""Names, images and storage of a deployment: the section ``export`` of a scenario, kept in its plans.

What these texts become part of (command lines, YAML, unit files) limits what they may hold, so that none can
mean more than a name there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from scenarios.base import FrozenModel
from scenarios.reading import text_patterns as patterns
from scenarios.reading.findings import Finding

Label = Annotated[str, Field(max_length=63), StringConstraints(pattern=patterns.DNS_LABEL)]
Plain = Annotated[str, Field(min_length=1, max_length=1000, pattern=patterns.ONE_LINE)]
"""Text of one line."""
Image = Annotated[str, Field(max_length=500, pattern=patterns.IMAGE)]
AbsolutePath = Annotated[str, Field(max_length=1000, pattern=patterns.ABSOLUTE_PATH)]
Bucket = Annotated[str, Field(max_length=500, pattern=patterns.BUCKET)]
"""A bucket, with or without a path in it: schemes that Ray takes (ray 2.60.0, ray/llm/_internal/common/utils/
cloud_utils.py)."""
Host = Annotated[str, Field(max_length=253, pattern=patterns.HOST)]
Port = Annotated[int, Field(ge=1, le=65_535)]

MOST_GROUP_DIGITS = 8
"""Characters that the number of a GPU adds to a name, with what stands before it."""


class ExportSettings(FrozenModel):
    """What a deployment is called, where its images, weights and adapters lie, and how it is reached."""

    name: Annotated[str, Field(max_length=40), StringConstraints(pattern=patterns.DNS_LABEL)] = "lorapack"
    """What the names of all that is written begin with."""
    namespace: Label = "default"
    """Namespace of Kubernetes."""
    model: Plain | None = None
    """Base model as the engine is given it, a folder or a name on the hub; absent: the scenario's."""
    served_model_name: Plain | None = None
    """Name by which clients ask for the base model; absent: that of `model`."""
    image: Image | None = None
    """Container image of the engine; absent: the target's own, of the release that was judged."""
    hosts: tuple[Host, ...] = ()
    """Hosts of the engines, for targets without a cluster; absent: all on 127.0.0.1."""
    gpus_per_host: Annotated[int, Field(ge=1, le=64)] = 8
    """GPUs of each of them, each engine on as many as it shares its model over."""
    port: Port = 8000
    """Port of the engine of a host's first GPU; those of the others follow by the numbers of theirs."""
    router_port: Port = 8080
    """Port at which the router listens."""
    adapters_dir: AbsolutePath = "/adapters"
    """Folder, on the hosts or in the containers, with one folder of links to adapters per GPU."""
    adapters_bucket: Bucket | None = None
    """Bucket below which adapters lie, for engines that fetch them from there: s3://, gs://, abfss://, azure://."""
    storage_claim: Label | None = None
    """Claim of a volume with weights and adapters, which is mounted at adapters_dir."""
    storage_gib: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Size of the volume of each engine, where the target makes one."""
    hub_secret: Label | None = None
    """Secret of Kubernetes with a token of the hub, under the key ``token``."""
    api_key_secret: Label | None = None
    """Secret of Kubernetes with the engines' API key, under the key ``api-key``."""
    gateway: Label = "inference-gateway"
    """Gateway to which routes are attached."""
    gpu_resource: Annotated[str, Field(max_length=253, pattern=patterns.RESOURCE)] = "nvidia.com/gpu"
    """Name of the GPUs as a resource of Kubernetes."""
    user: Annotated[str, Field(max_length=32, pattern=patterns.USER)] = "vllm"
    """User of the host that runs the engines."""
    vllm: Annotated[str, Field(max_length=500, pattern=patterns.COMMAND)] = "vllm"
    """The engine's command, or its path."""

    def findings(self) -> Iterator[Finding]:
        """Yield ports that meet."""
        if self.port == self.router_port:
            yield Finding(("router_port",), f"is {self.router_port}, the port of an engine", "choose another")
