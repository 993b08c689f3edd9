"""The targets by name, and a plan in the words of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Protocol, cast

from scenarios.arguments import several
from scenarios.errors import Problem
from scenarios.exporters import routing
from scenarios.exporters.deployment import Deployment, ExportError, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.servers import NAMED
from scenarios.exporters.steps_between.actions import Wave
from scenarios.exporters.steps_between.folders import step_folders
from scenarios.exporters.steps_between.stepping import Stepping
from scenarios.exporters.steps_between.steps import steps_script
from scenarios.exporters.steps_between.waves import DeployedWave, deployed_waves
from scenarios.exporters.vllm import serve_words
from scenarios.placement import Placement, described
from scenarios.reading.overrides import apply, paths_of
from scenarios.reading.parsing import model_from
from scenarios.scenario import Scenario
from scenarios.text.formatting import choice, listed, suggestion

_MODULES = (
    "vllm",
    "systemd",
    "compose",
    "kubernetes.production_stack",
    "kubernetes.aibrix",
    "kubernetes.gie",
    "kubernetes.llm_d",
    "kubernetes.kserve",
    "ray_serve",
    "sglang",
    "nim",
    "kubernetes.dynamo",
    "routing",
)
"""Modules of the targets, in the order in which they are listed."""


class TargetModule(Protocol):
    """What a module of a target has."""

    NAME: str
    """Name after ``--to``."""
    CHECKED: str
    """Which published version its files were checked against, and where that is."""
    STEPS: Stepping | str
    """How it is changed while it serves, or why its files cannot say that."""

    def export(self, deployment: Deployment) -> Export:
        """The files of a deployment."""


class Planned(Protocol):
    """What has a plan, as a result of `solve` has."""

    @property
    def placement(self) -> Placement | None:
        """The plan; None where none was found."""


@cache
def targets() -> dict[str, TargetModule]:
    """The targets by name."""
    modules = [import_module(f"scenarios.exporters.{name}") for name in _MODULES]
    found = [cast(TargetModule, module) for module in modules]
    return {module.NAME: module for module in found}


def find_target(name: str) -> TargetModule:
    """The target of a name.

    Raises
    ------
    ExportError
        If there is none.
    """
    known = targets()
    if name not in known:
        remedy = suggestion(name, list(known)) or f"choose {choice(list(known))}"
        raise ExportError([Problem("--to", f'is "{name}", which is no target', remedy)])
    return known[name]


def export_kind(to: str, *, steps: bool = False) -> str:
    """What an export is, as `Export.kind`."""
    return f"{to}, steps" if steps else to


def export(
    placement: Placement | Planned,
    to: str,
    *,
    scenario: Scenario | None = None,
    overrides: str | Iterable[str] = (),
) -> Export:
    """Say a plan in the words of a serving stack.

    Parameters
    ----------
    placement
        The plan, or the result that has it.
    to
        Name of the target: ``vllm``, ``systemd``, ``compose``, ``production-stack``, ``aibrix``, ``gie``,
        ``llm-d``, ``kserve``, ``ray-serve``, ``sglang``, ``nim``, ``dynamo`` or ``routing``.
    scenario
        What placements need that do not tell model and engine; None: the placement does.
    overrides
        Values of the section export, one ``path=value`` or several: ``export.namespace=ml``.

    Raises
    ------
    ExportError
        If the target is unknown, the placement does not tell what is needed, or the target cannot hold it.
    ScenarioError
        If an override cannot be applied.
    """
    target = find_target(to)
    made = target.export(deployment_of(exportable(placement, scenario, overrides)))
    return replace(made, kind=export_kind(to))


def export_steps(running: Placement, waves: Sequence[Wave], to: str) -> Export:
    """Say the steps from what runs to a plan: a script for plain vLLM, or a stack's files wave by wave.

    Parameters
    ----------
    running
        What runs, with its ``max_cpu_loras``.
    waves
        The steps, of which there is one at least.
    to
        Name of the target; for ``vllm`` the script, for others a folder for each step of a wave.

    Raises
    ------
    ExportError
        As `export`, or if the target's files cannot say steps.
    """
    stepping = find_steps(to)
    target = find_target(to)
    deployed = deployed_waves(running, waves)
    if to == "vllm":
        script = steps_script(deployed, serve_words, lambda one: routing.export(one).files)
        cautions = (_answering(deployed), *script.cautions)
        return replace(script, cautions=cautions, kind=export_kind(to, steps=True))
    _check_release(running, waves, to, stepping)
    made = step_folders(deployed, stepping, target.export, routing.export)
    cautions = (_beside(running, deployed, to), *made.cautions)
    return replace(made, cautions=cautions, kind=export_kind(to, steps=True))


def find_steps(to: str) -> Stepping:
    """How a target is changed while it serves.

    Raises
    ------
    ExportError
        If there is no such target, or its files cannot say that.
    """
    found = find_target(to).STEPS
    if isinstance(found, Stepping):
        return found
    remedy = "export the plan alone, and interrupt the service for the change; or choose another target"
    raise ExportError([Problem("--from", f"cannot be exported to {to}: {found}", remedy)])


def _check_release(running: Placement, waves: Sequence[Wave], to: str, stepping: Stepping) -> None:
    """Refuse another release where a file says all engines, those that run among them."""
    old, new = running.engine_version, waves[-1].placement.engine_version
    if stepping.rewrites and old is not None and new is not None and old != new:
        message = f"runs vLLM {old}, the plan was judged as {new}, and one file of {to} says all engines"
        remedy = "plan with the release that runs, or choose another target"
        raise ExportError([Problem("--from", message, remedy)])


def _answering(deployed: Sequence[DeployedWave]) -> str:
    """Say where the script looks for the engines that run."""
    places = [f"GPU {group.number} at {group.host}:{group.port}" for group in deployed[0].before.groups]
    return (
        f"What runs is taken to answer where its export would: {listed(places, NAMED)}. Set export.hosts and "
        "export.port so that it is so."
    )


def _beside(running: Placement, deployed: Sequence[DeployedWave], to: str) -> str:
    """Say what the steps take for granted of what runs, and how many GPUs it takes where that is not so."""
    last = deployed[-1].unload
    number = (len(running.gpus) + len(last.groups)) * len(last.groups[0].devices)
    return (
        f"These steps take what runs for an export to {to} under the name {last.settings.name}, with the "
        "numbers of its GPUs; whatever has other names they neither change nor delete. If yours has, export "
        f"the plan alone: its engines start beside those that run, on {number:,} GPUs at once, and you stop "
        "the old ones."
    )


def exportable(
    placement: Placement | Planned, scenario: Scenario | None = None, overrides: str | Iterable[str] = ()
) -> Placement:
    """The placement with what a scenario tells beside, and with other settings of a deployment.

    Raises
    ------
    ExportError
        If there is no placement, or an override is not of the section export.
    ScenarioError
        If an override cannot be applied.
    """
    placement = _placement_in(placement)
    if scenario is not None:
        placement = described(placement, scenario, placement.engine_version)
    chosen = several(overrides)
    if not chosen:
        return placement
    foreign = [text for text, loc in zip(chosen, paths_of(chosen), strict=True) if loc[:1] != ("export",)]
    if foreign:
        remedy = "set what is below export; what the twin judged is changed by `lorapack solve --set`"
        raise ExportError([Problem(foreign[0], "is no value of a deployment's section", remedy)])
    values = placement.model_dump(mode="json")
    return model_from(Placement, apply(values, chosen, "placement"), "placement")


def _placement_in(given: object) -> Placement:
    """The placement that is given, or that which a result has."""
    if isinstance(given, Placement):
        return given
    found = getattr(given, "placement", None)
    if isinstance(found, Placement):
        return found
    if hasattr(given, "placement"):
        raise ExportError([Problem("placement", "is none, for no plan was found", "raise the limits")])
    message = f"is of type {type(given).__name__}"
    raise ExportError([Problem("placement", message, "give a scenarios.Placement, or a result that has one")])
