"""What a layer is made of: matrices that are divided over GPUs, experts, and tensors that are neither.

The kinds are those of vLLM's ``model_executor/layers/linear.py`` and ``fused_moe``: what is split by columns
keeps whole inputs on every GPU, what is split by rows whole outputs, what is copied both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Split = Literal["columns", "rows", "copied"]
"""How a matrix is divided over the GPUs of an engine."""


class Part(NamedTuple):
    """One matrix of several that the engine keeps as one.

    Parameters
    ----------
    name
        Its name in checkpoints and adapters: ``q_proj``.
    outputs
        Rows of the matrix.
    least
        Outputs that a GPU holds at the least: a key-value head is copied, not divided.
    loaded
        Whether checkpoints hold it; a copy of another part is no parameter.
    """

    name: str
    outputs: int
    least: int = 1
    loaded: bool = True

    def outputs_on(self, gpus: int) -> int:
        """Outputs on one of so many GPUs."""
        return max(self.least, -(-self.outputs // gpus))


class Linear(NamedTuple):
    """A matrix that adapters can adapt.

    Parameters
    ----------
    name
        Its place in the layer: ``self_attn.qkv_proj``; the last word is the engine's name of the module.
    parts
        The matrices of the checkpoint that it holds, by their order.
    inputs
        Columns of the matrix.
    split
        How it is divided over GPUs.
    bias
        Whether each output has a bias.
    joined
        Whether checkpoints hold the parts as one matrix, so that adapters have one slice and not one a part.
    adapted
        Whether the engine gives it slots.
    quantised
        Whether quantised checkpoints may quantise it; routers and convolutions never are.
    """

    name: str
    parts: tuple[Part, ...]
    inputs: int
    split: Split
    bias: bool = False
    joined: bool = False
    adapted: bool = True
    quantised: bool = True

    @property
    def module(self) -> str:
        """Name of the module as the engine knows it."""
        return self.name.rpartition(".")[2]

    @property
    def outputs(self) -> int:
        """Outputs of all parts."""
        return sum(part.outputs for part in self.parts)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(part.outputs for part in self.parts if part.loaded) * (self.inputs + self.bias)

    def inputs_on(self, gpus: int) -> int:
        """Inputs on one of so many GPUs."""
        return -(-self.inputs // gpus) if self.split == "rows" else self.inputs

    def part_outputs_on(self, gpus: int) -> tuple[int, ...]:
        """Outputs of each part on one of so many GPUs."""
        divide = gpus if self.split == "columns" else 1
        return tuple(part.outputs_on(divide) for part in self.parts)

    def outputs_on(self, gpus: int) -> int:
        """Outputs on one of so many GPUs."""
        return sum(self.part_outputs_on(gpus))


class ExpertBank(NamedTuple):
    """The experts of a layer, which the engine keeps in two tensors.

    Parameters
    ----------
    name
        Place in the layer: ``mlp.experts``.
    number
        Experts.
    inputs
        Inputs of an expert, and its outputs.
    intermediate
        Size between an expert's two matrices.
    gated
        Whether the first matrix is a gate and an upward projection.
    bias
        Whether both matrices have biases.
    stacked
        Whether checkpoints hold all experts in one tensor, gate and upward projection in one matrix.
    """

    name: str
    number: int
    inputs: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    stacked: bool = False

    @property
    def upward(self) -> int:
        """Outputs of an expert's first matrix."""
        return (2 if self.gated else 1) * self.intermediate

    @property
    def parameters(self) -> int:
        """Weights and biases of all experts."""
        biases = self.upward + self.inputs if self.bias else 0
        return self.number * ((self.upward + self.intermediate) * self.inputs + biases)

    def on(self, gpus: int, *, whole: bool) -> ExpertBank:
        """What one of so many GPUs holds: some experts whole, or a slice of each."""
        if whole:
            return self._replace(number=-(-self.number // gpus))
        return self._replace(intermediate=-(-self.intermediate // gpus))


class Weight(NamedTuple):
    """A tensor that is neither quantised nor adapted: a normalisation, a convolution, a table.

    Parameters
    ----------
    size
        Elements.
    split
        Whether it is divided over GPUs.
    wide
        Whether it is kept in 32 bits whatever the model's type.
    loaded
        Whether checkpoints hold it; what the engine computes from others is no parameter.
    """

    size: int
    split: bool = False
    wide: bool = False
    loaded: bool = True

    @property
    def parameters(self) -> int:
        """Weights of the checkpoint in it."""
        return self.size if self.loaded else 0

    def size_on(self, gpus: int) -> int:
        """Elements on one of so many GPUs."""
        return -(-self.size // gpus) if self.split else self.size


Module = Linear | ExpertBank | Weight


def columns(name: str, inputs: int, *parts: tuple[str, int], bias: bool = False) -> Linear:
    """A matrix that is split by columns, of parts that are given as name and outputs."""
    return Linear(name, tuple(Part(*part) for part in parts), inputs, "columns", bias)


def rows(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Linear:
    """A matrix that is split by rows."""
    return Linear(name, (Part(name.rpartition(".")[2], outputs),), inputs, "rows", bias)


def copied(name: str, inputs: int, *parts: tuple[str, int], bias: bool = False) -> Linear:
    """A matrix that every GPU holds whole."""
    return Linear(name, tuple(Part(*part) for part in parts), inputs, "copied", bias)


def router(name: str, inputs: int, experts: int, *, bias: bool = False) -> Linear:
    """The matrix that chooses experts, in the model's own type whatever its quantisation."""
    return copied(name, inputs, (name.rpartition(".")[2], experts), bias=bias)._replace(quantised=False)
