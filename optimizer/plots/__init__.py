"""Pictures of comparisons, plans and studies."""

from optimizer.plots.results import draw_comparison as draw_comparison
from optimizer.plots.results import draw_plan as draw_plan
from optimizer.plots.studies import draw_front as draw_front
from optimizer.plots.studies import draw_sweep as draw_sweep
