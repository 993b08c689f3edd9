"""Configurations of Ray Serve LLM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import AdapterFacts, ImportOptions, Said, ServerFacts, SourceFacts
from scenarios.importers.servers.command_adapters import folder_adapters
from scenarios.importers.servers.engine_values import ARGUMENTS, engine_values, notes_on_unknown
from scenarios.importers.servers.server_sets import facts_of
from scenarios.importers.servers.source_places import count_at, list_at, located, mapping_at, yaml_mapping
from scenarios.importers.servers.vllm_command import CommandFacts
from scenarios.importers.servers.vllm_flags import SILENT
from scenarios.importers.source import Kind, Source
from scenarios.reading.text_files import is_there
from scenarios.text.formatting import shortened, shown


def _fits(source: Source) -> bool:
    head = source.head
    return bool(
        not source.is_folder
        and re.search(rb'^(?:\{\s*)?"?applications"?[ \t]*:', head, re.MULTILINE)
        and re.search(rb"llm_configs|ray\.serve\.llm", head)
    )


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    servers: list[CommandFacts] = []
    notes: list[str] = []
    applications = list_at(source, yaml_mapping(source).get("applications"), "applications")
    for k, value in enumerate(applications):
        place = f"applications[{k}]"
        arguments = mapping_at(source, mapping_at(source, value, place).get("args"), f"{place}.args")
        configs = list_at(source, arguments.get("llm_configs"), f"{place}.args.llm_configs")
        for j, config in enumerate(configs):
            inner = f"{place}.args.llm_configs[{j}]"
            if isinstance(config, str):
                notes.append(f"{inner} names the file {shortened(config)}, which is not read.")
                continue
            with located(source):
                servers.append(_server(source, mapping_at(source, config, inner), inner))
    if not servers:
        raise source.error("has no llm_configs with models in them", "give the file that has", "applications")
    return facts_of(RAY_SERVE_FILE.name, servers, notes)


def _server(source: Source, config: Mapping[str, object], place: str) -> CommandFacts:
    """What one LLMConfig says."""
    origin = f"{source.path.name}, {place}"
    loading = mapping_at(source, config.get("model_loading_config"), f"{place}.model_loading_config")
    name = _name(source, loading.get("model_id"), f"{place}.model_loading_config.model_id")
    model = loading.get("model_source", name)
    if isinstance(model, dict):
        model = model.get("bucket_uri")
    arguments = mapping_at(source, config.get("engine_kwargs"), f"{place}.engine_kwargs")
    given = {key: value for key, value in arguments.items() if key in ARGUMENTS}
    values = engine_values(given, f"{origin}.engine_kwargs")
    unknown = [key for key in arguments if key not in ARGUMENTS and key not in SILENT]
    device = config.get("accelerator_type")
    adapters, notes = _adapters(source, config, place)
    server = ServerFacts(
        name,
        origin,
        tuple(adapter.served_name for adapter in adapters),
        values.engine,
        _replicas(source, config, place),
        Said(plain_address(model), f"{origin}.model_loading_config") if isinstance(model, str) else None,
        Said(name, f"{origin}.model_loading_config.model_id"),
        Said(device, f"{origin}.accelerator_type") if isinstance(device, str) and device else None,
        notes=(*values.notes, *notes_on_unknown(unknown), *notes),
    )
    return CommandFacts(server, adapters, (name,))


def _name(source: Source, value: object, place: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise source.error(f"is {shown(value)}", "give the name of the model", place=place)
    return plain_address(value)


def _adapters(
    source: Source, config: Mapping[str, object], place: str
) -> tuple[tuple[AdapterFacts, ...], list[str]]:
    """Adapters below ``dynamic_lora_loading_path``, or in the folder beside the file that goes there."""
    lora = mapping_at(source, config.get("lora_config"), f"{place}.lora_config")
    path = lora.get("dynamic_lora_loading_path")
    if path is None:
        return (), []
    if not isinstance(path, str) or not path:
        place = f"{place}.lora_config.dynamic_lora_loading_path"
        raise source.error(f"is {shown(path)}", "give a folder or an address", place=place)
    beside = source.path.absolute().parent / "lora" / path.rstrip("/").rsplit("/", 1)[-1]
    chosen = str(beside) if not is_there(Path(path), folder=True) and is_there(beside, folder=True) else path
    return folder_adapters(chosen, "dynamic_lora_loading_path", "")


def _replicas(source: Source, config: Mapping[str, object], place: str) -> int:
    """Replicas of a model; where their number changes with the load, the least."""
    place = f"{place}.deployment_config"
    deployment = mapping_at(source, config.get("deployment_config"), place)
    scaling = deployment.get("autoscaling_config")
    if isinstance(scaling, dict) and deployment.get("num_replicas") in (None, "auto"):
        return count_at(source, scaling.get("min_replicas"), f"{place}.autoscaling_config.min_replicas")
    return count_at(source, deployment.get("num_replicas"), f"{place}.num_replicas")


RAY_SERVE_FILE = Kind("configuration of Ray Serve LLM", _fits, _read)
"""LLMConfig of ray-project/ray @697db261, python/ray/llm/_internal/serve/core/configs/llm_config.py."""
