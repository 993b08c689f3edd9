"""The commands, gathered."""

from __future__ import annotations

from typing import Annotated

import typer

from optimizer.cli.device_commands import add_to as add_device_commands
from optimizer.cli.engine_commands import add_to as add_engine_commands
from optimizer.cli.fleet.export_command import add_to as add_export_command
from optimizer.cli.fleet.import_command import add_to as add_import_command
from optimizer.cli.help import Group
from optimizer.cli.learn_commands import add_to as add_learn_commands
from optimizer.cli.live.check_command import add_to as add_check_command
from optimizer.cli.live.measure_command import add_to as add_measure_command
from optimizer.cli.measured_commands import add_to as add_measured_commands
from optimizer.cli.memory_command import add_to as add_memory_command
from optimizer.cli.plans.replan_command import add_to as add_replan_command
from optimizer.cli.plans.report_command import add_to as add_report_command
from optimizer.cli.profile_commands import add_to as add_profile_commands
from optimizer.cli.scenario_commands import add_to as add_scenario_commands
from optimizer.cli.solve_commands import add_to as add_solve_commands
from optimizer.cli.streams import say
from optimizer.version import __version__

app = typer.Typer(
    name="lorapack",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The fewest GPUs for many LoRA adapters, with a proof, and a digital twin of vLLM as judge.",
    epilog="Start with: lorapack compare mixed_ranks",
)
add_solve_commands(app)
add_report_command(app)
add_replan_command(app)
add_import_command(app)
add_export_command(app)
add_check_command(app)
add_engine_commands(app)
add_measure_command(app)
add_measured_commands(app)
add_learn_commands(app)
add_memory_command(app)
add_profile_commands(app)
add_scenario_commands(app)
add_device_commands(app)


def _show_version(asked: bool) -> None:
    if asked:
        say(f"lorapack {__version__}")
        raise typer.Exit


@app.callback()
def lorapack(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The fewest GPUs for many LoRA adapters, with a proof, and a digital twin of vLLM as judge."""
