# SPDX-License-Identifier: Apache-2.0
"""Passes that tidy up and move the borders between float and int8: before == expected, and the same results."""

from dataclasses import replace

import numpy as np

from tilewright_hdl.numerics import QuantizeRule
from tilewright_mapper.graph import Conv2d, Graph, MaxPool2d, Requantize, Reshape, Table
from tilewright_mapper.passes.borders import expose_zero_pads, fuse_pairs, hoist_quantize, sink_dequantize
from tilewright_mapper.passes.clamps import fold_clamps
from tilewright_mapper.passes.tidy import drop_identities, materialize_constants, remove_dead_nodes
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.spec import verify

from .builders import constant, conv, dequantize, graph, host, images, int8, integers, quantize, real, weights


def same(before: Graph, after: Graph, *shape: int) -> None:
    """Both graphs are well formed and give one result, exactly."""
    for g in (before, after):
        verify(g)
    x = images(8, *shape) if before.tensor("x").dtype == "float32" else integers(8, *shape)
    ours, theirs = reference_run(after, x)[after.outputs[0]], reference_run(before, x)[before.outputs[0]]
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 3


def test_drop_identities() -> None:
    before = graph(
        [real("x", 4, 2), real("a", 4, 2), real("b", 4, 2), real("c", 8), real("y", 8)],
        [
            host("drop", "aten.dropout.default", ("x",), "a", 0.5, False),
            host("slice", "aten.slice.Tensor", ("a",), "b", 2, 0, 2),
            host("flatten", "aten.flatten.using_ints", ("b",), "c", 1),
            host("view", "aten.view.default", ("c",), "y", (1, 8)),
        ],
    )
    expected = graph(
        [real("x", 4, 2), real("c", 8)],
        [host("flatten", "aten.flatten.using_ints", ("x",), "c", 1)],
        outputs=("c",),
    )
    assert drop_identities(before) == expected
    same(before, expected, 4, 2)


def test_drop_identities_keeps_conversions_and_real_slices() -> None:
    g = graph(
        [real("x", 4, 4), replace(real("a", 4, 4), dtype="float64"), replace(real("y", 4, 3), dtype="float64")],
        [
            host("to", "aten.to.dtype", ("x",), "a", {"dtype": "float64"}),
            host("slice", "aten.slice.Tensor", ("a",), "y", 2, 0, 3),
        ],
    )
    assert drop_identities(g) == g
    permuted = graph([real("x", 4, 4), real("y", 4, 4)], [host("t", "aten.transpose.int", ("x",), "y", 1, 2)])
    assert drop_identities(permuted) == permuted


def test_remove_dead_nodes() -> None:
    relu = host("relu", "aten.relu.default", ("x",), "y")
    dead = [host("a", "aten.neg.default", ("x",), "a"), host("b", "aten.neg.default", ("a",), "b")]
    before = graph([real("x", 3), real("y", 3), real("a", 3), real("b", 3)], [*dead, relu])
    assert remove_dead_nodes(before) == graph([real("x", 3), real("y", 3)], [relu])


def test_materialize_constants() -> None:
    w = constant(weights(5, 3))
    before = graph(
        [real("x", 3), real("y", 5)],
        [host("fc", "aten.linear.default", ("x",), "y", {"constant": "w"}, constants={"w": w})],
    )
    expected = graph(
        [real("x", 3), real("y", 5)],
        [host("fc", "aten.linear.default", ("x",), "y", {"constant": "w"}, constants={"w": w.real()})],
    )
    assert materialize_constants(before) == expected
    same(before, expected, 3)


def test_sink_dequantize_through_a_pool_and_a_flatten() -> None:
    x = int8("x", 4, 6, 6)
    before = graph(
        [x, real("a", 4, 6, 6), real("b", 4, 3, 3), real("y", 36)],
        [
            dequantize("x", "a"),
            host("pool", "aten.max_pool2d.default", ("a",), "b", (3,), (2,), (1,)),
            host("flatten", "aten.flatten.using_ints", ("b",), "y", 1),
        ],
    )
    expected = graph(
        [x, int8("b.int8", 4, 3, 3), real("a", 4, 6, 6), real("b", 4, 3, 3), int8("y.int8", 36), real("y", 36)],
        [
            dequantize("x", "a"),
            MaxPool2d(
                name="pool", inputs=("x",), outputs=("b.int8",), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 0, 0)
            ),
            replace(dequantize("b.int8", "b"), name="b.int8.dequantize"),
            Reshape(name="flatten", inputs=("b.int8",), outputs=("y.int8",)),
            replace(dequantize("y.int8", "y"), name="y.int8.dequantize"),
        ],
    )
    assert sink_dequantize(before) == expected
    same(before, expected, 4, 6, 6)


