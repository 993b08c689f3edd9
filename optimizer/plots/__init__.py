"""Pictures: of comparisons, of plans, and of where a GPU's memory goes; the only folder that draws."""

from optimizer.plots.files import PlotError as PlotError
from optimizer.plots.files import picture_format as picture_format
from optimizer.plots.memory import draw_memory as draw_memory
from optimizer.plots.results import draw_comparison as draw_comparison
from optimizer.plots.results import draw_plan as draw_plan
