"""Verdicts: whether the twin accepts a GPU, or a whole placement, and why not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scenarios.display import visible

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class GPUVerdict:
    """The twin's verdict on one GPU, over its replications.

    Parameters
    ----------
    gpu
        Number of the GPU in the placement; 0 when it was judged alone.
    accepted
        Whether every replication met every service level.
    reasons
        Why not, one sentence each.
    offered_tok_per_s, served_tok_per_s
        Means of the tokens of requests that arrived, and that completed, per second.
    served_share
        Smallest served over offered tokens of a replication.
    worst_adapter, worst_served_share
        The adapter with the smallest share of its due tokens served in a replication, and that share.
    itl_ms, ttft_ms
        Means of the mean latencies; None where no request completed.
    itl_p99_ms, ttft_p99_ms
        Largest 99th percentiles of a replication.
    kv_cache_tokens
        Tokens that the KV cache holds; 0 if the engine does not start.
    starved
        Adapters below their service level in a replication, the worst first.
    memory_failure
        Which of vLLM's start-up failures occurs, or None.
    margins
        By service level, how far the worst replication is from the limit, as a share of the limit;
        negative where it is violated.
    replications
        Runs behind the verdict; 0 if the engine does not start.
    cut_requests
        Requests of all runs that were cut, as the engine's ``max_model_len`` does not admit all their tokens.
    """

    gpu: int
    accepted: bool
    reasons: tuple[str, ...]
    offered_tok_per_s: float
    served_tok_per_s: float
    served_share: float
    worst_adapter: str | None
    worst_served_share: float
    itl_ms: float | None
    ttft_ms: float | None
    itl_p99_ms: float | None
    ttft_p99_ms: float | None
    kv_cache_tokens: int
    starved: tuple[str, ...] = ()
    memory_failure: str | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    replications: int = 0
    cut_requests: int = 0

    def of(self, gpu: int, names: Mapping[str, str]) -> GPUVerdict:
        """The same verdict for a GPU with equal adapters of other names; parts of one share its name."""
        worst = None if self.worst_adapter is None else names[self.worst_adapter]
        reasons = tuple(_renamed(reason, names) for reason in self.reasons)
        starved = tuple(dict.fromkeys(names[name] for name in self.starved))
        return replace(self, gpu=gpu, worst_adapter=worst, reasons=reasons, starved=starved)


def _renamed(reason: str, names: Mapping[str, str]) -> str:
    """A reason with the quoted adapters renamed."""
    parts = reason.split('"')
    parts[1::2] = [names.get(name, name) for name in parts[1::2]]
    return '"'.join(parts)


@dataclass(frozen=True)
class ValidationReport:
    """The twin's verdict on a placement: accepted if every GPU is.

    Parameters
    ----------
    gpus
        One verdict per GPU, in the placement's order.
    distinct
        GPUs that were simulated; equal ones are judged once.
    """

    gpus: tuple[GPUVerdict, ...]
    distinct: int

    @property
    def accepted(self) -> bool:
        """Whether every GPU is accepted."""
        return all(verdict.accepted for verdict in self.gpus)

    @property
    def rejected(self) -> tuple[GPUVerdict, ...]:
        """The verdicts on the GPUs that are not accepted."""
        return tuple(verdict for verdict in self.gpus if not verdict.accepted)

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU."""
        import pandas as pd

        rows = [asdict(verdict) for verdict in self.gpus]
        for row in rows:
            row["reasons"] = "; ".join(row["reasons"])
            row["starved"] = len(row["starved"])
            row |= {f"margin_{name}": value for name, value in row.pop("margins").items()}
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "accepted": self.accepted,
            "distinct": self.distinct,
            "gpus": [{**asdict(verdict), "margins": _finite(verdict.margins)} for verdict in self.gpus],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def summary(self) -> str:
        """A few lines for a terminal."""
        word = "accepted" if self.accepted else "REJECTED"
        lines = [f"{word}: {len(self.gpus) - len(self.rejected)} of {len(self.gpus)} GPUs"]
        lines += [f"  GPU {v.gpu}: {visible(reason)}" for v in self.rejected for reason in v.reasons]
        cut = sum(verdict.cut_requests for verdict in self.gpus)
        lines += [cut_note(cut)] if cut else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return f"<p>{'accepted' if self.accepted else 'rejected'}</p>{html}"


def cut_note(requests: int) -> str:
    """What is said of requests that were cut."""
    return f"{requests:,} simulated requests were cut to the tokens that engine.max_model_len admits"


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
