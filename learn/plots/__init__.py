"""Pictures of regions and of the twin runs behind them."""

from learn.plots.boundary import draw_boundary as draw_boundary
from learn.plots.runs import draw_runs as draw_runs
