"""The ``lorapack`` command."""

from __future__ import annotations

import sys

import typer

from optimizer.cli.engine_commands import add_to as add_engine_commands
from optimizer.cli.learn_commands import add_to as add_learn_commands
from optimizer.cli.options import EXIT_FAILURE, EXIT_USAGE
from optimizer.cli.replan_command import add_to as add_replan_command
from optimizer.cli.scenario_commands import add_to as add_scenario_commands
from optimizer.cli.solve_commands import add_to as add_solve_commands
from optimizer.cli.streams import note, standard_streams
from scenarios import LorapackError

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


@standard_streams()
def main() -> None:
    """Run the command; every expected error ends in one message and its exit code, without a traceback."""
    try:
        app()
    except LorapackError as error:
        sys.exit(_tell(error))
    except KeyboardInterrupt:
        print("lorapack: interrupted", file=sys.stderr)
        sys.exit(EXIT_FAILURE)


def _tell(error: LorapackError) -> int:
    note(f"lorapack: {error}")
    # A wrong value, name or file is the caller's to mend; anything else is our failure.
    return EXIT_USAGE if isinstance(error, ValueError | LookupError | OSError) else EXIT_FAILURE
