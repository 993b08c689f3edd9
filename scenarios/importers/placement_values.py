"""What runs where now, as the values of a placement file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from scenarios.gpus.catalogue import UnknownGPUError, find_gpu
from scenarios.importers.facts import RouteFacts, Said, ServerFacts
from scenarios.importers.merging import Fleet
from scenarios.importers.names import names_for
from scenarios.importers.values import Values, ValuesBuilder

HEAD = ("Made by lorapack import: what runs where now, as far as the sources say.",)

DEFAULTS = {"max_loras": 1, "max_lora_rank": 16}
"""What vLLM's servers with adapters have that state nothing else (vllm/config/lora.py, LoRAConfig)."""

_NUMBER = re.compile(r"(?:^|[-_.])g(?:pu)?-?(\d{1,6})$", re.IGNORECASE)
"""How the name of a server tells its number."""


def placement_values(fleet: Fleet, scenario: Mapping[str, object]) -> Values:
    """The values of a placement: a GPU for each server, and each replica, with its adapters.

    Parameters
    ----------
    fleet
        What the sources say; of servers without adapters and engine nothing is written.
    scenario
        The values of the scenario that was made of it, which tell names, model and device.
    """
    built = ValuesBuilder()
    names = _names(fleet, scenario)
    servers = _servers(fleet, names)
    held = _held(fleet, servers, names)
    if not any(any(each) for each in held.values()):
        return built.built(HEAD)
    gpus: list[dict[str, object]] = []
    built.values["gpus"] = gpus
    numbers = _numbers(servers)
    for server in sorted(servers, key=lambda one: numbers[one.name]):
        each = held[server.name]
        for replica, holds in enumerate(each if any(each) else ()):
            named = server.name if not server.instances else _instance(server, replica)
            gpu = _gpu(built, server, numbers[server.name] + replica, holds, scenario, len(gpus))
            built.beside["gpus", len(gpus), "gpu"] = f"{named}: {server.origin}"
            gpus.append(gpu)
    _known(built, scenario, {name for each in held.values() for holds in each for name in holds})
    return built.built(HEAD)


def _names(fleet: Fleet, scenario: Mapping[str, object]) -> dict[str, str]:
    """Names in the scenario by served name; all names of the base model are its entry's, if it has one."""
    names = names_for(fleet.adapters)
    entries = cast("Sequence[Mapping[str, object]]", scenario["adapters"])
    base = next((str(entry["name"]) for entry in entries if entry.get("rank") == 0), None)
    return names if base is None else names | dict.fromkeys(fleet.base_names, base)


def _servers(fleet: Fleet, names: Mapping[str, str]) -> list[ServerFacts]:
    """Servers that hold adapters or have an engine of their own, in the order of their numbers."""
    routed = {key for route in fleet.routes.values() for key in route.weights}
    return [
        server
        for server in fleet.servers.values()
        if server.names() or (names and (server.engine or {server.name, server.address} & routed))
    ]


def _numbers(servers: Sequence[ServerFacts]) -> dict[str, int]:
    """First number of each server's GPUs: that of its name where all have one, or else in their order."""
    told = [_NUMBER.search(server.name) for server in servers]
    found = [int(match[1]) for match in told if match is not None]
    alone = all(server.replicas == 1 for server in servers)
    if alone and len(found) == len(servers) and len(set(found)) == len(found):
        return {server.name: number for server, number in zip(servers, found, strict=True)}
    numbers, first = {}, 0
    for server in servers:
        numbers[server.name] = first
        first += server.replicas
    return numbers


