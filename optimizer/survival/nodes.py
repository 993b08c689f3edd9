"""GPU numbers so that the replicas of an adapter are in distinct nodes."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios import PlacedGPU, Placement, Scenario, with_nodes


def on_nodes(placement: Placement, scenario: Scenario) -> Placement:
    """The placement with the node of each GPU; replicas that were asked for are apart as far as can be.

    GPUs keep their contents and get other numbers where that brings two replicas of one adapter
    (``adapters[].min_replicas``) out of one node.
    """
    numbers = numbers_apart(placement, scenario)
    if numbers == tuple(gpu.gpu for gpu in placement.gpus):
        return with_nodes(placement, scenario)
    gpus = [
        gpu.model_copy(update={"gpu": number}) for gpu, number in zip(placement.gpus, numbers, strict=True)
    ]
    return with_nodes(Placement(gpus=tuple(sorted(gpus, key=lambda gpu: gpu.gpu))), scenario)


def numbers_apart(placement: Placement, scenario: Scenario) -> tuple[int, ...]:
    """The number of each GPU with which replicas are in distinct nodes, as far as can be."""
    kept = [gpu.gpu for gpu in placement.gpus]
    replicated = {name for one in scenario.classes if one.min_replicas > 1 for name in one.names}
    if not replicated:
        return tuple(kept)
    numbers = list(kept)
    for device in scenario.devices:
        mine = [k for k, gpu in enumerate(placement.gpus) if gpu.device == device.name]
        if device.gpus_per_node == 1 or len(mine) <= device.gpus_per_node:
            continue
        free = sorted(kept[k] for k in mine)
        order = _apart([placement.gpus[k] for k in mine], replicated, device.gpus_per_node)
        for number, k in zip(free, order, strict=True):
            numbers[mine[k]] = number
    return tuple(numbers)


def _apart(gpus: Sequence[PlacedGPU], replicated: set[str], of_node: int) -> list[int]:
    """The GPUs node by node: those with the most replicas first, each to the node that has fewest of them."""
    held = [replicated.intersection(gpu.adapters) for gpu in gpus]
    rooms = [min(of_node, len(gpus) - start) for start in range(0, len(gpus), of_node)]
    nodes: list[list[int]] = [[] for _ in rooms]
    for k in sorted(range(len(gpus)), key=lambda k: (-len(held[k]), k)):
        free = [node for node, room in enumerate(rooms) if len(nodes[node]) < room]
        place = min(
            free, key=lambda node: (sum(len(held[k] & held[o]) for o in nodes[node]), len(nodes[node]))
        )
        nodes[place].append(k)
    return [k for node in nodes for k in sorted(node)]


def together(placement: Placement, scenario: Scenario) -> tuple[str, ...]:
    """Adapters with replicas in one node though they should be apart and there are nodes enough."""
    if all(device.gpus_per_node == 1 for device in scenario.devices):
        return ()
    replicas = {
        name: one.min_replicas for one in scenario.classes if one.min_replicas > 1 for name in one.names
    }
    node = {gpu.gpu: gpu.node for gpu in with_nodes(placement, scenario).gpus}
    served: dict[str, list[int | None]] = {name: [] for name in replicas}
    for gpu in placement.gpus:
        for name in replicas.keys() & set(gpu.adapters):
            served[name].append(node[gpu.gpu])
    enough = len(set(node.values()))
    return tuple(
        sorted(name for name, nodes in served.items() if len(set(nodes)) < min(replicas[name], enough))
    )
