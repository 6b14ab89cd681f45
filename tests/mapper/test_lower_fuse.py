# SPDX-License-Identifier: Apache-2.0
"""Fusing: which nodes one pass through the hardware does together, and with which numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.mapper.bench import Net, config
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Combine
from tilewright_hdl.numerics import ONE_RULE_SHIFT, Rounding
from tilewright_mapper.graph import Conv2d
from tilewright_mapper.lower import trim_ends
from tilewright_mapper.lower_fuse import alias_roots, lower_phase
from tilewright_mapper.lower_layers import DeviceLayer, Window
from tilewright_mapper.rescale import add_parameters
from tilewright_mapper.rounding import with_rounding

CONFIG = config(8, 8, 4)


def layers(net: Net, *outputs: str, cfg: AcceleratorConfig = CONFIG, **options: Any) -> list[DeviceLayer]:
    graph = trim_ends(net.graph(*outputs))
    return lower_phase(graph, graph.nodes, cfg, kept=outputs, roots=alias_roots(graph, graph.nodes), **options)


def test_a_bias_that_leaves_int32_with_the_zero_point_is_refused() -> None:
    net = Net((4,))
    y = net.conv("input", 4)
    node = net.nodes[-1]
    assert isinstance(node, Conv2d)
    net.nodes[-1] = replace(node, bias=np.full(4, 2**31 - 1, np.int32), weight=np.full((4, 4, 1, 1), 127, np.int8))
    net.tensors["input"] = replace(net.tensors["input"], zero_point=-10)
    with pytest.raises(ModelError, match=r"Conv2d 'conv1': the bias .* must be an int32, but is 2147488727"):
        layers(net, y)


def test_scales_that_no_multiplier_can_express_are_refused() -> None:
    net = Net((4,))
    y = net.requantize("input")
    net.tensors["input"] = replace(net.tensors["input"], scale=1e12)
    with pytest.raises(ModelError, match=r"Requantize 'requantize1' cannot be rescaled: .* must be below 2\*\*30 .*"
                                         r"input 1e\+12"):
        layers(net, y)


# --- Fusing.


def test_a_pool_and_a_table_ride_on_the_convolution() -> None:
    net = Net((4, 8, 8))
    y = net.max_pool(net.table(net.conv("input", 8)), (2, 2), (2, 2))
    (layer,) = layers(net, y)
    assert (layer.op, layer.nodes) == ("Conv2d+Table+MaxPool2d", ("conv1", "table2", "max3"))
    assert (layer.window, layer.post["combine"]) == (Window((2, 2), (2, 2)), Combine.MAX)
    assert (layer.output.root, layer.middle.height, layer.output.height) == (y, 8, 4)
    assert (layer.on, layer.macs) == ("array", 4 * 8 * 64)


def test_a_layer_ends_with_its_first_combination() -> None:
    net = Net((4, 8, 8))
    y = net.requantize(net.avg_pool(net.conv("input", 8), (2, 2), (2, 2)))
    assert [(layer.op, layer.on) for layer in layers(net, y)] == [("Conv2d+AvgPool2d", "array"), ("Requantize", "post")]


def test_what_others_read_is_not_fused() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    y = net.add(net.table(x), net.conv(x, 4))
    assert [layer.op for layer in layers(net, y)] == ["Conv2d", "Table", "Conv2d+Add"]


def test_what_is_an_output_is_not_fused() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    y = net.table(x)
    assert [layer.op for layer in layers(net, x, y)] == ["Conv2d", "Table"]


def test_an_addition_rides_on_the_branch_that_comes_last() -> None:
    net = Net((4, 8, 8))
    a, b = net.conv("input", 4), net.conv("input", 4)
    y = net.add(b, a)
    first, second = layers(net, y)
    assert (first.name, second.name, second.op) == ("conv1", "conv2", "Conv2d+Add")
    assert second.residual is not None
    assert second.residual.root == a


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_operands_of_a_fused_addition_keep_their_scales(order: tuple[int, int]) -> None:
    net = Net((4, 8, 8))
    operands = [net.conv("input", 4), "input"]
    y = net.add(*(operands[i] for i in order))
    (layer,) = layers(net, y)
    node = net.nodes[-1]
    p = add_parameters(net.graph(y), node)  # type: ignore[arg-type]
    own, other = ("a", "b") if order == (0, 1) else ("b", "a")
    for name in ("multiplier", "shift", "zero_point"):
        assert layer.post[f"{name}_a"] == getattr(p, f"{name}_{own}")
        assert layer.post[f"{name}_b"] == getattr(p, f"{name}_{other}")


def test_a_sum_of_a_tensor_with_itself_is_a_layer_of_its_own() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    assert [layer.op for layer in layers(net, net.add(x, x))] == ["Conv2d", "Add"]


def test_a_difference_rides_only_on_what_is_subtracted_from() -> None:
    net = Net((4, 8, 8))
    (layer,) = layers(net, net.subtract(net.conv("input", 4), "input"))
    assert (layer.op, layer.post["combine"]) == ("Conv2d+Subtract", Combine.SUBTRACT)
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    first, second = layers(net, net.subtract("input", x))
    assert (second.op, second.source.root) == ("Subtract", "input")
    assert second.residual is not None
    assert second.residual.root == first.output.root == x


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_product_rides_on_either_operand_and_has_one_rescale(order: tuple[int, int]) -> None:
    net = Net((4, 8, 8))
    operands = [net.conv("input", 4), "input"]
    (layer,) = layers(net, net.multiply(*(operands[i] for i in order)))
    assert (layer.op, layer.post["combine"]) == ("Conv2d+Multiply", Combine.MULTIPLY)
    zeros = [net.tensors[name].zero_point for name in operands]
    assert [layer.post["zero_point_a"], layer.post["zero_point_b"]] == zeros
    assert {"multiplier_a", "multiplier_b"}.isdisjoint(layer.post)


def test_an_operand_that_is_repeated_does_not_lead() -> None:
    """Alone it is read with steps of 0; a convolution in front of it makes too few pixels."""
    net = Net((4, 8, 8))
    gate = net.conv(net.avg_pool("input", (8, 8), (1, 1)), 4)
    first, second = layers(net, net.multiply(gate, "input"))[-2:]
    assert [first.op, second.op] == ["Conv2d", "Multiply"]
    assert (second.source.height, second.middle.height, second.output.height) == (1, 8, 8)
    net = Net((4, 8, 8))
    gate = net.avg_pool("input", (8, 8), (1, 1))
    (layer,) = layers(net, net.multiply(gate, net.conv("input", 4)))[-1:]
    assert layer.op == "Conv2d+Multiply"
    assert layer.residual is not None
    assert (layer.residual.root, layer.residual.height) == (gate, 1)


def test_nothing_rides_behind_a_border() -> None:
    net = Net((4, 6, 6))
    y = net.table(net.pad(net.table(net.conv("input", 8)), (1, 2, 0, 1), 7))
    first, second = layers(net, y)
    assert (first.op, second.op) == ("Conv2d+Table+Pad2d", "Table")
    assert (first.window, first.post["pad_value"]) == (Window(padding=(1, 2)), 7)
    assert (first.output.height, first.output.width) == (7, 9)


def test_layers_of_two_rules_are_not_fused_where_the_rules_differ() -> None:
    net = Net((4, 8, 8))
    y = net.add(net.conv("input", 8), net.conv("input", 8))
    graph = trim_ends(net.graph(y))
    for rule, expected in ((Rounding.SINGLE, "Conv2d+Add"), (Rounding.TFLITE_DOUBLE, "Add")):
        *convs, add = graph.nodes
        mixed = replace(graph, nodes=(*convs, replace(add, rounding=rule)))  # type: ignore[call-arg]
        found = lower_phase(mixed, mixed.nodes, CONFIG, kept=(y,), roots=alias_roots(mixed, mixed.nodes))
        assert found[-1].op == expected
        assert "rounding" in found[-1].post


def test_an_average_of_stored_integers_rides_on_any_rule() -> None:
    """Its shift is one where all rules are the same."""
    net = Net((4, 8, 8))
    y = net.raw_pool(net.conv("input", 8), (2, 2), (2, 2))
    graph = with_rounding(trim_ends(net.graph(y)), Rounding.TFLITE_DOUBLE)
    (layer,) = lower_phase(graph, graph.nodes, CONFIG, kept=(y,), roots=alias_roots(graph, graph.nodes))
    assert (layer.op, layer.post["rounding"]) == ("Conv2d+AvgPool2d", 1)
    assert (layer.post["offset"], layer.post["pad_value"], layer.post["zero_point_out"]) == (0, 0, 0)
    assert layer.post["shift_out"] <= ONE_RULE_SHIFT


def test_halves_of_an_average_go_up_where_all_sums_are_positive() -> None:
    net = Net((4, 6, 6))
    y = net.raw_pool("input", (2, 3), (2, 3), rounding=Rounding.SINGLE)
    (layer,) = layers(net, y)
    assert (layer.post["offset"], layer.post["zero_point_out"]) == (6 * 128, -128)


def test_wide_weights_are_sums_of_int8() -> None:
    net = Net((4, 5, 5))
    (layer,) = layers(net, net.conv("input", 8, (3, 3), wide=True))
    assert layer.conv is not None
    assert [conv.weight.dtype for conv in layer.convs] == [np.int8] * 3, "127 + 127 + 1 is 255"
    parts = np.stack([conv.weight.astype(np.int64) for conv in layer.convs])
    np.testing.assert_array_equal(parts.sum(0), layer.conv.weight)
    np.testing.assert_array_equal(np.abs(parts).sum(0), np.abs(layer.conv.weight.astype(np.int64)))
    (other,) = layers(net, net.conv("input", 8, (3, 3), wide=True))[-1:]
    assert other.shape_key != layer.shape_key


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_a_pool_whose_windows_overlap_rides_where_that_pays(kind: str) -> None:
    """Tiles compute their borders twice: nothing to a convolution of one pass, too much to one of 72."""
    for channels, size, kernel, expected in ((4, 8, 3, 1), (64, 8, 3, 1), (4, 20, 1, 1), (64, 20, 3, 2)):
        net = Net((channels, size, size))
        x = net.conv("input", 8, (kernel, kernel), padding=4 * (kernel // 2,))
        y = getattr(net, kind)(x, (3, 3), (2, 2), (1, 1, 1, 1))
        assert len(layers(net, y)) == expected, (channels, size, kernel)


def test_what_joins_depends_on_the_form_in_which_layers_run() -> None:
    """As packed, a convolution may have one pass where it has 72."""
    net = Net((64, 20, 20))
    y = net.max_pool(net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1)), (3, 3), (2, 2), (1, 1, 1, 1))

    def packed(layer: DeviceLayer) -> DeviceLayer:
        if layer.conv is None:
            return layer
        conv = replace(layer.conv, weight=layer.conv.weight[:, :8, :1, :1], padding=(0, 0, 0, 0))
        return replace(layer, conv=conv, source=replace(layer.source, channels=8))

    assert len(layers(net, y)) == 2
    (layer,) = layers(net, y, form=packed)
    assert layer.source.channels == 64, "the form is for estimates"


def test_a_window_larger_than_the_accumulators_is_a_pool_by_itself() -> None:
    net = Net((4, 20, 20))
    assert [x.op for x in layers(net, net.max_pool(net.conv("input", 8), (9, 8), (1, 1)))] == ["Conv2d", "MaxPool2d"]


@pytest.mark.parametrize("width", [20, 40])
def test_pools_that_do_not_overlap_ride(width: int) -> None:
    """In bands, and where the rows of a window do not fit the accumulators, in parts of them."""
    net = Net((4, 20, width))
    assert [x.op for x in layers(net, net.max_pool(net.conv("input", 8), (2, 2), (2, 2)))] == ["Conv2d+MaxPool2d"]


def test_reshapes_are_other_names_for_the_same_bytes() -> None:
    net = Net((4, 1, 1))
    x = net.conv("input", 8)
    y = net.conv(net.reshape(x, (8,)), 4)
    first, second = layers(net, y)
    assert second.source.root == first.output.root == x


def test_zero_points_fold_into_the_bias() -> None:
    net = Net((4, 3, 3))
    y = net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1))
    (layer,) = layers(net, y)
    node, (_, zero) = net.nodes[-1], net.tensors["input"].quantization
    assert isinstance(node, Conv2d)
    assert layer.parameters is not None
    assert layer.pad_value == zero
    sums = node.weight.astype(np.int64).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(layer.parameters.bias, node.bias - zero * sums)


def test_padding_of_an_average_is_the_zero_point() -> None:
    net = Net((4, 4, 4))
    y = net.avg_pool("input", (3, 3), (1, 1), (1, 1, 1, 1))
    (layer,) = layers(net, y)
    _, zero = net.tensors["input"].quantization
    assert (layer.post["pad_value"], layer.post["offset"]) == (zero, -9 * zero)


def test_parts_of_a_joined_tensor_are_written_where_they_belong() -> None:
    net = Net((4, 5, 6))
    a = net.conv("input", 8)
    y = net.concat(1, a, net.like(net.conv("input", 16), a), net.like(net.conv("input", 3), a))
    found = layers(net, y)
    assert [layer.op for layer in found] == 3 * ["Conv2d+Concat"]
    assert [layer.at for layer in found] == [(0, 0, 0), (0, 0, 1), (0, 0, 3)]
    assert {(layer.output.root, layer.target.channels) for layer in found} == {(y, 27)}
    net = Net((4, 5, 6))
    a, b = net.conv("input", 8), net.like(net.conv("input", 8), "conv1.out")
    found = layers(net, net.table(net.concat(3, a, b)), b)
    assert [(layer.op, layer.at) for layer in found] == [
        ("Conv2d+Concat", (0, 0, 0)), ("Conv2d", (0, 0, 0)), ("Concat", (0, 6, 0)), ("Table", (0, 0, 0))]


def test_regions_of_an_average_have_divisors_of_their_own() -> None:
    net = Net((4, 5, 6))
    found = layers(net, net.raw_pool("input", (3, 3), (2, 2), (1, 1, 1, 1), divisor=0))
    assert [(layer.at[:2], layer.output.height, layer.output.width) for layer in found] == [
        ((0, 0), 1, 1), ((0, 1), 1, 2), ((1, 0), 1, 1), ((1, 1), 1, 2), ((2, 0), 1, 1), ((2, 1), 1, 2)]
    assert [layer.window.padding for layer in found] == [(1, 1), (1, -1), (-1, 1), (-1, -1), (-3, 1), (-3, -1)]
    inverse = [2 ** layer.post["shift_out"] / layer.post["multiplier_out"] for layer in found]
    np.testing.assert_allclose(inverse, [4, 6, 6, 9, 4, 6])


def test_layers_of_one_shape_have_one_key() -> None:
    net = Net((8, 8, 8))
    x = net.conv("input", 8)
    found = layers(net, net.conv(net.conv(x, 8), 8, low=0))
    assert found[0].shape_key == found[1].shape_key == found[2].shape_key
    assert layers(net, net.table(x))[-1].shape_key != found[0].shape_key
