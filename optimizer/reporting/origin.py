"""Where a result comes from: enough to repeat it."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from learn import Regions
from optimizer.reporting.contents import Origin
from optimizer.result import Result
from optimizer.search.objectives import leading_prices
from optimizer.version import __version__
from scenarios import dumps
from twin import EngineProfile

SCENARIO_FILE = "scenario.yaml"
"""What commands call the resolved scenario, which a report holds."""

PARAMS_FILE = "params.toml"
"""What they call its parameters."""

LIBRARIES = (
    "numpy",
    "numba",
    "ortools",
    "highspy",
    "pulp",
    "pydantic",
    "altair",
    "vl-convert-python",
    "jinja2",
)
"""Libraries whose versions a report tells: those that compute, and those that draw."""


def origin_of(
    result: Result,
    file: Path | None,
    profiles: Mapping[str, EngineProfile],
    regions: Mapping[str, Regions],
) -> Origin:
    """All that is needed to make a result again.

    Parameters
    ----------
    result
        The result.
    file
        The file that it was read from, if it was.
    profiles, regions
        Engine profile and linear regions of each device; regions are missing where the method, or the
        scenario, has none.
    """
    text = scenario_yaml(result)
    content = f"{result.to_json()}\n".encode() if file is None else file.read_bytes()
    return Origin(
        scenario_yaml=text,
        scenario_sha256=hashlib.sha256(text.encode()).hexdigest(),
        result_file=None if file is None else file.name,
        result_sha256=hashlib.sha256(content).hexdigest(),
        seed=result.seed,
        params_toml="".join(f"{line}\n" for line in _toml(result.params)),
        version=result.version,
        reported_with=versions(),
        profiles={name: _profile_in_words(one) for name, one in profiles.items()},
        regions={name: _digest(one.to_json()) for name, one in regions.items() if one.inner.options},
        command=command_of(result),
    )


def scenario_yaml(result: Result) -> str:
    """The resolved scenario of a result, which reads back equal."""
    return dumps(result.scenario, defaults=True)


def versions() -> dict[str, str]:
    """Versions of lorapack, Python and the libraries, those that are installed."""
    found = {"lorapack": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _profile_in_words(profile: EngineProfile) -> str:
    """Name, source and digest of a profile, and from what it is derived if it is."""
    made = f"{profile.name}, vLLM {profile.engine_version}, from {profile.provenance.source}"
    sure = f"; {profile.how_sure}, at its {profile.end} end" if profile.derived is not None else ""
    return f"{made}{sure}; {_digest(profile.model_dump_json())}"


def _toml(values: Mapping[str, object], path: str = "") -> Iterator[str]:
    """Nested parameters as lines of TOML, whose numbers, texts and lists are written as in JSON."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _toml(value, f"{path}{name}.")
        else:
            yield f"{path}{name} = {json.dumps(value)}"


def command_of(result: Result) -> str:
    """The command that solves the resolved scenario again; limits of time are none of a result's."""
    params = ["--params", PARAMS_FILE] if result.params else []
    if result.method == "replan":
        return shlex.join(["lorapack", "replan", SCENARIO_FILE, "--from", "running.yaml", *params])
    words = ["lorapack", "solve", SCENARIO_FILE, "--method", result.method]
    words += ["--objective", ",".join(result.objectives)]
    if result.survival is not None:
        words += ["--spare", result.survival.spare, "--recovery", result.survival.recovery]
    elif on_given_gpus(result):
        words += ["--gpus", f"{result.gpus}"]
    return shlex.join([*words, *params])


def on_given_gpus(result: Result) -> bool:
    """Whether a latency or balance comes first, which is for a number of GPUs."""
    return result.gpus is not None and not leading_prices(result.objectives)
