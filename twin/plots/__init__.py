"""Pictures of what the twin says: verdicts, runs, memory, and predictions beside measurements."""

from twin.plots.memory import draw_memory as draw_memory
from twin.plots.predictions import draw_predictions as draw_predictions
from twin.plots.runs import draw_run as draw_run
from twin.plots.verdicts import draw_margins as draw_margins
from twin.plots.verdicts import draw_verdicts as draw_verdicts
