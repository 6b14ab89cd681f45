# SPDX-License-Identifier: Apache-2.0
"""Passes that find integer operators: before == expected, and results within one step of the float operators."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.errors import ModelError
from tilewright_mapper.graph import Add, AvgPool2d, Conv2d, Graph, HostOp, Linear, Node, QuantizedConstant, Tensor
from tilewright_mapper.passes.lift import lift_additions, lift_average_pools, lift_convolutions, lift_linears
from tilewright_mapper.passes.tidy import remove_dead_nodes
from tilewright_mapper.passes.weights import prove_accumulators
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.spec import verify

from .builders import constant, conv, dequantize, graph, host, int8, integers, linear, quantize, real, weights

SCALE_X = 0.125


def between(source: Tensor, middle: Tensor, node: HostOp, target: Tensor, **bounds: int) -> Graph:
    """A float operator between Dequantize and Quantize."""
    return graph(
        [source, replace(real("r", *source.shape)), middle, target],
        [dequantize("x", "r"), node, quantize(middle.name, "y", **bounds)],
    )


def lifted(source: Tensor, node: Node, target: Tensor) -> Graph:
    return graph([source, target], [node])


def close(before: Graph, after: Graph, *shape: int) -> None:
    """One step apart at most, and rarely: integers round once, float32 sums in its own way."""
    for g in (before, after):
        verify(g)
    x = integers(16, *shape)
    ours, theirs = (reference_run(g, x)["y"].astype(int) for g in (after, before))
    assert np.abs(ours - theirs).max() <= 1
    assert np.mean(ours != theirs) < 0.002
    assert len(np.unique(ours)) > 20


def integer_bias(values: list[int], weight: QuantizedConstant) -> QuantizedConstant:
    return QuantizedConstant(
        values=np.array(values, np.int32),
        scale=(SCALE_X * weight.scale).astype(np.float32).astype(np.float64),
        zero_point=np.zeros(len(values), np.int64),
        axis=0,
    )


CONV_CASES: list[tuple[str, tuple[Any, ...], tuple[int, ...], tuple[int, int, int], dict[str, Any]]] = [
    ("conv2d.default", (), (5, 4, 3, 3), (5, 4, 5), {}),
    ("conv2d.default", ((2, 1), (1,), (1, 2)), (5, 4, 3, 2), (5, 3, 7), {
        "stride": (2, 1), "padding": (1, 1, 1, 1), "dilation": (1, 2)}),
    ("conv2d.default", ((1, 1), (0, 0), (1, 1), 4), (8, 1, 3, 3), (8, 4, 5), {"groups": 4}),
    ("conv2d.padding", ((1, 1), "same"), (5, 4, 4, 2), (5, 6, 7), {"padding": (1, 0, 2, 1)}),
    ("conv2d.padding", ((1, 1), "valid"), (5, 4, 4, 2), (5, 3, 6), {}),
    ("convolution.default", ((2, 2), (1, 1), (1, 1), False, (0, 0), 2), (6, 2, 3, 3), (6, 3, 4), {
        "stride": (2, 2), "padding": (1, 1, 1, 1), "groups": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "rest", "kernel", "shape", "fields"), CONV_CASES)
def test_lift_convolutions(
    target: str, rest: tuple[Any, ...], kernel: tuple[int, ...], shape: tuple[int, int, int], fields: dict[str, Any]
) -> None:
    w, source = constant(weights(*kernel)), int8("x", 4, 6, 7, scale=SCALE_X)
    bias = integer_bias(list(range(kernel[0])), w)
    constants = {"w": w, "b": bias}
    node = host("c", f"aten.{target}", ("r",), "m", {"constant": "w"}, {"constant": "b"}, *rest, constants=constants)
    y = int8("y", *shape, scale=0.9137)
    before = between(source, real("m", *shape), node, y, low=-90)
    expected = lifted(
        source, conv("c", "x", "y", w.values, low=-90, bias=bias.values, weight_scale=w.scale, **fields), y
    )
    assert remove_dead_nodes(lift_convolutions(before)) == expected
    close(before, expected, 4, 6, 7)


def test_lift_convolutions_takes_a_zero_pad_in() -> None:
    w = constant(weights(5, 4, 3, 3))
    source, y = int8("x", 4, 6, 7, scale=SCALE_X), int8("y", 5, 4, 5, scale=0.9137)
    before = graph(
        [source, real("r", 4, 6, 7), real("p", 4, 7, 9), real("m", 5, 4, 5), y],
        [
            dequantize("x", "r"),
            host("pad", "aten.constant_pad_nd.default", ("r",), "p", (2, 0, 0, 1)),
            host("c", "aten.conv2d.default", ("p",), "m", {"constant": "w"}, None, (2, 2), (1, 1), constants={"w": w}),
            quantize("m", "y"),
        ],
    )
    expected = lifted(
        source,
        conv(
            "c", "x", "y", w.values, stride=(2, 2), padding=(1, 3, 2, 1), bias=np.zeros(5, np.int32),
            weight_scale=w.scale,
        ),
        y,
    )  # fmt: skip
    assert remove_dead_nodes(lift_convolutions(before)) == expected
    close(before, expected, 4, 6, 7)


def test_a_float_bias_is_rounded_to_the_accumulator() -> None:
    w = constant(weights(5, 4))
    bias = np.array([0.0, 1.0, -0.3, 2.5, 7.7], np.float32)
    source, y = int8("x", 4, scale=SCALE_X), int8("y", 5, scale=0.9137)
    node = host(
        "l", "aten.linear.default", ("r",), "m", {"constant": "w"}, {"constant": "b"}, constants={"w": w, "b": bias}
    )
    after = lift_linears(between(source, real("m", 5), node, y))["l"]
    assert isinstance(after, Linear)
    np.testing.assert_array_equal(after.bias, np.rint(bias.astype(np.float64) / (SCALE_X * w.scale)))


def test_a_dead_channel_gets_a_scale_at_which_its_bias_fits() -> None:
    """Weights of zero under a scale of 2**-40, as an observer leaves them."""
    values = weights(2, 4)
    values[1] = 0
    w = QuantizedConstant(values=values, scale=np.array([0.01, 2.0**-40]), zero_point=np.zeros(2, np.int64), axis=0)
    bias = np.array([1.0, 3.0], np.float32)
    source, y = int8("x", 4, scale=SCALE_X), int8("y", 2, scale=0.9137)
    node = host(
        "l", "aten.linear.default", ("r",), "m", {"constant": "w"}, {"constant": "b"}, constants={"w": w, "b": bias}
    )
    before = between(source, real("m", 2), node, y)
    after = prove_accumulators(remove_dead_nodes(lift_linears(before)))
    x = integers(16, 4)
    np.testing.assert_array_equal(reference_run(after, x)["y"][:, 1], reference_run(before, x)["y"][:, 1])


def test_a_bias_beyond_int32_is_refused_with_numbers() -> None:
    w = QuantizedConstant(
        values=np.ones((2, 4), np.int8), scale=np.array([0.01, 2.0**-40]), zero_point=np.zeros(2, np.int64), axis=0
    )
    node = host(
        "features.3", "aten.linear.default", ("r",), "m", {"constant": "w"}, {"constant": "b"},
        constants={"w": w, "b": np.array([1.0, 3.0], np.float32)},
    )  # fmt: skip
    g = between(int8("x", 4, scale=SCALE_X), real("m", 2), node, int8("y", 2))
    with pytest.raises(
        ModelError, match=r"Bias of 'features\.3' must fit int32.*channel 1 has 3, which is 26388279066624"
    ):
        lift_linears(g)


def test_an_int32_bias_at_another_scale_is_rescaled() -> None:
    w = constant(weights(3, 4))
    bias = QuantizedConstant(
        values=np.array([10, -20, 30], np.int32), scale=np.array([0.5]), zero_point=np.zeros(1, np.int64)
    )
    node = host(
        "l", "aten.linear.default", ("r",), "m", {"constant": "w"}, {"constant": "b"}, constants={"w": w, "b": bias}
    )
    before = between(int8("x", 4, scale=SCALE_X), real("m", 3), node, int8("y", 3, scale=0.9137))
    after = lift_linears(before)["l"]
    assert isinstance(after, Linear)
    np.testing.assert_array_equal(after.bias, np.rint(np.array([5.0, -10.0, 15.0]) / (SCALE_X * w.scale)))


NOT_WEIGHTS = {
    "float": np.ones((3, 4), np.float32),
    "zero point": replace(constant(weights(3, 4)), zero_point=np.array([0, 1, 0])),
    "axis 1": QuantizedConstant(values=weights(3, 4), scale=np.ones(4), zero_point=np.zeros(4, np.int64), axis=1),
    "int16": constant(weights(3, 4).astype(np.int16) * 4),
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_other_weights_stay_on_the_host(kind: str) -> None:
    constants: dict[str, Any] = {"w": NOT_WEIGHTS[kind]}
    node = host("l", "aten.linear.default", ("r",), "m", {"constant": "w"}, constants=constants)
    g = between(int8("x", 4), real("m", 3), node, int8("y", 3))
    assert lift_linears(g) == g


@pytest.mark.parametrize("shape", [(16,), (5, 16)])
def test_lift_linears(shape: tuple[int, ...]) -> None:
    w = constant(weights(40, 16))
    bias = integer_bias(list(range(40)), w)
    out = (*shape[:-1], 40)
    node = host(
        "l", "aten.linear.default", ("r",), "m", {"constant": "w"}, {"constant": "b"}, constants={"w": w, "b": bias}
    )
    source, y = int8("x", *shape, scale=SCALE_X), int8("y", *out, scale=9.137)
    before = between(source, real("m", *out), node, y)
    expected = lifted(source, replace(linear("l", "x", "y", w.values), weight_scale=w.scale), y)
    assert remove_dead_nodes(lift_linears(before)) == expected
    close(before, expected, *shape)


def test_lift_additions() -> None:
    tensors = [int8("x", 3, 5, scale=0.1013), int8("z", 3, 5, scale=0.0571, zero_point=9)]
    y = int8("y", 3, 5, scale=0.1117, zero_point=-60)
    before = graph(
        [*tensors, real("a", 3, 5), real("b", 3, 5), real("m", 3, 5), y],
        [
            dequantize("x", "a"),
            dequantize("z", "b"),
            host("s", "aten.add.Tensor", ("a", "b"), "m"),
            quantize("m", "y", low=-60),
        ],
        inputs=("x", "z"),
    )
    expected = graph([*tensors, y], [Add(name="s", inputs=("x", "z"), outputs=("y",), low=-60)], inputs=("x", "z"))
    assert remove_dead_nodes(lift_additions(before)) == expected
    verify(expected)
    x = integers(99, 3, 5), integers(99, 3, 5, seed=7)
    ours, theirs = (reference_run(g, x)["y"].astype(int) for g in (expected, before))
    assert np.abs(ours - theirs).max() <= 1
    assert np.mean(ours != theirs) < 0.002


@pytest.mark.parametrize("rest", [({"constant": "c"},), ({"tensor": "a"}, 2)])
def test_other_additions_stay_on_the_host(rest: tuple[Any, ...]) -> None:
    node = host("s", "aten.add.Tensor", ("a",), "m", *rest[:1], constants={"c": np.ones(5, np.float32)})
    node = replace(node, kwargs={"alpha": rest[1]} if len(rest) > 1 else {})
    g = graph(
        [int8("x", 3, 5), real("a", 3, 5), real("m", 3, 5), int8("y", 3, 5)],
        [dequantize("x", "a"), node, quantize("m", "y")],
    )
    verify(g)
    assert lift_additions(g) == g


POOLS: list[tuple[str, tuple[Any, ...], tuple[int, ...], tuple[int, ...], dict[str, Any] | None]] = [
    ("avg_pool2d.default", ((2, 3),), (4, 6, 7), (4, 3, 2), {"kernel": (2, 3), "stride": (2, 3), "divisor": 6}),
    ("avg_pool2d.default", ((3,), (2,), (1,)), (4, 6, 7), (4, 3, 4), {
        "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 0, 1), "divisor": 9}),
    ("avg_pool2d.default", ((3,), (2,), (1,), False, False), (4, 6, 7), (4, 3, 4), None),
    ("avg_pool2d.default", ((2,), (2,), (0,), True), (4, 6, 7), (4, 3, 4), None),
    ("avg_pool2d.default", ((2,), (2,), (0,), True, True, 5), (4, 6, 7), (4, 3, 4), {
        "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 1), "divisor": 5}),
    ("avg_pool2d.default", ((2,), (2,), (0,), False, False), (4, 6, 6), (4, 3, 3), {
        "kernel": (2, 2), "stride": (2, 2), "divisor": 4}),
    ("adaptive_avg_pool2d.default", ((1, 1),), (4, 6, 7), (4, 1, 1), {
        "kernel": (6, 7), "stride": (1, 1), "divisor": 42}),
    ("adaptive_avg_pool2d.default", ((3, 7),), (4, 6, 7), (4, 3, 7), {
        "kernel": (2, 1), "stride": (2, 1), "divisor": 2}),
    ("adaptive_avg_pool2d.default", ((4, 6),), (4, 6, 7), (4, 4, 6), None),
    ("mean.dim", ((-1, -2),), (4, 6, 7), (4,), {"kernel": (6, 7), "stride": (1, 1), "divisor": 42}),
    ("mean.dim", ((2, 3), True), (4, 6, 7), (4, 1, 1), {"kernel": (6, 7), "stride": (1, 1), "divisor": 42}),
    ("mean.dim", ((1,),), (6, 9), (9,), {"kernel": (1, 6), "stride": (1, 1), "divisor": 6}),
    ("mean.dim", ((2,),), (6, 9), (6,), None),
    ("mean.dim", ((3,),), (4, 6, 7), (4, 6), None),
]  # fmt: skip


@pytest.mark.parametrize(("target", "rest", "shape", "out", "fields"), POOLS)
def test_lift_average_pools(
    target: str, rest: tuple[Any, ...], shape: tuple[int, ...], out: tuple[int, ...], fields: dict[str, Any] | None
) -> None:
    source, y = int8("x", *shape), int8("y", *out, scale=0.0431, zero_point=-9)
    before = between(source, real("m", *out), host("p", f"aten.{target}", ("r",), "m", *rest), y)
    after = remove_dead_nodes(lift_average_pools(before))
    if fields is None:
        assert after == before
        return
    expected = lifted(source, AvgPool2d(name="p", inputs=("x",), outputs=("y",), **fields), y)
    assert after == expected
    close(before, expected, *shape)


def test_an_average_pool_takes_a_zero_pad_in() -> None:
    source, y = int8("x", 4, 6, 6), int8("y", 4, 3, 3, scale=0.0431)
    before = graph(
        [source, real("r", 4, 6, 6), real("p", 4, 7, 7), real("m", 4, 3, 3), y],
        [
            dequantize("x", "r"),
            host("pad", "aten.pad.default", ("r",), "p", (0, 1, 0, 1)),
            host("pool", "aten.avg_pool2d.default", ("p",), "m", (3,), (2,)),
            quantize("m", "y"),
        ],
    )
    pool = AvgPool2d(
        name="pool", inputs=("x",), outputs=("y",), kernel=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1), divisor=9
    )
    expected = lifted(source, pool, y)
    assert remove_dead_nodes(lift_average_pools(before)) == expected
    close(before, expected, 4, 6, 6)


def test_an_operator_that_is_also_read_in_float_stays() -> None:
    w = constant(weights(5, 4))
    node = host("l", "aten.linear.default", ("r",), "m", {"constant": "w"}, constants={"w": w})
    before = graph(
        [int8("x", 4), real("r", 4), real("m", 5), int8("y", 5)],
        [dequantize("x", "r"), node, quantize("m", "y")],
        outputs=("y", "m"),
    )
    after = lift_linears(before)
    verify(after)
    assert [(n.op, n.name) for n in after] == [("Dequantize", "r.dq"), ("HostOp", "l.float"), ("Linear", "l")]


def test_accumulators_are_proved() -> None:
    """1023 products of 127 * 128 fit beside this bias, one more does not."""
    room = 2**31 - 1 - 131072 * 127 * 128

    def layer(inputs: int, bias: int, zero_point: int = 0) -> Graph:
        w = np.full((1, inputs), 127, np.int8)
        node = replace(linear("big", "x", "y", w), bias=np.array([bias], np.int32))
        return graph([int8("x", inputs, zero_point=zero_point), int8("y", 1, scale=1000.0)], [node])

    assert prove_accumulators(g := layer(131072, -room)) is g
    with pytest.raises(
        ModelError, match=r"'big' must stay within int32 \(2147483647\), but channel 0 can reach 2147483648"
    ):
        prove_accumulators(layer(131072, -room - 1))
    with pytest.raises(ModelError, match="can reach"):
        prove_accumulators(layer(131072, 0, zero_point=100))


def test_scales_without_a_multiplier_are_refused() -> None:
    g = graph(
        [int8("x", 1, 2, 2, scale=1e9), int8("y", 1, 2, 2, scale=1e-3)], [conv("c", "x", "y", weights(1, 1, 1, 1))]
    )
    assert isinstance(g["c"], Conv2d)
    with pytest.raises(ModelError, match="Conv2d 'c' cannot be rescaled"):
        prove_accumulators(g)
