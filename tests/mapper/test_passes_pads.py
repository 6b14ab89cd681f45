# SPDX-License-Identifier: Apache-2.0
"""Borders that become the padding of convolutions and pools."""

from dataclasses import replace

import numpy as np
import pytest

from tests.mapper.bench import Net
from tilewright_mapper.graph import Graph, Pad2d, Provenance
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.passes.pads import fold_pads
from tilewright_mapper.passes.tidy import remove_dead_nodes
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.spec import verify

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


# --- Pools, which pad with values of their own.

BORDER = (1, 0, 2, 3)


def check_folded(net: Net, output: str, *, left: int) -> Graph:
    """The graph after the pass, which computes the same and has ``left`` borders left."""
    before = net.graph(output)
    found = remove_dead_nodes(fold_pads(before))
    verify(found)
    assert sum(isinstance(node, Pad2d) for node in found) == left
    x = net.image()[None]
    np.testing.assert_array_equal(reference_run(found, x)[output], reference_run(before, x)[output])
    return found


def with_zero_point(zero: int) -> Net:
    net = Net((3, 6, 5))
    net.tensors["input"] = replace(net.tensors["input"], zero_point=zero)
    return net


@pytest.mark.parametrize(("zero", "left"), [(-128, 0), (0, 1)])
def test_a_max_pool_pads_with_the_lowest(zero: int, left: int) -> None:
    net = with_zero_point(zero)
    check_folded(net, net.max_pool(net.pad("input", BORDER), (3, 3), (2, 2), (0, 1, 1, 0)), left=left)


@pytest.mark.parametrize(("value", "left"), [(None, 0), (-9, 1)])
def test_an_average_pads_with_its_zero_point(value: int | None, left: int) -> None:
    net = with_zero_point(4)
    check_folded(net, net.avg_pool(net.pad("input", BORDER, value), (3, 3), (2, 2)), left=left)


@pytest.mark.parametrize(("value", "divisor", "left"), [(0, None, 0), (None, None, 1), (0, 0, 1)])
def test_an_average_of_stored_integers_pads_with_0(value: int | None, divisor: int | None, left: int) -> None:
    net = with_zero_point(4)
    check_folded(net, net.raw_pool(net.pad("input", BORDER, value), (3, 3), (2, 2), divisor=divisor), left=left)


def test_only_borders_of_one_value_add_up() -> None:
    net = with_zero_point(4)
    x = net.pad(net.pad(net.pad("input", BORDER, 9), (0, 1, 0, 0), 9), (1, 1, 1, 1))
    found = check_folded(net, net.conv(x, 5), left=1)
    (pad,) = (node for node in found if isinstance(node, Pad2d))
    assert (pad.padding, pad.value) == ((1, 1, 2, 3), 9)
