"""How a checkpoint's weights are quantised: which modules, in how many bits, with what scales."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from pydantic import Field

from scenarios import FrozenModel

Kind = Literal["fp8", "int8", "packed", "nf4", "bnb8", "nvfp4", "mxfp4", "mxfp8", "measured"]
"""Formats of weights on the GPU."""

_LAYER = re.compile(r"(?:^|\.)(layers\.\d.*)$")


class QuantizedGroup(FrozenModel):
    """Modules that are quantised alike."""

    kind: Kind
    bits: int = Field(default=8, ge=1, le=16, description="Of a weight; of packed integers 2, 3, 4 or 8.")
    scales: Literal["tensor", "channel", "block", "group"] = Field(
        default="tensor", description="What has a scale of its own."
    )
    block: tuple[int, int] = Field(default=(0, 0), description="Outputs and inputs of a block.")
    group_size: int = Field(default=0, ge=0, le=1_000_000, description="Inputs of a group; 0: all of them.")
    zeros: bool = Field(default=False, description="Whether groups have zero points.")
    bytes_per_weight: float = Field(default=0, ge=0, le=4, description="Of what was measured in the files.")
    targets: tuple[str, ...] = Field(default=(), description="Names of its modules; empty: all matrices.")


class Quantization(FrozenModel):
    """The quantisation of a checkpoint, or of an engine that quantises while it loads."""

    method: str = Field(min_length=1, max_length=100, description="As quantization_config calls it.")
    groups: tuple[QuantizedGroup, ...] = Field(min_length=1)
    ignore: tuple[str, ...] = Field(default=(), description="Names of modules that stay as they were.")
    experts_only: bool = Field(default=False, description="Whether only experts are quantised (mxfp4).")

    kv_cache: Literal["auto", "fp8"] = Field(
        default="auto", description="Type of the KV cache that the checkpoint asks for."
    )

    def group_of(self, names: tuple[str, ...], *, experts: bool = False) -> QuantizedGroup | None:
        """The group of a module, or None if it is not quantised.

        Parameters
        ----------
        names
            Names that a checkpoint may give it: ``layers.3.self_attn.q_proj`` and so on.
        experts
            Whether it is a bank of experts, which checkpoints may name one by one.
        """
        if self.experts_only and not experts:
            return None
        if any(_named(pattern, name, experts) for pattern in self.ignore for name in names):
            return None
        for group in self.groups:
            if not group.targets or any(
                _named(pattern, name, experts) for pattern in group.targets for name in names
            ):
                return group
        return None


@lru_cache(maxsize=65_536)
def _named(pattern: str, name: str, experts: bool) -> bool:
    """Whether a pattern of a checkpoint means a module; what stands before its layer does not count."""
    if pattern.startswith("re:"):
        return _matches_expression(pattern[3:], name)
    shown = _canonical(pattern)
    if "*" in shown:
        return fnmatchcase(name, shown) or fnmatchcase(name, shown.removesuffix("*") + ".*")
    if "." not in shown:
        return shown in name.split(".")
    return name == shown or name.startswith(shown + ".") or (experts and shown.startswith(name + "."))


def _canonical(name: str) -> str:
    found = _LAYER.search(name)
    if found:
        return found[1]
    return "lm_head" if name.rpartition(".")[2] == "lm_head" else name


def _matches_expression(expression: str, name: str) -> bool:
    try:
        compiled = re.compile(expression)
    except re.error:
        return False
    return any(compiled.match(prefix + name) for prefix in ("", "model.", "language_model.model."))
