# SPDX-License-Identifier: Apache-2.0
"""Damaged model files that still are models: the simulated accelerator gives the framework's numbers."""

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tests.mapper.fuzz.frameworks import TFLITE
from tests.mapper.fuzz.judge import Difference, compare, run
from tilewright_hdl.errors import TilewrightError
from tilewright_mapper.graph import Graph
from tilewright_mapper.pipeline import compile_graph

from .agreement import WIDE, Devices

Arrays = list[npt.NDArray[np.generic]]


def test_damaged_models_on_the_simulator(devices: Devices) -> None:
    device, compiled, refused = devices.get("iss", WIDE), 0, 0

    def compile_and_run(graph: Graph, inputs: Arrays, expected: Arrays) -> None:
        nonlocal compiled, refused
        if any(graph.tensor(name).dtype != "int8" for name in (*graph.inputs, *graph.outputs)):
            return  # The device gives floats where floats came in, and integers for integers.
        try:
            program = compile_graph(graph, WIDE)
        except TilewrightError:
            refused += 1
            return
        except Exception as error:
            raise Difference(f"compile ended with {type(error).__name__}: {error}") from error
        found = device.run(program, *inputs)
        compare(program.outputs, found if isinstance(found, tuple) else (found,), expected)
        compiled += 1

    counts, failures = run(TFLITE, 4, 400, then=compile_and_run)
    assert not failures, "\n".join(failures)
    assert compiled > 80
    assert refused < 5
    assert compiled + refused <= counts["equal"]
