# SPDX-License-Identifier: Apache-2.0
"""TFLite models of one operator on the simulated accelerators, against LiteRT's reference kernels."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from hypothesis import HealthCheck, given, settings

import tilewright as tw
from tests.mapper.tflite.cases import CASES, Case
from tilewright_driver.device import Device
from tilewright_hdl.numerics import dequantize
from tilewright_mapper.tflite.importer import import_tflite

from .agreement import WIDE, Devices

ISS_CASES, RTL_CASES = 60, 3
"""Of each operator: more than 2,000 and more than 100 in all."""


def check(device: Device, program: tw.Program, case: Case, names: tuple[str, ...]) -> None:
    """Compare a device's outputs with the model's, which have ``names``."""
    found = device.run(program, *case.inputs)
    expected = case.expected()
    for ours, theirs, y in zip(program.outputs, names, found if isinstance(found, tuple) else (found,), strict=True):
        info, value = program.tensors[ours], expected[theirs]
        # Floats in give floats out, integers integers; a model of QUANTIZE alone changes from one to the other.
        if y.dtype.kind == "f" and value.dtype.kind != "f":
            value = info.to_end(dequantize(info.from_end(value), *info.quantization))
        elif y.dtype.kind != "f" and value.dtype.kind == "f":
            y = info.to_end(dequantize(info.from_end(y), *info.quantization))
        assert y.dtype == value.dtype
        # A result of TFLite need not have a batch: a fully connected layer may take rows for one.
        np.testing.assert_array_equal(y.reshape(value.shape), value, err_msg=f"{theirs} on {device.name}")


@pytest.mark.parametrize("operator", CASES)
def test_operator(operator: str, devices: Devices, tmp_path: Path) -> None:
    """Compiled from the file, each case gives the interpreter's values on ``iss``, and the first few on ``rtl``."""
    counts = {"iss": 0, "rtl": 0}

    @settings(max_examples=ISS_CASES, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(case=CASES[operator])
    def compare(case: Case) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(case.model)
        program = tw.compile(path, config=WIDE)
        for kind, most in (("iss", ISS_CASES), ("rtl", RTL_CASES)):
            if counts[kind] >= most:
                continue
            counts[kind] += 1
            check(devices.get(kind, WIDE), program, case, import_tflite(case.model).outputs)

    compare()
    assert counts == {"iss": ISS_CASES, "rtl": RTL_CASES}