def test_sink_dequantize_leaves_what_the_hardware_cannot_hold() -> None:
    g = graph(
        [int8("x", 4, 6, 6), real("a", 4, 6, 6), real("y", 1, 4, 6, 6)],
        [dequantize("x", "a"), host("unsqueeze", "aten.unsqueeze.default", ("a",), "y", 1)],
    )
    assert sink_dequantize(g) == g


def test_hoist_quantize_through_a_clamp_a_pool_and_a_flatten() -> None:
    q = int8("y", 36, scale=0.05, zero_point=-100)
    before = graph(
        [real("x", 4, 6, 6), real("a", 4, 6, 6), real("b", 4, 3, 3), real("c", 36), q],
        [
            host("relu6", "aten.relu6.default", ("x",), "a"),
            host("pool", "aten.max_pool2d.default", ("a",), "b", (2, 2)),
            host("flatten", "aten.flatten.using_ints", ("b",), "c", 1),
            quantize("c", "y", low=-120),
        ],
    )
    # 0 / 0.05 - 100 = -100 and 6 / 0.05 - 100 = 20
    expected = graph(
        [
            real("x", 4, 6, 6),
            int8("y.early.early", 4, 6, 6, scale=0.05, zero_point=-100),
            int8("y.early", 4, 3, 3, scale=0.05, zero_point=-100),
            q,
        ],
        [
            replace(quantize("x", "y.early.early", low=-100, high=20), name="y.q"),
            MaxPool2d(name="pool", inputs=("y.early.early",), outputs=("y.early",), kernel=(2, 2), stride=(2, 2)),
            Reshape(name="flatten", inputs=("y.early",), outputs=("y",)),
        ],
    )
    assert hoist_quantize(before) == expected
    same(before, expected, 4, 6, 6)


def test_hoist_quantize_serves_each_of_two_quantizes() -> None:
    def tail(a: str, b: str) -> list[object]:
        return [dequantize("q1", a), dequantize("q2", b), host("sum", "aten.add.Tensor", (a, b), "y")]

    q1, q2 = int8("q1", 3, scale=0.1), int8("q2", 3, scale=0.2, zero_point=5)
    rest = [q1, q2, real("d", 3), real("e", 3), real("y", 3)]
    before = graph(
        [real("x", 3), real("a", 3), *rest],
        [host("relu", "aten.relu.default", ("x",), "a"), quantize("a", "q1"), quantize("a", "q2"), *tail("d", "e")],  # type: ignore[list-item]
    )
    expected = graph(
        [real("x", 3), *rest],
        [quantize("x", "q1", low=-3), quantize("x", "q2", low=5), *tail("d", "e")],  # type: ignore[list-item]
    )
    assert hoist_quantize(before) == expected
    same(before, expected, 3)


def test_hoist_quantize_stays_behind_what_a_float_reader_needs() -> None:
    g = graph(
        [real("x", 3), real("a", 3), int8("q", 3), real("b", 3), real("y", 3)],
        [
            host("relu", "aten.relu.default", ("x",), "a"),
            quantize("a", "q"),
            dequantize("q", "b"),
            host("sum", "aten.add.Tensor", ("a", "b"), "y"),
        ],
    )
    assert hoist_quantize(g) == g


def test_expose_zero_pads() -> None:
    pad = host("pad", "aten.pad.default", ("a",), "p", (1, 2, 0, 1))
    before = graph(
        [
            int8("x", 4, 6, 6),
            real("a", 4, 6, 6),
            real("p", 4, 7, 9),
            int8("q", 4, 7, 9),
            real("b", 4, 7, 9),
            real("y", 4, 7, 9),
        ],
        [
            dequantize("x", "a"),
            pad,
            quantize("p", "q"),
            dequantize("q", "b"),
            host("neg", "aten.neg.default", ("b",), "y"),
        ],
    )
    early = replace(int8("q.unpadded", 4, 6, 6))
    expected = graph(
        [
            int8("x", 4, 6, 6), real("a", 4, 6, 6), real("p", 4, 7, 9), early, real("q.unpadded.real", 4, 6, 6),
            real("q.padded", 4, 7, 9), real("y", 4, 7, 9),
        ],
        [
            dequantize("x", "a"),
            pad,
            replace(quantize("a", "q.unpadded"), name="q.q"),
            replace(dequantize("q.unpadded", "q.unpadded.real"), name="q.unpadded.dequantize"),
            host("pad.q", "aten.pad.default", ("q.unpadded.real",), "q.padded", (1, 2, 0, 1)),
            host("neg", "aten.neg.default", ("q.padded",), "y"),
        ],
    )  # fmt: skip
    assert expose_zero_pads(before) == expected
    same(before, expected, 4, 6, 6)


