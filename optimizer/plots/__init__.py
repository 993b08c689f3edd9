"""Pictures of comparisons and plans."""

from optimizer.plots.results import draw_comparison as draw_comparison
from optimizer.plots.results import draw_plan as draw_plan
