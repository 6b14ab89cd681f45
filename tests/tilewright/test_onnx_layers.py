# SPDX-License-Identifier: Apache-2.0
"""Small ONNX files on simulator and hardware by the hardware's rule, and on the host by that of the framework."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tilewright as tw
from tests.mapper.onnx.models import UINT8, is_exact, model, node, run
from tests.mapper.onnx.test_qdq import CASES, IMAGE, Builder, conv
from tests.tilewright.agreement import NANO4, Devices, agree
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.frontend import load_model
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.rounding import with_rounding


def file_of(name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Model file of a case, and three inputs."""
    build, shape, _ = CASES[name]
    builder = Builder()
    path = folder / "model.onnx"
    path.write_bytes(builder.bytes(build(builder), shape))
    return path, np.random.default_rng(5).uniform(-4, 4, (3, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_the_hardware_rule(name: str, tmp_path: Path, devices: Devices) -> None:
    path, x = file_of(name, tmp_path)
    graph = load_model(path).for_hardware()
    agree(devices, graph, tw.compile(path, config=NANO4), x)


@pytest.mark.parametrize("name", CASES)
def test_the_rule_of_the_framework(name: str, tmp_path: Path, devices: Devices) -> None:
    path, x = file_of(name, tmp_path)
    graph = load_model(path).graph
    program = tw.compile(path, config=NANO4, rounding="float_half_even")
    found = devices.get("iss", NANO4).run(program, x)
    np.testing.assert_array_equal(found, reference_run(graph, x)[graph.outputs[0]])


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_one_channel_for_all(op: str, tmp_path: Path, devices: Devices) -> None:
    """A map of one channel, computed, over all channels of an image: wholly on the accelerator."""
    config = replace(NANO4, post=replace(NANO4.post, multiply=True))
    builder = Builder()
    image = builder.q("x")
    mask = builder.q(builder.op("Conv", image, builder.weight(1, 4, 1, 1)), 0.05)
    path = tmp_path / "model.onnx"
    path.write_bytes(builder.bytes(builder.q(builder.op(op, mask, image), 0.05), IMAGE))
    x = np.random.default_rng(5).uniform(-4, 4, (3, *IMAGE)).astype(np.float32)
    graph = load_model(path).for_hardware()
    program = tw.compile(path, config=config, strict=True)
    found = devices.get("iss", config).run(program, x)
    np.testing.assert_array_equal(found, reference_run(graph, x)[graph.outputs[0]])
    whole = with_rounding(load_model(path).graph, Rounding.SINGLE)
    np.testing.assert_array_equal(found, reference_run(whole, x)[whole.outputs[0]])


def test_wide_weights(tmp_path: Path, devices: Devices) -> None:
    """Weights of uint8 with a zero point, which need nine bits."""
    builder = Builder("uint8")
    path = tmp_path / "model.onnx"
    path.write_bytes(builder.bytes(builder.q(conv(builder, builder.q("x"), dtype="uint8"), 0.06), IMAGE))
    x = np.random.default_rng(5).uniform(-4, 4, (3, *IMAGE)).astype(np.float32)
    graph = load_model(path).for_hardware()
    program = tw.compile(path, config=NANO4, strict=True)
    found = devices.get("iss", NANO4).run(program, x)
    np.testing.assert_array_equal(found, reference_run(graph, x)[graph.outputs[0]])


def test_unsigned_bytes_go_in_and_come_out(tmp_path: Path, devices: Devices) -> None:
    """An image as it is, in uint8, through a network whose ends are no floats."""
    if not is_exact("uint8"):
        pytest.skip("onnxruntime's uint8 kernels saturate on this machine")
    rng = np.random.default_rng(4)
    w = rng.integers(0, 256, (5, 3, 3, 3)).astype(np.uint8)
    numbers = {
        "s": np.float32(0.7), "z": np.uint8(140), "w": w, "ws": np.float32(0.01), "wz": np.uint8(128),
        "t": np.float32(4.1), "u": np.uint8(7),
    }  # fmt: skip
    conv = node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "t", "u"], ["y"], pads=[1, 1, 1, 1])
    data = model([conv], {"x": (UINT8, ["N", 3, 8, 8])}, {"y": UINT8}, numbers)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    x = rng.integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    expected = run(data, {"x": x})["y"]
    program = tw.compile(path, config=NANO4, rounding="float_half_even")
    found = devices.get("iss", NANO4).run(program, x)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    found = devices.get("iss", NANO4).run(tw.compile(path, config=NANO4), x)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.count_nonzero(found != expected) <= 1
