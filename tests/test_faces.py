"""What a user sees of a package when completing its name, and of its values in a REPL."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import learn
import optimizer
import scenarios
import twin
from scenarios.stopping.progress import silent


@pytest.mark.parametrize("package", [twin, learn, optimizer], ids=lambda package: package.__name__)
def test_completion_shows_what_is_public_and_no_internals(package: ModuleType) -> None:
    assert dir(package) == sorted(package.__all__)
    assert all(getattr(package, name) is not None for name in dir(package))


def test_what_is_imported_late_is_shown() -> None:
    assert {"calibrate", "fidelity", "read_measurement"} <= set(dir(twin))
    assert {"fit", "assess", "linearize"} <= set(dir(learn))


@pytest.mark.parametrize("package", [twin, learn, optimizer], ids=lambda package: package.__name__)
def test_signatures_show_no_addresses(package: ModuleType) -> None:
    public = [getattr(package, name) for name in package.__all__]
    errors = [one for one in public if isinstance(one, type) and issubclass(one, Exception)]
    signatures = [str(inspect.signature(one)) for one in public if callable(one) and one not in errors]
    assert len(signatures) > 5
    assert not [signature for signature in signatures if " at 0x" in signature]
    assert repr(silent) == "silent"


def test_values_of_the_twin_show_on_one_line() -> None:
    profile = twin.find_profile("llama-3.1-8b-instruct", None)
    assert repr(profile) == str(profile) == f"<EngineProfile: {profile.name}>"
    (adapters,) = scenarios.read("paper_low_128").classes[:1]
    load = twin.GPULoad.from_classes([adapters])
    assert repr(load).startswith(f"<GPULoad: {adapters.count} adapters, ")
    workload = scenarios.read("paper_low_128").workload
    requests = twin.draw_requests(load, workload, 0, 100.0)
    assert repr(requests) == f"<Requests: {len(requests)} of {adapters.count} adapters>"
