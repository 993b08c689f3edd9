"""The adapters of lost GPUs loaded into the engines that run; the twin decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.survival.dealing import Deal, Experience, LostPieces
from optimizer.survival.params import SurvivalParams
from optimizer.survival.pieces import Catalogue, LoadedGPU, cut_up
from optimizer.survival.report import LossCase
from scenarios import Deadline, Placement
from twin import PlacementJudge, TwinJudge

AT_ONCE = 4
"""GPUs of a deal that the twin is asked about at once; the others need no verdict where it rejects one."""


@dataclass(frozen=True, eq=False)
class LiveRecovery:
    """Looks for deals of lost adapters, on the GPUs of one plan.

    Parameters
    ----------
    catalogue
        The adapters and the inner rows.
    judge
        The twin.
    gpus
        The plan.
    params
        How far to search.
    """

    catalogue: Catalogue
    judge: TwinJudge
    gpus: tuple[LoadedGPU, ...]
    params: SurvivalParams
    experience: Experience = field(default_factory=Experience)

    def pieces(self, lost: Sequence[int]) -> LostPieces:
        """What is to be dealt after a loss, and to whom."""
        left = tuple(gpu for gpu in self.gpus if gpu.number not in lost)
        served = (piece for gpu in self.gpus if gpu.number in lost for piece in gpu.pieces)
        gone = tuple(cut_up(served, min(max(len(left), 1), self.params.base_parts)))
        return LostPieces(self.catalogue.rows, gone, left, self.experience, self.params)

    def strain(self, lost: Sequence[int]) -> float:
        """How full the fullest engine is after a loss, at best, by the rows; infinite if there is no deal."""
        deal = self.pieces(lost).best()
        return float("inf") if deal is None else deal.strain

    def recover(self, lost: Sequence[int], deadline: Deadline) -> LossCase:
        """The case of a loss: the best deal that the twin accepts, or why there is none.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before it is known.
        """
        found, why = LossCase(lost=tuple(lost)), ""
        pieces = self.pieces(lost)
        if not pieces.left:
            return found.model_copy(update={"why_not_live": "no GPU is left"})
        if pieces.homeless is not None:
            name, rank = pieces.homeless.name, pieces.homeless.kind.rank
            why = f'no running engine has slots for adapter "{name}" of rank {rank}'
            return found.model_copy(update={"why_not_live": why})
        for _ in range(self.params.tries):
            deal = pieces.best()
            if deal is None or deal.strain > self.params.overfull:
                why = why or _too_full(pieces, deal)
                break
            pairs = zip(pieces.left, deal.given, strict=True)
            placement = Placement(gpus=tuple(gpu.placed(given) for gpu, given in pairs))
            why = self._rejection(pieces, deal, placement, deadline)
            if not why:
                report = PlacementJudge(self.judge, deadline).report(placement.gpus)
                update = {"recovery": "live", "placement": placement, "validation": report}
                loaded = {piece.name for piece in pieces.pieces if not piece.kind.is_base}
                return found.model_copy(update=update | {"loaded": len(loaded)})
        return found.model_copy(update={"why_not_live": why})

    def _rejection(self, pieces: LostPieces, deal: Deal, placement: Placement, deadline: Deadline) -> str:
        """Why the twin rejects a GPU of a deal, the fullest looked at first; empty if it accepts all."""
        judge = PlacementJudge(self.judge, deadline)
        fullest = np.argsort(-np.array(deal.fills), kind="stable")
        for first in range(0, len(fullest), AT_ONCE):
            asked = [int(k) for k in fullest[first : first + AT_ONCE]]
            report = judge.report([placement.gpus[k] for k in asked])
            for k, verdict in zip(asked, report.gpus, strict=True):
                number, given, fill = pieces.left[k].number, deal.given[k], deal.fills[k]
                self.experience.learn(number, given, fill, verdict.accepted, self.params.step)
            if report.rejected:
                worst = min(report.rejected, key=lambda verdict: verdict.signed_margin)
                return f"the twin rejects GPU {worst.gpu}: {worst.reasons[0]}"
        return ""


def _too_full(pieces: LostPieces, deal: Deal | None) -> str:
    """Why the twin is not asked about a deal."""
    if deal is None:
        return "no other deal of the adapters is left"
    fullest = max(range(len(deal.fills)), key=lambda k: deal.fills[k])
    number, fill = pieces.left[fullest].number, deal.fills[fullest]
    return f"the engines that run are too full: GPU {number} would be filled to {fill:.0%} at best"
