"""Placements as others do them, to compare with: rules, published systems, models of the GPU."""

from optimizer.baselines.named import BASELINES

__all__ = ["BASELINES"]
