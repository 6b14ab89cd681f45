# SPDX-License-Identifier: Apache-2.0
"""Differences between two rounding rules, counted by hand."""

import numpy as np
import pytest

from tilewright_hdl.numerics import Rounding
from tilewright_mapper.distance import Difference, distance
from tilewright_mapper.graph import Dequantize, Graph, Requantize, Tensor

INT8 = np.arange(-128, 128).astype(np.int8)
HALF = Requantize(name="half", inputs=("x",), outputs=("h",), rounding=Rounding.FLOAT_HALF_EVEN)
"""From scale 1 to 2: each odd number is a tie."""
AGAIN = Requantize(name="again", inputs=("h",), outputs=("y",), rounding=Rounding.FLOAT_HALF_EVEN)


def graph(*nodes: Requantize | Dequantize) -> Graph:
    scales = {"x": 1.0, "h": 2.0, "y": 4.0}
    tensors = {n: Tensor(name=n, shape=(1,), dtype="int8", scale=s, zero_point=0) for n, s in scales.items()}
    tensors["real"] = Tensor(name="real", shape=(1,), dtype="float32")
    used = {"x", *(name for node in nodes for name in node.outputs)}
    return Graph(
        nodes=nodes,
        tensors={name: tensor for name, tensor in tensors.items() if name in used},
        inputs=("x",),
        outputs=nodes[-1].outputs,
    )


@pytest.mark.parametrize("repeat", [1, 3])
def test_each_layer_gets_the_golden_inputs(repeat: int) -> None:
    x = np.tile(INT8, repeat).reshape(-1, 1)
    measured = distance(graph(HALF, AGAIN), x)
    # Half even against half up: of the ties 2k + 1 those differ whose lower neighbour is even.
    golden = np.clip(np.rint(x / 2), -128, 127)
    first = np.count_nonzero(golden != np.floor(x / 2 + 0.5))
    second = np.count_nonzero(np.rint(golden / 2) != np.floor(golden / 2 + 0.5))
    whole = np.count_nonzero(np.rint(golden / 2) != np.floor(np.floor(x / 2 + 0.5) / 2 + 0.5))
    assert first == 64 * repeat
    assert 0 < second != whole
    assert measured.layers == (
        Difference(tensor="h", values=x.size, differing=first, largest=1),
        Difference(tensor="y", values=x.size, differing=second, largest=1),
    )
    assert measured.outputs == (Difference(tensor="y", values=x.size, differing=whole, largest=1),)


def test_outputs_are_compared_in_steps() -> None:
    back = Dequantize(name="back", inputs=("h",), outputs=("real",))
    measured = distance(graph(HALF, back), INT8.reshape(-1, 1))
    assert measured.outputs == (Difference(tensor="h", values=256, differing=64, largest=1),)


def test_a_rule_has_no_distance_to_itself() -> None:
    measured = distance(graph(HALF, AGAIN), INT8.reshape(-1, 1), rounding=Rounding.FLOAT_HALF_EVEN)
    assert all(d.differing == 0 and d.largest == 0 for d in (*measured.layers, *measured.outputs))
