# SPDX-License-Identifier: Apache-2.0
"""Borders that become the padding of convolutions."""

import numpy as np

from tilewright_mapper.graph import Graph, Pad2d, Provenance
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.passes.pads import fold_pads
from tilewright_mapper.passes.tidy import remove_dead_nodes
from tilewright_mapper.reference_run import reference_run

from .builders import conv, graph, int8, integers, weights

ZERO = -3
"""Zero point of the tensors of ``builders``."""


def padded(value: int, *, outputs: tuple[str, ...] = ("y",)) -> Graph:
    """A border of top 1, left 0, bottom 2, right 3, and a convolution with a padding of its own."""
    border = Pad2d(
        name="p",
        inputs=("x",),
        outputs=("b",),
        padding=(1, 0, 2, 3),
        value=value,
        provenance=Provenance(module="pad", operators=("PAD",)),
    )
    layer = conv(
        "c",
        "b",
        "y",
        weights(4, 2, 3, 3),
        padding=(0, 1, 0, 1),
        provenance=Provenance(module="conv", operators=("CONV_2D",)),
    )
    tensors = [int8("x", 2, 5, 4), int8("b", 2, 8, 7), int8("y", 4, 6, 7, scale=30.0)]
    return graph(tensors, [border, layer], outputs=outputs)


def test_a_border_of_zeros_becomes_padding() -> None:
    before = padded(ZERO)
    (node,) = remove_dead_nodes(fold_pads(before)).nodes
    expected = conv("c", "x", "y", weights(4, 2, 3, 3), padding=(1, 1, 2, 4))
    assert node == expected
    assert node.provenance == Provenance(module="conv", operators=("PAD", "CONV_2D"))
    x = integers(3, 2, 5, 4)
    np.testing.assert_array_equal(reference_run(canonicalize(before), x)["y"], reference_run(before, x)["y"])


def test_another_border_stays() -> None:
    before = padded(ZERO + 1)
    assert fold_pads(before) == before


def test_a_border_that_others_read_stays_beside() -> None:
    after = remove_dead_nodes(fold_pads(padded(ZERO, outputs=("b", "y"))))
    assert [type(node).__name__ for node in after] == ["Pad2d", "Conv2d"]
    assert after["c"].inputs == ("x",)


def test_two_borders_add_up() -> None:
    first = Pad2d(name="p", inputs=("x",), outputs=("a",), padding=(1, 1, 1, 1), value=ZERO)
    second = Pad2d(name="q", inputs=("a",), outputs=("b",), padding=(0, 1, 0, 0), value=ZERO)
    layer = conv("c", "b", "y", weights(4, 2, 3, 3))
    tensors = [int8("x", 2, 4, 4), int8("a", 2, 6, 6), int8("b", 2, 6, 7), int8("y", 4, 4, 5)]
    (node,) = remove_dead_nodes(fold_pads(graph(tensors, [first, second, layer]))).nodes
    assert node == conv("c", "x", "y", weights(4, 2, 3, 3), padding=(1, 2, 1, 1))
