"""Parameters of plans that hold when GPUs are lost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params

Count = Annotated[int, Field(ge=1)]


class SurvivalParams(Params):
    """Plans that hold when GPUs are lost."""

    gpus_time_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Share of the time for the fewest GPUs without spare; the rest is for the loss of some."""
    restart_time_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Share of the time left for one search of a plan on the GPUs that are left."""
    tries: Count = 6
    """How often the pieces of lost GPUs are dealt anew before the running engines are given up."""
    base_parts: Count = 8
    """Most equal parts in which a GPU's share of the base model's traffic is dealt to others."""
    most_deals: Count = 2000
    """Ways to deal lost pieces up to which all are looked at; else they go one by one where there is room."""
    step: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.03
    """By how much less full than a GPU that the twin rejected it may be in the next deal."""
    overfull: Annotated[float, Field(ge=1.0)] = 1.3
    """How full, by the inner rows, the fullest GPU of a deal may be for the twin to be asked."""
    compositions: Count = 60
    """Most ways to choose the ranks of the engines that are looked at for one number of GPUs."""
    exchanges: Count = 400
    """Exchanges of adapters between the GPUs of a plan that are looked at, where none holds as it is."""
    exchanged_plans: Count = 2
    """Plans, the best first, of which adapters are exchanged then, beside that with all but idle engines."""
    exchange_time_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Share of the time left that the exchanges of one plan may take."""
    most_verdicts: Count = 100
    """Verdicts that an even plan may need; beyond, one with engines that are all but idle is tried first."""
    plans: Count = 4
    """Plans with room to spare that the twin is asked about for one number of GPUs."""
