"""The formula against hand computations, and the table of devices."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraexport.bench.predict.devices import DEVICES, NAMES, parse_devices
from paraexport.bench.predict.latency import Device, Link, exchange_s, predict
from paraexport.bench.predict.runtimes import RUNTIMES, cpu, runtime
from paraexport.errors import InputError
from paraexport.graph.kernels import Kernel

PRODUCT = Kernel("shared", multiply_adds=1_000_000, weights=10_000, activations=2_000)
SUM = Kernel("shared", multiply_adds=0, weights=0, activations=30_000)
GPU = Device(
    "gpu", "a GPU", {"fp32": 1e12, "fp16": 4e12, "int8": 8e12}, bandwidth=1e11, efficiency=0.5, bandwidth_share=0.8,
    start_s=2e-6, call_s=1e-5, host_bandwidth=1e10, link=Link(1e10, 5e-6, 1e-6, "a test"),
)  # fmt: skip
kernels = st.builds(
    Kernel, st.just("shared"), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(1, 10**6)
)  # fmt: skip


def test_a_gpu_takes_the_longer_of_arithmetic_and_memory() -> None:
    """fp16: 2e6 operations / 2e12 = 1 µs, 24,000 bytes / 8e10 = 0.3 µs; the sum moves 60,000 bytes in 0.75 µs."""
    latency = predict([PRODUCT, SUM], GPU, "fp16", image_values=1000)
    assert latency.arithmetic_s == pytest.approx(1e-6)
    assert latency.memory_s == pytest.approx(0.3e-6 + 0.75e-6)
    assert latency.starts_s == pytest.approx(4e-6)
    assert latency.transfer_s == pytest.approx(1e-5 + 4000 / 1e10)
    assert latency.total_s == pytest.approx(10.4e-6 + 4e-6 + 1e-6 + 0.75e-6)
    assert (latency.kernels, latency.bound) == (2, "transfer")


def test_a_cpu_adds_arithmetic_and_memory() -> None:
    """2e6 operations / 1e12 and 48,000 bytes / 1e11, then one start."""
    device = dataclasses.replace(
        GPU, overlaps=False, efficiency=1.0, bandwidth_share=1.0, call_s=0.0, host_bandwidth=float("inf")
    )
    assert predict([PRODUCT], device, "fp32").total_s == pytest.approx(2e-6 + 0.48e-6 + 2e-6)


def test_in_int8_only_products_by_weights_are_int8() -> None:
    """An attention has no weights, so it is float32: 2e6 / 5e11 instead of 2e6 / 4e12."""
    device = dataclasses.replace(GPU, quantised_s=7e-6)
    attention = dataclasses.replace(PRODUCT, weights=0)
    assert predict([PRODUCT], device, "int8").arithmetic_s == pytest.approx(0.5e-6)
    assert predict([PRODUCT], device, "int8").memory_s == pytest.approx((10_000 + 4 * 2_000) / 8e10)
    assert predict([PRODUCT], device, "int8").starts_s == pytest.approx(9e-6)
    assert predict([attention], device, "int8").arithmetic_s == pytest.approx(4e-6)
    assert predict([attention], device, "int8").starts_s == pytest.approx(2e-6)


@given(st.lists(kernels, min_size=1, max_size=20), st.sampled_from(["fp32", "fp16", "int8"]))
def test_more_work_takes_longer(work: list[Kernel], precision: str) -> None:
    more = [
        Kernel(each.branch, 2 * each.multiply_adds, each.weights, 2 * each.activations) for each in work
    ]  # fmt: skip
    for device in DEVICES.values():
        one, two = predict(work, device, precision, 100), predict(more, device, precision, 200)
        assert one.total_s < two.total_s <= 2 * one.total_s
        assert one.total_s < predict([*work, SUM], device, precision, 100).total_s


def test_one_thread_waits_for_no_other() -> None:
    numbers = RUNTIMES["onnxruntime"]
    assert cpu(numbers, 1e11, threads=1).quantised_s == 0
    assert cpu(numbers, 1e11, threads=2).quantised_s == numbers.quantised_s


def test_a_sum_over_devices() -> None:
    """Four devices: a ring of 6 steps of 1 µs, and 1.5 times the value over the link."""
    assert exchange_s(GPU, 4, 1e6) == pytest.approx(5e-6 + 6e-6 + 1.5e6 / 1e10)
    assert exchange_s(GPU, 1, 1e6) == 0
    with pytest.raises(ValueError, match="no link"):
        exchange_s(dataclasses.replace(GPU, link=None), 2, 1e6)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_every_number_has_a_source(device: Device) -> None:
    numbers = {"peaks", "bandwidth", "efficiency", "bandwidth_share", "start_s", "call_s", "memory_bytes"}
    numbers |= {name for name in ("host_bandwidth",) if device.host_bandwidth < float("inf")}
    numbers |= {"link"} if device.link else set()
    assert device.sources.keys() == numbers
    assert all(len(source) > 10 for source in device.sources.values())
    assert device.peaks["fp32"] < device.peaks["fp16"] == device.peaks["bf16"] < device.peaks["int8"]


def test_names_of_devices() -> None:
    assert parse_devices("H200, orin,h200") == ("h200", "orin")
    with pytest.raises(InputError, match=f"one or more of {', '.join(NAMES)}.*got b200, an empty name"):
        parse_devices("h200,b200,")
    with pytest.raises(InputError, match="onnxruntime or openvino"):
        runtime("tensorrt")
