"""Options and exit codes that the commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from scenarios import Device, Params, Scenario
    from scenarios.reading.findings import Finding
    from scenarios.stopping.progress import Progress

P = ParamSpec("P")
G = TypeVar("G", bound="Params")

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a value: engine.max_model_len=16384 (repeatable)."
    ),
]
AcceptanceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="By what a GPU is accepted: sustained (it keeps up for ever) or paper (90 % of the tokens of a "
        "run). Absent: the scenario's.",
    ),
]
LoadFactorOption = Annotated[
    float, typer.Option(metavar="FACTOR", help="How many times the scenario's rates are served: 1.2.")
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write JSON to a file, or to standard output with -."),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the answer to a PNG, SVG or PDF file."),
]
SeedOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Seed of everything random; absent: the scenario's.")
]
WorkersOption = Annotated[
    int, typer.Option(metavar="N", min=1, help="Processes; the answer does not depend on it.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Where the twin runs: dask://HOST:PORT, ray://HOST:PORT, or ray://local, which starts as many "
        "processes as --workers says. Absent: here.",
    ),
]
TimeLimitOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        help="For the search of each placer; the best plan so far is kept. Compiling, once after "
        "installation, regions to learn, and a latency after the fewest GPUs come on top.",
    ),
]
TotalLimitOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=0.1, help="For everything, compiling and learning too; absent: no such limit."
    ),
]
ParamsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Parameters of the algorithms, as TOML: docs/params.md lists them."),
]
RecoveryOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How adapters of lost GPUs come back: live (loaded into the engines that run, whose slots and "
        "ranks stay) or restart (engines may be started again).",
    ),
]
ExpectedOption = Annotated[
    bool,
    typer.Option(
        "--expected",
        help="Where step times are derived, not measured: judge at what is expected of them, not at their "
        "pessimistic end.",
    ),
]
MeasuredOnlyOption = Annotated[
    bool, typer.Option("--measured-only", help="Refuse step times that are derived, not measured.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def scenario_in(
    name: str,
    changes: Iterable[str] | None,
    acceptance: str | None = None,
    *,
    expected: bool = False,
    measured_only: bool = False,
    told_in_answer: bool = False,
    load_factor: float = 1.0,
) -> Scenario:
    """The scenario of a file or of a shipped name, whose devices have engine profiles.

    Which step times are derived is told on stderr before the work, unless the answer tells it.

    Where profiles alone are missing, what can be said without them, the memory, is told before the error.
    """
    from scenarios import ScenarioError, at_load, read

    if expected and measured_only:
        raise typer.BadParameter("--expected and --measured-only exclude each other")
    chosen = (*(changes or ()), *(() if acceptance is None else (f"acceptance={acceptance}",)))
    chosen += ("derived_costs=expected",) if expected else ()
    chosen += ("derived_costs=refused",) if measured_only else ()
    try:
        scenario = read(name, chosen, profiles=partial(_missing_profiles, derive=not measured_only))
    except ScenarioError:
        _tell_memory(name, chosen)
        raise
    _tell_of_step_times(scenario, derived=not told_in_answer)
    return at_load(scenario, load_factor)


def _missing_profiles(
    model: str, devices: Iterable[tuple[int, Device]], *, derive: bool
) -> Iterator[Finding]:
    """What `twin.missing_profiles` yields, which is imported only where there is a scenario to check."""
    from twin import missing_profiles

    yield from missing_profiles(model, devices, derive=derive)


def _tell_of_step_times(scenario: Scenario, *, derived: bool) -> None:
    """Tell which step times are derived, and what of the engine's arguments they know nothing of."""
    from optimizer.cli.streams import note
    from scenarios import LorapackError
    from twin import profiles_of
    from twin.startup import unmodelled

    try:
        profiles = profiles_of(scenario)
    except LorapackError:
        return  # the command tells it
    for device, profile in profiles.items():
        if derived and profile.derived is not None:
            note(f"lorapack: step times of {device} are derived, not measured: {profile.how_sure}")
    for sentence in unmodelled(scenario, profiles):
        note(f"lorapack: {sentence}")


def _tell_memory(name: str, changes: tuple[str, ...]) -> None:
    """Tell the memory of a scenario's devices without profiles, where nothing else is wrong with it."""
    from optimizer.cli.streams import say
    from scenarios import ScenarioError, read

    try:
        scenario = read(name, changes)
    except ScenarioError:
        return
    from twin.startup import memory_without_profiles

    for sentence in memory_without_profiles(scenario):
        say(sentence)


def params_in(file: Path | None, kind: type[G]) -> G:
    """The parameters of a file; the defaults where none is given."""
    from scenarios import read_params

    return kind() if file is None else read_params(file, kind)


def load_twin(workers: int, progress: Progress, scenario: Scenario | None = None) -> None:
    """Compile the twin's loops, once after installation, and say so, or load them: those a scenario needs."""
    from optimizer.search.compilation import compile_loops, twin_loops
    from scenarios import UNLIMITED
    from twin import profiles_of, shipped_profiles

    loops = () if scenario is None else twin_loops(scenario, profiles_of(scenario))
    compile_loops(shipped_profiles()[0], loops, workers, UNLIMITED, progress)


def with_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has the option --cluster beside --workers, and whose twin runs there."""

    @wraps(command)
    def run(**given: object) -> None:
        address, workers = given.pop("cluster"), given["workers"]
        if not isinstance(address, str):
            return command(**given)
        from scenarios import noticed
        from twin.parallel import on_cluster

        with noticed(), on_cluster(address, workers=workers if isinstance(workers, int) else None):
            return command(**given)

    hints = get_type_hints(command, include_extras=True) | {"cluster": ClusterOption}
    own = list(signature(command).parameters.values())
    place = 1 + [p.name for p in own].index("workers")
    own.insert(place, Parameter("cluster", Parameter.KEYWORD_ONLY, default=None))
    run.__annotations__ = hints
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [p.replace(annotation=hints[p.name], kind=Parameter.KEYWORD_ONLY) for p in own]
    )
    return run


def noticing_signals(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose work notices SIGINT and SIGTERM at safe points, and tells what it has by then."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from scenarios import noticed
        from scenarios.stopping.interrupts import ignore_signals

        with noticed():
            try:
                command(*args, **kwargs)
            finally:
                ignore_signals()  # all is told and written

    return run
