"""Pictures of rows: what all of lorapack's pictures share, and how their files are written.

Folders named ``plots`` are the only ones that draw.
"""

from scenarios.plots.bars import Bar as Bar
from scenarios.plots.bars import draw_bars as draw_bars
from scenarios.plots.figures import Canvas as Canvas
from scenarios.plots.figures import canvas_of as canvas_of
from scenarios.plots.files import FORMATS as FORMATS
from scenarios.plots.files import PlotError as PlotError
from scenarios.plots.files import figure_of as figure_of
from scenarios.plots.files import picture_format as picture_format
from scenarios.plots.files import write_figure as write_figure
from scenarios.plots.spans import Span as Span
from scenarios.plots.spans import draw_spans as draw_spans
from scenarios.plots.stacks import Stack as Stack
from scenarios.plots.stacks import draw_stacks as draw_stacks