def test_expose_zero_pads_leaves_other_values() -> None:
    for options in ((1, 1, 1, 1, 0, 0), (-1, 0, 0, 0)):
        pad = host("pad", "aten.pad.default", ("a",), "p", options)
        assert expose_zero_pads(g := _padded(pad)) == g
    pad = host("pad", "aten.pad.default", ("a",), "p", (1, 1), "constant", 1.0)
    assert expose_zero_pads(g := _padded(pad)) == g
    pad = host("pad", "aten.pad.default", ("a",), "p", (1, 1), "reflect")
    assert expose_zero_pads(g := _padded(pad)) == g


def _padded(pad: object) -> Graph:
    return graph(
        [int8("x", 4, 6, 6), real("a", 4, 6, 6), real("p", 4, 6, 8), int8("q", 4, 6, 8), real("y", 4, 6, 8)],
        [dequantize("x", "a"), pad, quantize("p", "q"), dequantize("q", "y")],  # type: ignore[list-item]
    )


def test_fuse_pairs() -> None:
    x = int8("x", 8)
    other = int8("b", 8, scale=0.2971, zero_point=10)  # no ties, which integers and floats round apart
    before = graph(
        [x, real("r", 8), int8("a", 8), real("s", 8), other, real("y", 8)],
        [
            dequantize("x", "r"),
            quantize("r", "a"),
            dequantize("a", "s"),
            quantize("s", "b", high=50),
            dequantize("b", "y"),
        ],
    )
    expected = graph(
        [x, real("r", 8), real("s", 8), other, real("y", 8)],
        [
            dequantize("x", "r"),
            dequantize("x", "s"),
            Requantize(name="b.q", inputs=("x",), outputs=("b",), high=50),
            dequantize("b", "y"),
        ],
    )
    assert fuse_pairs(before) == expected
    same(before, expected, 8)


def test_fold_clamps_into_a_convolution() -> None:
    w = weights(5, 4, 3, 3)
    before = graph(
        [int8("x", 4, 6, 6), int8("a", 5, 4, 4, scale=1.0), int8("y", 5, 4, 4, scale=1.0)],
        [conv("c", "x", "a", w, high=100), Requantize(name="relu", inputs=("a",), outputs=("y",), low=-3)],
    )
    expected = graph([int8("x", 4, 6, 6), int8("y", 5, 4, 4, scale=1.0)], [conv("c", "x", "y", w, low=-3, high=100)])
    assert fold_clamps(before) == expected
    same(before, expected, 4, 6, 6)


def test_fold_clamps_keeps_a_change_of_scale_and_a_second_reader() -> None:
    w = weights(4, 4, 1, 1)
    rescaled = graph(
        [int8("x", 4, 6, 6), int8("a", 4, 6, 6), int8("y", 4, 6, 6, scale=0.3)],
        [conv("c", "x", "a", w), Requantize(name="r", inputs=("a",), outputs=("y",))],
    )
    assert fold_clamps(rescaled) == rescaled
    shared = graph(
        [int8("x", 4, 6, 6), int8("a", 4, 6, 6), int8("y", 4, 6, 6)],
        [conv("c", "x", "a", w), Requantize(name="r", inputs=("a",), outputs=("y",), low=0)],
        outputs=("y", "a"),
    )
    assert fold_clamps(shared) == shared


def test_folded_bounds_never_cross() -> None:
    """A clamp above the range of the one before it leaves its own lower bound alone."""
    w = weights(4, 4, 1, 1)
    before = graph(
        [int8("x", 4, 6, 6), int8("a", 4, 6, 6), int8("y", 4, 6, 6)],
        [conv("c", "x", "a", w, high=10), Requantize(name="r", inputs=("a",), outputs=("y",), low=20)],
    )
    after = fold_clamps(before)["c"]
    assert isinstance(after, Conv2d)
    assert (after.low, after.high) == (20, 20)


def test_a_pair_of_tflite_is_a_table() -> None:
    """Its rounding of halves is no rescale's."""
    before = graph(
        [int8("x", 4, 8), real("r", 4, 8), int8("y", 4, 8, scale=0.25, zero_point=5)],
        [dequantize("x", "r"), replace(quantize("r", "y"), rule=QuantizeRule.HALF_AWAY)],
    )
    after = remove_dead_nodes(fuse_pairs(before))
    (node,) = after.nodes
    assert isinstance(node, Table)
    assert node.table[100 + 128] == 5 + 52  # (100 + 3) / 2 is 51.5.
    assert node.table[-128 + 128] == 5 - 63  # (-128 + 3) / 2 is -62.5.
    same(before, after, 4, 8)
