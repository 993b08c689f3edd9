"""The commands, gathered."""

from __future__ import annotations

import typer

from optimizer.cli.engine_commands import add_to as add_engine_commands
from optimizer.cli.learn_commands import add_to as add_learn_commands
from optimizer.cli.replan_command import add_to as add_replan_command
from optimizer.cli.scenario_commands import add_to as add_scenario_commands
from optimizer.cli.solve_commands import add_to as add_solve_commands

app = typer.Typer(
    name="lorapack",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The fewest GPUs for many LoRA adapters, with a proof, and a digital twin of vLLM as judge.",
    epilog="Start with: lorapack compare scenarios/mixed_ranks.yaml",
)
add_solve_commands(app)
add_replan_command(app)
add_engine_commands(app)
add_learn_commands(app)
add_scenario_commands(app)
