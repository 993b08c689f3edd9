"""Checks of what `check` is asked, before anything is planned."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from optimizer.checking.replay.check_params import CheckParams
from optimizer.result import Result
from scenarios import Problem, ScenarioError
from scenarios.arguments import ArgumentCheck, instance_of, number, whole
from scenarios.errors import InputError
from scenarios.text.formatting import listed
from twin.live import checked_url

NAMED = 5
"""GPUs that a message names."""


def checked_addresses(
    result: object, urls: object, minutes: object, load_factor: object, seed: object, params: object
) -> dict[int, str]:
    """The addresses as the client takes them, by GPU, after all arguments are checked.

    Raises
    ------
    ScenarioError
        With all that is wrong with an argument, or with the addresses.
    """
    given = ArgumentCheck("check")
    given.check("result", result, instance_of(Result), "give what optimizer.solve returned")
    given.check("urls", urls, lambda one: isinstance(one, Mapping) and len(one) > 0, "give {GPU: URL, ...}")
    if minutes is not None:
        given.check("minutes", minutes, number(above=0), "give minutes, a number above 0")
    given.check("load_factor", load_factor, number(above=0), "give a number above 0")
    if seed is not None:
        given.check("seed", seed, whole(least=0), "give a whole number of at least 0")
    given.check("params", params, instance_of(CheckParams), "give optimizer.CheckParams(...)")
    given.refuse()
    assert isinstance(result, Result)
    assert isinstance(urls, Mapping)
    if result.placement is None:
        problem = Problem("placement", "is absent: there is no plan", "find one first: see message")
        raise ScenarioError([problem], "check")
    return _addresses({gpu.gpu for gpu in result.placement.gpus}, urls)


def _addresses(numbers: Collection[int], urls: Mapping[int, str]) -> dict[int, str]:
    problems: list[Problem] = []
    found: dict[int, str] = {}
    known = f"the plan has {listed([str(gpu) for gpu in sorted(numbers)], NAMED)}"
    for gpu, url in urls.items():
        where = f"GPU {gpu}"
        if gpu not in numbers:
            problems.append(Problem(where, "is none of the plan", known))
        try:
            address = checked_url(url)
        except InputError as error:
            problems += [Problem(f"{where}: {one.path}", one.message, one.remedy) for one in error.problems]
            continue
        other = next((n for n, known_url in found.items() if known_url == address), None)
        if other is not None:
            message = f"has the server of GPU {other}, {address}"
            problems.append(Problem(where, message, "name a server for each"))
        found[gpu] = address
    if problems:
        raise ScenarioError(problems, "check")
    return found
