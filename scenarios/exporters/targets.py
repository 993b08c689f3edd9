"""The targets by name, and a plan in the words of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import cast

from scenarios.arguments import several
from scenarios.errors import Problem
from scenarios.exporters import routing
from scenarios.exporters.deployment import ExportError, deployment_of
from scenarios.exporters.exported import Export, ExportedFile, ExportedLink, TargetModule
from scenarios.exporters.steps_between.actions import Wave
from scenarios.exporters.steps_between.steps import steps_script
from scenarios.exporters.steps_between.waves import deployed_waves, wave_exports
from scenarios.exporters.vllm import serve_words
from scenarios.placement import Placement, described
from scenarios.reading.overrides import apply, paths_of
from scenarios.reading.parsing import model_from
from scenarios.scenario import Scenario
from scenarios.text.formatting import choice, suggestion

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


def export(
    placement: Placement,
    to: str,
    *,
    scenario: Scenario | None = None,
    overrides: str | Iterable[str] = (),
) -> Export:
    """Say a plan in the words of a serving stack.

    Parameters
    ----------
    placement
        The plan.
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
    return target.export(deployment_of(exportable(placement, scenario, overrides)))


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
        As `export`.
    """
    target = find_target(to)
    deployed = deployed_waves(running, waves)
    if to == "vllm":
        return steps_script(deployed, serve_words, lambda one: routing.export(one).files)
    files: list[ExportedFile] = []
    links: list[ExportedLink] = []
    lost: dict[str, None] = {}
    cautions = dict.fromkeys(["apply the folders in the order of their names, and wait for each"])
    for folder, made in wave_exports(deployed, target.export):
        files += [replace(file, path=f"{folder}/{file.path}") for file in made.files]
        links += [replace(link, path=f"{folder}/{link.path}") for link in made.links]
        lost |= dict.fromkeys(made.lost)
        cautions |= dict.fromkeys(made.cautions)
    return Export(tuple(files), tuple(links), tuple(lost), tuple(cautions))


def exportable(
    placement: Placement, scenario: Scenario | None = None, overrides: str | Iterable[str] = ()
) -> Placement:
    """The placement with what a scenario tells beside, and with other settings of a deployment.

    Raises
    ------
    ExportError
        If an override is not of the section export.
    ScenarioError
        If an override cannot be applied.
    """
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
