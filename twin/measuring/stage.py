"""A stage of a measurement: what is sent, and what for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twin.engine.requests import Requests

StageKind = Literal["warm", "alone", "prefill", "batch", "cold", "run"]


@dataclass(frozen=True)
class Stage:
    """What is sent in one stage.

    Parameters
    ----------
    name, kind
        Its name, which names its files, and what it is for.
    requests
        What is sent; adapters are those of the subject, and after them the base model.
    horizon_s
        When it is cut; infinite: after the last answer.
    batch, distinct
        Requests at a time, and adapters among them; 0 where that varies.
    load
        Share of what the server can do, of runs.
    """

    name: str
    kind: StageKind
    requests: Requests
    horizon_s: float = math.inf
    batch: int = 0
    distinct: int = 0
    load: float = 0.0
