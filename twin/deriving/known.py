"""The engine profile that is to be had of a model on a GPU: shipped, or derived from one that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from scenarios import Device, LorapackError, UnknownGPUError, find_gpu
from scenarios.reading.findings import Finding
from scenarios.text.formatting import shortened
from twin.deriving.derive import derive_profile
from twin.profile import EngineProfile, UnknownProfileError, find_profile, unshipped


def known_profile(
    model: str, device: str, *, derive: bool = True, tensor_parallel_size: int = 1
) -> EngineProfile:
    """The shipped profile of a model on a device, or one that is derived for them.

    Parameters
    ----------
    model, device
        The base model and the GPU.
    derive
        Whether one may be derived.
    tensor_parallel_size
        GPUs of an engine, for one that is.

    Raises
    ------
    UnknownProfileError
        If none is shipped, and none can be derived or is to be.
    """
    try:
        return find_profile(model, device)
    except UnknownProfileError as missing:
        if not derive:
            raise
        try:
            return _derived(model, device, tensor_parallel_size)
        except LorapackError as error:
            raise UnknownProfileError(f"{missing}; none can be derived: {error}") from error


@cache
def _derived(model: str, device: str, tensor_parallel_size: int) -> EngineProfile:
    return derive_profile(model, device, tensor_parallel_size=tensor_parallel_size)


def missing_profiles(
    model: str, devices: Iterable[tuple[int, Device]], *, derive: bool = True
) -> Iterator[Finding]:
    """Yield the model, or each device with its index, for which no profile is to be had and none is named.

    `scenarios.read` takes it as ``profiles``, and tells it with the line and with all else that is wrong.

    Parameters
    ----------
    model
        Base model.
    devices
        Devices, each with its index.
    derive
        Whether one that can be derived counts.
    """
    lacking = [(k, device) for k, device in devices if not (derive and _can_derive(model, device))]
    unknown = {k: why for k, device in lacking if (why := _why_unknown(device))}
    for k, why in unknown.items():
        yield Finding(("devices", k), *why)
    yield from unshipped(model, [(k, device) for k, device in lacking if k not in unknown])


def _why_unknown(device: Device) -> tuple[str, str] | None:
    """What is wrong with the name of a GPU, and what to do; None: it is known, or a profile is named."""
    if device.profile is not None or "," in device.name:
        return None
    try:
        find_gpu(device.name)
    except UnknownGPUError as error:
        _, _, why = str(error).partition('" ')
        message, _, remedy = why.partition("; ")
        is_one_of = message.startswith("may be")
        what = f"which {message}" if is_one_of else "a GPU that is not known"
        return f'is "{shortened(device.name)}", {what}', remedy
    return None


def _can_derive(model: str, device: Device) -> bool:
    if device.profile is not None:
        return False  # its own file counts, and is read where it is needed
    try:
        known_profile(model, device.name)
    except LorapackError:
        return False
    return True
