"""A model's architecture: its facts, and the layers that follow from them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from pydantic import model_validator

from twin.architectures.facts import ModelFacts
from twin.architectures.families import FAMILIES, Family
from twin.architectures.layers import Layer
from twin.architectures.mixers import Attention, LatentAttention


class RotaryTable(NamedTuple):
    """Sines and cosines of every position.

    Parameters
    ----------
    positions, width
        Rows and columns.
    wide
        Whether newer engines keep it in 32 bits, as they do for scaled latent attention.
    local
        Whether it is that of layers with a window.
    """

    positions: int
    width: int
    wide: bool
    local: bool


class ModelArchitecture(ModelFacts):
    """Shapes of a decoder-only model: the facts of its ``config.json``, and what its family makes of them."""

    @model_validator(mode="after")
    def _known(self) -> ModelArchitecture:
        family = FAMILIES.get(self.model_type)
        if family is None:
            raise ValueError(
                f'model_type is "{self.model_type}", whose layers are not known; '
                f"known are {', '.join(FAMILIES)}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        missing = [name for name in family.needs if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.model_type} model needs {', '.join(missing)}")
        per_layer = ("layer_types", "mlp_layer_types", "indexer_types")
        for name in (*per_layer, "layer_kv_heads", "layer_intermediate_sizes"):
            if getattr(self, name) and len(getattr(self, name)) != self.num_hidden_layers:
                raise ValueError(f"{name} has not one entry for each of num_hidden_layers")
        if len(self.layers) != self.num_hidden_layers:
            raise ValueError("hybrid_override_pattern is not of num_hidden_layers layers")
        return self

    @property
    def family(self) -> Family:
        """What its model_type says."""
        return FAMILIES[self.model_type]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer in order: how it mixes tokens and what each token passes through."""
        return self.family.layers(self)

    @property
    def dtype_bytes(self) -> int:
        """Bytes of a weight on the GPU; vLLM loads 32-bit checkpoints in 16 bits."""
        return 2

    @property
    def rotary_tables(self) -> tuple[RotaryTable, ...]:
        """Tables of the rotary embedding; layers that rotate alike share one."""
        if self.family.positions != "rotary":
            return ()
        tables = set()
        for layer in self.layers:
            for mixer in layer.mixers:
                if mixer.rotary:
                    local = self.family.local_rotary and isinstance(mixer, Attention) and mixer.window > 0
                    # A table of its own for layers with a window is not scaled.
                    positions = self.max_position_embeddings * (1.0 if local else self.rope_factor)
                    wide = isinstance(mixer, LatentAttention) and self.rope_type == "yarn"
                    width = int(mixer.rotary * (1.0 if local else self.partial_rotary_factor))
                    tables.add(RotaryTable(int(positions), width, wide, local))
        return tuple(sorted(tables))

    @property
    def layer_parameters(self) -> int:
        """Number of weights of all layers."""
        made = (module for layer in self.layers for module in layer.modules(self.hidden_size))
        return sum(module.parameters for module in made)

    @property
    def parameters(self) -> int:
        """Number of weights as its checkpoint holds them, tied ones once, a vision tower among them."""
        rows = self.vocab_size * (1 if self.tie_word_embeddings else 2)
        if self.family.positions == "learned":
            rows += self.max_position_embeddings
        head_bias = self.vocab_size if self.family.head_bias else 0
        ends = (rows + self.family.final_norms) * self.hidden_size + head_bias
        return self.layer_parameters + ends + self.vision_parameters
