"""``lorapack scenarios``: list, show, check and schema."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.cli.exits import EXIT_USAGE
from optimizer.cli.help import Group, register
from optimizer.cli.options import JsonOption, MeasuredOnlyOption, ScenarioArgument, SetOption, scenario_in
from optimizer.cli.outputs import check_outputs, deliver, text_output
from optimizer.cli.streams import note, say, say_exactly

if TYPE_CHECKING:
    from scenarios import AdapterClass, Scenario


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        name="lorapack scenarios",
        cls=Group,
        no_args_is_help=True,
        help="List, show and check scenario files.",
    )
    register(group, "list", list_command, "--json -")
    register(group, "show", show_command, "mixed_ranks > mine.yaml")
    register(group, "check", check_command, "fleet.yaml --set replications=5")
    register(group, "schema", schema_command, "result")
    app.add_typer(group, name="scenarios")


def list_command(json: JsonOption = None) -> None:
    """List the scenarios that come with lorapack."""
    import scenarios
    from scenarios.text.tables import Column, render, table

    rows = []
    check_outputs({"--json": json}, [one.path for one in scenarios.shipped()])
    for shipped in scenarios.shipped():
        scenario = scenarios.read(shipped.path)
        load = sum(c.rate * c.count for c in scenario.classes)
        rows.append((shipped.name, scenario.model, scenario.n_adapters, round(load, 1), scenario.description))
    columns = ("name", "model", "adapters", "requests_per_s", "description")
    columns_shown = ("name", Column("model", 2), ">adapters", Column(">req/s", 1), "what it shows")
    text = render(table(columns_shown, [(*row[:2], f"{row[2]:,}", *row[3:]) for row in rows]))
    values = [dict(zip(columns, row, strict=True)) for row in rows]
    deliver([text], text_output(json, lambda: json_module.dumps(values, indent=2)))


def show_command(scenario: ScenarioArgument, set_: SetOption = None, json: JsonOption = None) -> None:
    """Show a scenario with every default filled in, and its classes of identical adapters.

    What is null is not set. The classes are comments, so that the whole answer is a scenario file again.
    """
    import scenarios
    from scenarios import sources
    from scenarios.text.tables import render, table

    chosen = scenarios.read(scenario, overrides=set_ or ())
    check_outputs({"--json": json}, sources(scenario, chosen))
    rows = [
        (
            c.count,
            c.rank or "base",
            _rate_in_words(c),
            c.kind.mean_prompt_tokens,
            c.output.mean_tokens,
            (c.arrivals or chosen.workload.arrivals).process,
            c.names[0],
        )
        for c in chosen.classes
    ]
    # The # takes a column.
    columns = ("> adapters", ">rank", ">req/s each", ">prompt", ">output", "arrivals", "first")
    classes = [f"#{line.removeprefix(' ')}" for line in render(table(columns, rows)).splitlines()]
    text = scenarios.dumps(chosen, defaults=True) + "\n".join(classes)
    values = chosen.model_dump(mode="json")
    deliver([text], text_output(json, lambda: json_module.dumps(values, indent=2)))


def _rate_in_words(members: AdapterClass) -> object:
    """The rate of a class, or between which two it is."""
    rate = members.rate
    return f"{rate * members.low_share:g} to {rate:g}" if members.kind.uncertain else rate


def _size(scenario: Scenario) -> str:
    """What a scenario's GPUs serve, and in how many classes of what is alike."""
    from scenarios.text.formatting import served

    adapters, classes = scenario.n_adapters - len(scenario.base_names), len(scenario.classes)
    said = served(adapters, bool(scenario.base_names))
    return f"{said} in {classes:,} {'class' if classes == 1 else 'classes'}"


def check_command(
    scenario: Annotated[
        list[str], typer.Argument(metavar="SCENARIO", help="Scenario files, or names of shipped ones.")
    ],
    measured_only: MeasuredOnlyOption = False,
    set_: SetOption = None,
) -> None:
    """Check scenario files; report every problem with its line. Exit code 2 if a file is wrong."""
    import scenarios

    wrong = 0
    for name in scenario:
        where = ""  # mistakes of the file itself name it
        try:
            chosen = scenario_in(name, set_, measured_only=measured_only)
            where = f"{name}: "
            remarks = _check_files(chosen)
        except scenarios.LorapackError as error:
            note(f"lorapack: {where}{error}")
            wrong += 1
        else:
            say(f"{name}: good ({_size(chosen)})")
            for remark in remarks:
                say(f"  {remark}")
    if wrong:
        raise typer.Exit(EXIT_USAGE)


def _check_files(scenario: Scenario) -> tuple[str, ...]:
    """Read the profiles and the recordings of a scenario, which may be wrong too; remarks on the latter."""
    import twin

    twin.profiles_of(scenario)
    return twin.check_trace(scenario)


def schema_command(
    of: Annotated[
        str,
        typer.Argument(metavar="scenario|result", help="What lorapack reads, or what `solve --json` writes."),
    ] = "scenario",
) -> None:
    """Print the JSON schema of a scenario file, for editors, or of a result."""
    import scenarios
    from optimizer.result import result_schema
    from scenarios.text.formatting import shortened

    schemas = {"scenario": scenarios.schema, "result": result_schema}
    if of not in schemas:
        raise typer.BadParameter(f'"{shortened(of)}" has no schema; use scenario or result')
    say_exactly(json_module.dumps(schemas[of](), indent=2))
