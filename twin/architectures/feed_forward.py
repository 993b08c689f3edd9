"""What each token of a layer passes through: one network, or a few experts; and the modules of both."""

from __future__ import annotations

from typing import NamedTuple

from twin.architectures.modules import ExpertBank, Linear, Module, Part, Weight, columns, copied, router, rows


class Dense(NamedTuple):
    """One feed-forward network for every token.

    Parameters
    ----------
    intermediate
        Size between its matrices.
    gated
        Whether a gate is multiplied on.
    bias
        Whether its matrices have biases.
    joined
        Whether checkpoints hold gate and upward projection as one matrix.
    at, up, down
        Place in the layer, and names of a network without gate.
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    joined: bool = False
    at: str = "mlp"
    up: str = "up_proj"
    down: str = "down_proj"

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making."""
        if self.gated:
            parts = (Part("gate_proj", self.intermediate), Part("up_proj", self.intermediate))
            name = f"{self.at}.gate_up_proj"
            first = Linear(name, parts, hidden, "columns", self.bias, joined=self.joined)
        else:
            first = columns(f"{self.at}.{self.up}", hidden, (self.up, self.intermediate), bias=self.bias)
        return first, rows(f"{self.at}.{self.down}", self.intermediate, hidden, bias=self.bias)


class Experts(NamedTuple):
    """Feed-forward networks of which a router chooses a few for each token.

    Parameters
    ----------
    number, intermediate, per_token
        Experts, the size of each, and how many a token passes through.
    shared
        Size of the experts that every token passes through, all together; 0: none.
    shared_gated
        Whether a gate of one output weighs them.
    gated, bias, stacked
        As those of `ExpertBank`.
    router_bias
        Whether each output of the router has a bias.
    correction
        Whether the router has a correction of each expert's score, in 32 bits.
    latent
        Size of the vectors that experts see where it is not that of the layer; 0: the layer's.
    at, router_name, shared_at
        Place in the layer, and of its router and shared experts in it.
    beside
        A dense network whose output is added (Gemma 4), or None.
    """

    number: int
    intermediate: int
    per_token: int = 1
    shared: int = 0
    shared_gated: bool = False
    gated: bool = True
    bias: bool = False
    stacked: bool = False
    router_bias: bool = False
    correction: bool = False
    latent: int = 0
    at: str = "mlp"
    router_name: str = "gate"
    shared_at: str = "shared_experts"
    beside: Dense | None = None

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making."""
        made: list[Module] = list(self.beside.modules(hidden)) if self.beside else []
        made.append(router(f"{self.at}.{self.router_name}", hidden, self.number, bias=self.router_bias))
        if self.correction:
            made.append(Weight(self.number, wide=True))
        width = self.latent or hidden
        if self.latent:
            made.append(copied(f"{self.at}.fc1_latent_proj", hidden, ("fc1_latent_proj", width)))
            made.append(copied(f"{self.at}.fc2_latent_proj", width, ("fc2_latent_proj", hidden)))
        if self.shared:
            shared = Dense(self.shared, self.gated, at=f"{self.at}.{self.shared_at}")
            made += shared.modules(hidden)
        if self.shared_gated:
            made.append(router(f"{self.at}.shared_expert_gate", hidden, 1))
        bank = ExpertBank(f"{self.at}.experts", self.number, width, self.intermediate)
        made.append(bank._replace(gated=self.gated, bias=self.bias, stacked=self.stacked))
        return tuple(made)


FeedForward = Dense | Experts
