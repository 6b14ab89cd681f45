# SPDX-License-Identifier: Apache-2.0
"""Two public TFLite models on ``edge16``, every layer, against LiteRT's reference kernels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

import tilewright as tw
from tests.mapper.tflite.models import all_outputs
from tests.mapper.tflite.real_models import expected_layers, model_inputs, real_model
from tilewright_hdl.config import PRESETS

from .agreement import Devices

EDGE16 = PRESETS["edge16"]
RTL_INPUTS = 8
MODELS = {"pretrainedResnet_quant.tflite": 16, "kws_ref_model.tflite": 13}
"""Operators of each."""

pytestmark = pytest.mark.slow

Arrays = dict[str, npt.NDArray[Any]]


def compared(program: tw.Program, found: Any, expected: Arrays) -> int:
    """How many values of a program's outputs were compared; none may differ."""
    total = 0
    for name, y in zip(program.outputs, found if isinstance(found, tuple) else (found,), strict=True):
        np.testing.assert_array_equal(y, expected[name][: len(y)].reshape(y.shape), err_msg=name)
        total += y.size
    return total


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_equal(
    name: str, devices: Devices, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data, x = real_model(name), model_inputs(name)
    expected = expected_layers(data, x)
    assert len(expected) == MODELS[name]
    total = {"iss": 0, "rtl": 0}
    # As it is, and with every layer for an output, so that each is computed and stored by itself.
    for form, model in (("whole", data), ("layers", all_outputs(data))):
        path = tmp_path / f"{form}.tflite"
        path.write_bytes(model)
        program = tw.compile(path, config=EDGE16, name=form)
        assert len(program.outputs) == (1 if form == "whole" else MODELS[name])
        for kind, count in (("iss", len(x)), ("rtl", RTL_INPUTS)):
            device = devices.get(kind, EDGE16)
            total[kind] += compared(program, device.run(program, x[:count]), expected)
            profile = device.profile()
            assert profile.cycles == profile.predicted_cycles
            assert [layer.op for layer in profile.layers if layer.on == "host"] in (["softmax"], ["reshape", "softmax"])
    for kind, count in total.items():
        record_property(f"compared_values_{kind}", count)
    print(f"{name}: {total['iss']:,} values of {len(x)} inputs on iss and {total['rtl']:,} of {RTL_INPUTS} on rtl "
          "compared, 0 differ")
