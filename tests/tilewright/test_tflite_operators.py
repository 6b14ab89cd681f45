# SPDX-License-Identifier: Apache-2.0
"""TFLite models of one operator on the simulated accelerators, against LiteRT's reference kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from hypothesis import HealthCheck, given, settings

import tilewright as tw
from tests.mapper.tflite_cases import CASES, Case
from tilewright_driver.device import Device

from .agreement import WIDE, Devices

ISS_CASES, RTL_CASES = 60, 3
"""Of each operator: more than 2,000 and more than 100 in all."""


def results(device: Device, program: tw.Program, case: Case) -> dict[str, npt.NDArray[Any]]:
    """The network's outputs by name, in TFLite's shapes and types."""
    found = device.run(program, *case.inputs)
    return dict(zip(program.outputs, found if isinstance(found, tuple) else (found,), strict=True))


@pytest.mark.parametrize("operator", CASES)
def test_operator(operator: str, devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled from the file, each case gives the interpreter's values on ``iss``, and the first few on ``rtl``."""
    counts = {"iss": 0, "rtl": 0}

    @settings(max_examples=ISS_CASES, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(case=CASES[operator])
    def compare(case: Case) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(case.model)
        program = tw.compile(path, config=WIDE)
        expected = case.expected()
        for kind, most in (("iss", ISS_CASES), ("rtl", RTL_CASES)):
            if counts[kind] >= most:
                continue
            counts[kind] += 1
            for name, y in results(devices.get(kind, WIDE), program, case).items():
                assert y.dtype == expected[name].dtype
                # A result of TFLite need not have a batch: a fully connected layer may take rows for one.
                y = y.reshape(expected[name].shape)
                np.testing.assert_array_equal(y, expected[name], err_msg=f"{name} on {kind}")

    compare()
    assert counts == {"iss": ISS_CASES, "rtl": RTL_CASES}
