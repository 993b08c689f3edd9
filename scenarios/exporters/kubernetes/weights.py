"""Where weights are, as addresses of the stacks that fetch them themselves."""

from __future__ import annotations

import re

from scenarios.exporters.deployment import DeployedAdapter, Deployment
from scenarios.exporters.kubernetes.pods import in_claim
from scenarios.exporters.locations import Location
from scenarios.exporters.servers import adapter_path

_PLAIN = re.compile(r"[A-Za-z0-9._~:/@!&'()*+,;=-]+")
"""What stands in an address as it is (RFC 3986)."""


def hub_or_bucket(location: Location | None) -> str | None:
    """``hf://`` or ``s3://``, or None where weights are elsewhere or their address is none."""
    if location is None or location.kind not in ("hub", "s3"):
        return None
    address = f"{'hf' if location.kind == 'hub' else 's3'}://{location.path}"
    return address if _PLAIN.fullmatch(address) else None


def claim_address(path: str, deployment: Deployment) -> str | None:
    """``pvc://CLAIM/PATH`` of a folder below adapters_dir, or None where it is not in the claim."""
    inner = in_claim(path, deployment)
    if inner is None:
        return None
    address = f"pvc://{deployment.settings.storage_claim}/{inner}"
    return address if _PLAIN.fullmatch(address) else None


def adapter_address(adapter: DeployedAdapter, deployment: Deployment) -> str | None:
    """An adapter's address as ``hf://``, ``s3://`` or ``pvc://``; None: it cannot be said so."""
    location = adapter.location
    if location is not None and location.kind == "pvc":
        return f"pvc://{location.path}" if _PLAIN.fullmatch(location.path) else None
    if location is None or location.kind == "folder":
        return claim_address(adapter_path(adapter, deployment), deployment)
    return hub_or_bucket(location)
