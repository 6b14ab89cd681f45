# SPDX-License-Identifier: Apache-2.0
"""Tables equal PyTorch's float operators on all 256 inputs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright_mapper.graph import Graph, Requantize, Table
from tilewright_mapper.passes.tables import build_tables
from tilewright_mapper.passes.tidy import remove_dead_nodes
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.spec import verify

from .builders import dequantize, graph, host, int8, quantize, real

ALL = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
X = int8("x", 256, scale=0.06, zero_point=7)
Y = int8("y", 256, scale=0.03, zero_point=-90)


def check_one_table(before: Graph) -> Table:
    """The graph becomes a single table with the results of the float graph."""
    after = remove_dead_nodes(build_tables(before))
    verify(before)
    verify(after)
    assert [n.op for n in after] == ["Table"]
    np.testing.assert_array_equal(reference_run(after, ALL)["y"], reference_run(before, ALL)["y"])
    (table,) = after.nodes
    assert isinstance(table, Table)
    assert table.input == "x"
    assert len(np.unique(table.table)) > 3
    return table


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("sigmoid.default", ()),
        ("tanh.default", ()),
        ("gelu.default", ()),
        ("silu.default", ()),
        ("hardswish.default", ()),
        ("hardsigmoid.default", ()),
        ("leaky_relu.default", (0.2,)),
        ("elu.default", ()),
        ("mish.default", ()),
        ("softplus.default", ()),
        ("pow.Tensor_Scalar", (2,)),
        ("add.Scalar", (1.5,)),
    ],
)
def test_one_operator(target: str, rest: tuple[Any, ...]) -> None:
    before = graph(
        [X, real("r", 256), real("m", 256), Y],
        [
            dequantize("x", "r"),
            host("act", f"aten.{target}", ("r",), "m", *rest),
            quantize("m", "y", low=-100, high=100),
        ],
    )
    table = check_one_table(before)
    assert table.name == "act.table"
    assert -100 <= table.table.min() <= table.table.max() <= 100


def test_silu_by_hand() -> None:
    check_one_table(
        graph(
            [X, real("r", 256), real("s", 256), real("m", 256), Y],
            [
                dequantize("x", "r"),
                host("sigmoid", "aten.sigmoid.default", ("r",), "s"),
                host("mul", "aten.mul.Tensor", ("r", "s"), "m"),
                quantize("m", "y"),
            ],
        )
    )


def test_silu_with_a_quantization_in_the_middle() -> None:
    """Both sides of the product are quantized, from one tensor: still one table, with the middle's rounding in it."""
    middle = int8("q", 256, scale=1 / 64, zero_point=-128)
    before = graph(
        [X, real("r", 256), real("s", 256), middle, real("t", 256), real("m", 256), Y],
        [
            dequantize("x", "r"),
            host("sigmoid", "aten.sigmoid.default", ("r",), "s"),
            quantize("s", "q"),
            dequantize("q", "t"),
            host("mul", "aten.mul.Tensor", ("t", "r"), "m"),
            quantize("m", "y"),
        ],
    )
    check_one_table(before)


def test_a_product_with_a_requantized_copy() -> None:
    copy = int8("q", 256, scale=0.0931, zero_point=3)
    before = graph(
        [X, real("r", 256), copy, real("t", 256), real("m", 256), Y],
        [
            dequantize("x", "r"),
            Requantize(name="copy", inputs=("x",), outputs=("q",), low=3),
            dequantize("q", "t"),
            host("mul", "aten.mul.Tensor", ("t", "r"), "m"),
            quantize("m", "y"),
        ],
    )
    check_one_table(before)


def test_constants_of_one_element() -> None:
    check_one_table(
        graph(
            [X, real("r", 256), real("m", 256), Y],
            [
                dequantize("x", "r"),
                host("mul", "aten.mul.Tensor", ("r",), "m", {"constant": "c"}, constants={"c": np.float32([0.7])}),
                quantize("m", "y"),
            ],
        )
    )


def test_what_is_no_table() -> None:
    ends = [X, real("r", 256), real("m", 256), Y]
    per_element = host(
        "mul", "aten.mul.Tensor", ("r",), "m", {"constant": "c"}, constants={"c": np.ones(256, np.float32)}
    )
    softmax = host("softmax", "aten.softmax.int", ("r",), "m", 1)
    log = host("log", "aten.log.default", ("r",), "m")  # NaN below zero
    for node in (per_element, softmax, log):
        g = graph(ends, [dequantize("x", "r"), node, quantize("m", "y")])
        verify(g)
        assert build_tables(g) == g
    plain = graph([X, real("r", 256), Y], [dequantize("x", "r"), quantize("r", "y")])
    assert build_tables(plain) == plain, "a change of scale is a Requantize, not a table"


def test_two_tensors_are_no_table() -> None:
    g = graph(
        [X, replace(X, name="z"), real("r", 256), real("s", 256), real("m", 256), Y],
        [
            dequantize("x", "r"),
            dequantize("z", "s"),
            host("mul", "aten.mul.Tensor", ("r", "s"), "m"),
            quantize("m", "y"),
        ],
        inputs=("x", "z"),
    )
    verify(g)
    assert build_tables(g) == g