def _held(
    fleet: Fleet, servers: Sequence[ServerFacts], names: Mapping[str, str]
) -> dict[str, list[dict[str, tuple[float, str]]]]:
    """Share of each adapter on each replica of a server, and where that is said, by the scenario's names."""
    held: dict[str, list[dict[str, tuple[float, str]]]] = {
        server.name: [{} for _ in range(server.replicas)] for server in servers
    }
    for served, name in names.items():
        weights, origin = _weights(served, fleet, servers)
        total = sum(weights.values())
        for server in servers:
            holding = server.holding(served) or tuple(range(server.replicas))
            share = weights.get(server.name, 0.0) / total / len(holding) if total and holding else 0.0
            for replica in holding if share > 0 else ():
                held[server.name][replica][name] = (share, origin)
    return held


def _weights(served: str, fleet: Fleet, servers: Sequence[ServerFacts]) -> tuple[dict[str, float], str]:
    """Weight of each server for the requests of one name."""
    holders = [server for server in servers if server.holding(served)]
    if served in fleet.base_names:
        holders = list(servers)
    route = fleet.routes.get(served)
    if route is not None:
        among = holders or servers
        weights = {s.name: w for s in among if (w := _weight(route, s)) > 0}
        if weights:
            return weights, route.origin
    each = {server.name: float(len(server.holding(served)) or server.replicas) for server in holders}
    return each, "no route is told: replicas have equal parts"


def _weight(route: RouteFacts, server: ServerFacts) -> float:
    return route.weights.get(server.name) or route.weights.get(server.address, 0.0)


def _instance(server: ServerFacts, replica: int) -> str:
    """What a replica is called: by the name of the instance that it is of, if one is told."""
    names = list(server.instances)
    number = replica // server.engines
    return f"{server.name}, {names[number]}" if number < len(names) else server.name


def _gpu(
    built: ValuesBuilder,
    server: ServerFacts,
    number: int,
    held: Mapping[str, tuple[float, str]],
    scenario: Mapping[str, object],
    index: int,
) -> dict[str, object]:
    """One GPU with its adapters."""
    gpu: dict[str, object] = {"gpu": number}
    loc = ("gpus", index)
    device = _device(server, scenario)
    if device is None:
        built.lack(gpu, (*loc, "device"), "device", server.name, "kind of GPU")
    else:
        gpu["device"] = device
    for key in ("max_loras", "max_lora_rank"):
        said = server.engine.get(key)
        if said is None and server.engine and server.program == "vLLM":
            said = Said(DEFAULTS[key], "vLLM's default")
        if said is None:
            built.lack(gpu, (*loc, key), key, server.name, "an argument of its engine")
        built.put(gpu, (*loc, key), said)
    built.put(gpu, (*loc, "max_cpu_loras"), server.engine.get("max_cpu_loras"))
    gpu["adapters"] = list(held)
    shares = {name: share for name, (share, _) in held.items() if share < 1 - 1e-9}
    if shares:
        gpu["shares"] = shares
        for name in shares:
            built.beside[*loc, "shares", name] = held[name][1]
    return gpu


def _device(server: ServerFacts, scenario: Mapping[str, object]) -> str | None:
    """Kind of GPU of a server: its own, or the scenario's if that has one only."""
    if server.device is not None:
        try:
            return find_gpu(server.device.value).name
        except UnknownGPUError:
            return server.device.value
    devices = scenario.get("devices")
    if isinstance(devices, list | tuple) and len(devices) == 1:
        devices = devices[0]
    if isinstance(devices, Mapping):
        devices = devices.get("name")
    return devices if isinstance(devices, str) else None


def _known(built: ValuesBuilder, scenario: Mapping[str, object], placed: set[str]) -> None:
    """What a deployment must know beside: model, engine, sources and served names."""
    for key in ("model", "engine", "export"):
        if scenario.get(key) is not None:
            built.values[key] = scenario[key]
    adapters: dict[str, object] = {}
    for entry in cast("Sequence[Mapping[str, object]]", scenario["adapters"]):
        told = {key: entry[key] for key in ("source", "served_name") if key in entry}
        if entry.get("rank") == 0:
            told["base"] = True
        if told and entry["name"] in placed:
            adapters[str(entry["name"])] = told
    if adapters:
        built.values["adapters"] = adapters
