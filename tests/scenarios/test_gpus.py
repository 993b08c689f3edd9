"""GPUs as data: what the catalogue holds, and by which names a GPU is found."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import GPU, LorapackError, UnknownGPUError, find_gpu, gpus
from scenarios.text.display import visible

EVERY = pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.name)


@EVERY
def test_every_name_of_a_gpu_finds_it_however_it_is_written(gpu: GPU) -> None:
    for name in (gpu.name, *gpu.aliases):
        spelt = (
            name,
            name.lower(),
            name.upper(),
            re.sub(r"[ -]", "_", name),
            f"  {name}  ",
            f"NVIDIA {name}",
        )
        assert {find_gpu(one).name for one in spelt} == {gpu.name}
        assert find_gpu(re.sub(r"(\d)GB", r"\1g", name)) is gpu
        assert find_gpu(re.sub(r"(\d)GB", r"\1 GiB", name)) is gpu


@EVERY
def test_every_figure_has_a_source_and_hangs_together(gpu: GPU) -> None:
    assert gpu.memory_from
    assert re.search(r"https://\S+\.\w+", gpu.source)
    assert date.fromisoformat(gpu.date).year >= 2026
    sold = [int(size) for name in (gpu.name, *gpu.aliases) for size in re.findall(r"(\d+)GB\b", name)]
    if sold and "GH200" not in gpu.name:  # whose name has the size of its CPU's memory
        assert all(0.88 * size < gpu.memory_gib < size for size in sold)
    if gpu.bf16_tflops is not None:
        assert gpu.fp16_tflops == gpu.bf16_tflops
    for faster in (gpu.fp8_tflops, gpu.int8_tops):  # half the bits, twice the speed, or more
        if faster is not None and gpu.compute_capability != "gfx90a":
            assert gpu.fp16_tflops is not None
            assert 1.99 * gpu.fp16_tflops <= faster <= 4.01 * gpu.fp16_tflops
    if gpu.interconnect is not None and gpu.interconnect.kind == "pcie":
        assert gpu.interconnect.gb_s == gpu.pcie_gb_s


def test_there_is_one_gpu_of_each_name() -> None:
    names = [name for gpu in gpus() for name in {gpu.name, *gpu.aliases}]
    assert len(names) == len(set(names))
    assert len(gpus()) >= 25
    assert {"A100-80GB", "H100-64GB", "H100-80GB", "L40S", "MI300X"} <= {gpu.name for gpu in gpus()}


def test_memory_is_what_engines_reported() -> None:
    reported = {"H100-80GB": 79.19, "A100-40GB": 39.39, "RTX-3090": 23.58, "L4": 22.05, "H100-64GB": 63.43}
    assert {name: find_gpu(name).memory_gib for name in reported} == reported


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a100 80g", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("h100 sxm", "H100-80GB"),
        ("H100-SXM5-80GB", "H100-80GB"),
        ("H100-80", "H100-80GB"),
        ("rtx4090", "RTX-4090"),
        ("GeForce 3090", "RTX-3090"),
        ("A6000", "RTX-A6000"),
        ("rtx pro 6000", "RTX-PRO-6000"),
        ("Tesla V100 32GB", "V100-32GB"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),
        ("amd/mi300x", "MI300X"),
        ("L40S-48GB", "L40S"),
        ("A10G", "A10G"),
        ("A10", "A10"),
    ],
)
def test_a_gpu_is_found_as_people_call_it(name: str, meant: str) -> None:
    assert find_gpu(name).name == meant


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a100", "may be A100-40GB, A100-PCIe-40GB, A100-80GB or A100-PCIe-80GB"),
        ("NVIDIA H100", "H100-64GB, H100-80GB, H100-PCIe-80GB or H100-NVL-94GB"),
        ("RTX 6000", "RTX-6000-Ada or RTX-PRO-6000"),
        ("gh200", "GH200-96GB or GH200-144GB"),
        ("L40SS", 'did you mean "L40S"?'),
        ("L40S-80GB", 'did you mean "L40S"?'),
        ("mi300", 'did you mean "MI300X"?'),
        ("abacus", "`lorapack devices` lists"),
        ("rtx", "`lorapack devices` lists"),
        ("", "`lorapack devices` lists"),
    ],
)
def test_a_name_of_none_or_several_is_refused_with_what_may_be_meant(name: str, told: str) -> None:
    with pytest.raises(UnknownGPUError) as raised:
        find_gpu(name)
    assert told in str(raised.value)
    assert isinstance(raised.value, LorapackError)
    assert isinstance(raised.value, LookupError)


@given(st.text(max_size=300))
def test_any_name_is_found_or_refused(name: str) -> None:
    try:
        assert find_gpu(name) in gpus()
    except UnknownGPUError as error:
        told = str(error)
        assert visible(told) == told
    else:
        return
    assert told.startswith("GPU ")
