# SPDX-License-Identifier: Apache-2.0
"""Reshapes and linear layers: before == expected, and exactly the same integers."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import Conv2d, Graph, HostOp, Quantize, Reshape, is_layout_free
from tilewright_mapper.passes import STEPS, canonicalize
from tilewright_mapper.passes.shapes import linears_to_convolutions, merge_reshapes, reshapes_to_host
from tilewright_mapper.passes.tidy import remove_dead_nodes
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.spec import CANONICAL, verify

from .builders import conv, dequantize, graph, host, images, int8, integers, linear, quantize, real, weights


def reshape(name: str, source: str, target: str) -> Reshape:
    return Reshape(name=name, inputs=(source,), outputs=(target,))


def same(before: Graph, after: Graph, *shape: int) -> None:
    for g in (before, after):
        verify(g)
    x = images(4, *shape) if before.tensor("x").dtype == "float32" else integers(4, *shape)
    ours, theirs = (reference_run(g, x)["y"] for g in (after, before))
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 20


def test_flatten_and_linear_become_a_convolution_over_the_image() -> None:
    w = weights(40, 24)
    x, y = int8("x", 4, 2, 3), int8("y", 40, scale=9.0)
    before = graph([x, int8("f", 24), y], [reshape("flatten", "x", "f"), linear("fc", "f", "y", w, low=-50)])
    expected = graph([x, y], [conv("fc", "x", "y", w.reshape(40, 4, 2, 3), low=-50)])
    after = remove_dead_nodes(linears_to_convolutions(before))
    assert after == expected
    same(before, after, 4, 2, 3)
    verify(after, rules=CANONICAL)


def test_other_linears_become_1x1_convolutions() -> None:
    for shape in ((24,), (5, 24)):
        w, x, y = weights(40, 24), int8("x", *shape), int8("y", *shape[:-1], 40, scale=9.0)
        before = graph([x, y], [linear("fc", "x", "y", w)])
        expected = graph([x, y], [conv("fc", "x", "y", w.reshape(40, 24, 1, 1))])
        assert linears_to_convolutions(before) == expected
        same(before, expected, *shape)


def test_merge_reshapes() -> None:
    before = graph(
        [int8("x", 4, 2, 3), int8("a", 8, 3), int8("b", 24), int8("y", 24)],
        [reshape("r1", "x", "a"), reshape("r2", "a", "b"), reshape("r3", "b", "y")],
    )
    merged = remove_dead_nodes(merge_reshapes(before))
    assert merged == graph([int8("x", 4, 2, 3), int8("y", 24)], [reshape("r3", "x", "y")])
    back = graph([int8("x", 4, 6), int8("a", 24), int8("y", 4, 6)], [reshape("r1", "x", "a"), reshape("r2", "a", "y")])
    # The network's output keeps its name.
    kept = graph([int8("x", 4, 6), int8("y", 4, 6)], [reshape("r2", "x", "y")])
    assert remove_dead_nodes(merge_reshapes(back)) == kept


def test_reshapes_to_host() -> None:
    x, y = int8("x", 4, 2, 3), int8("y", 24)
    before = graph([x, y], [reshape("flatten", "x", "y")])
    expected = graph(
        [x, real("y.before", 4, 2, 3), real("y.after", 24), y],
        [
            replace(dequantize("x", "y.before"), name="y.before.dequantize"),
            host("flatten", "aten.reshape.default", ("y.before",), "y.after", (1, 24)),
            Quantize(name="y.after.quantize", inputs=("y.after",), outputs=("y",)),
        ],
    )
    assert reshapes_to_host(before) == expected
    same(before, expected, 4, 2, 3)


def test_reshapes_to_host_hands_a_float_reader_the_float_values() -> None:
    x = int8("x", 4, 2, 3)
    before = graph(
        [x, int8("f", 24), real("r", 24), real("y", 24)],
        [reshape("flatten", "x", "f"), dequantize("f", "r"), host("s", "aten.softmax.int", ("r",), "y", 1)],
    )
    after = remove_dead_nodes(reshapes_to_host(before))
    assert [n.op for n in after] == ["Dequantize", "HostOp", "HostOp"]
    same(before, after, 4, 2, 3)


def test_reshapes_to_host_works_in_front_of_a_quantize() -> None:
    x, y = real("x", 4, 2, 3), int8("y", 24)
    before = graph([x, int8("q", 4, 2, 3), y], [quantize("x", "q", low=-100), reshape("flatten", "q", "y")])
    expected = graph(
        [x, real("y.after", 24), y],
        [
            host("flatten", "aten.reshape.default", ("x",), "y.after", (1, 24)),
            replace(quantize("y.after", "y", low=-100), name="q.q"),
        ],
    )
    assert reshapes_to_host(before) == expected
    same(before, expected, 4, 2, 3)


def test_free_reshapes_stay() -> None:
    for shape, out in (((4, 1, 1), (4,)), ((4, 2, 3), (4, 3, 2)), ((4,), (1, 4))):
        g = graph([int8("x", *shape), int8("y", *out)], [reshape("r", "x", "y")])
        assert reshapes_to_host(g) == g
        verify(g, rules=CANONICAL)


def test_canonicalize_is_idempotent() -> None:
    g = graph(
        [int8("x", 4, 2, 3), int8("f", 24), int8("y", 40, scale=9.0)],
        [reshape("flatten", "x", "f"), linear("fc", "f", "y", weights(40, 24))],
    )
    once = canonicalize(g)
    assert once == canonicalize(once)
    assert len({step.__name__ for step in STEPS}) == len(STEPS) - 2, "only dead nodes are removed more than once"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((4, 2, 3), (24,)),
        ((4, 2, 3), (3, 8)),
        ((4, 2, 3), (2, 3, 4)),
        ((24,), (4, 2, 3)),
        ((6, 4), (2, 3, 4)),
        ((5, 2, 3), (6, 5)),
    ],
)
def test_a_reshape_that_counts_channels_last(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """As numpy has it on arrays with channels last, as imported and in canonical form."""
    node = Reshape(name="r", inputs=("x",), outputs=("y",), channels_last=True)
    g = graph([int8("x", *before), int8("y", *after)], [node])
    x = integers(2, *before)
    last = np.moveaxis(x, 1, -1) if len(before) == 3 else x
    if len(after) == 3:
        expected = np.moveaxis(last.reshape(2, *after[1:], after[0]), -1, 1)
    else:
        expected = last.reshape(2, *after)
    canonical = canonicalize(g)
    for form in (g, canonical):
        np.testing.assert_array_equal(reference_run(form, x)["y"], expected)
    hosted = any(isinstance(n, HostOp) for n in canonical)
    assert hosted != is_layout_free(before, after, channels_last=True)


@pytest.mark.parametrize("shape", [(4, 2, 3), (5, 6)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_linear_layer_behind_either_flattening(shape: tuple[int, ...], channels_last: bool) -> None:
    size = int(np.prod(shape))
    flatten = Reshape(name="r", inputs=("x",), outputs=("f",), channels_last=channels_last)
    layer = linear("l", "f", "y", weights(7, size), rounding=Rounding.FLOAT64_HALF_AWAY)
    g = graph([int8("x", *shape), int8("f", size), int8("y", 7, scale=5.0)], [flatten, layer])
    canonical = canonicalize(g)
    (node,) = canonical.nodes
    assert isinstance(node, Conv2d)
    assert node.rounding is Rounding.FLOAT64_HALF_AWAY
    x = integers(3, *shape)
    np.testing.assert_array_equal(reference_run(canonical, x)["y"], reference_run(g, x)["y"])


def test_reshapes_of_different_orders_stay_apart() -> None:
    before = graph(
        [int8("x", 4, 2, 3), int8("a", 24), int8("y", 4, 2, 3)],
        [replace(reshape("r1", "x", "a"), channels_last=True), reshape("r2", "a", "y")],
    )
    assert merge_reshapes(before) == before
