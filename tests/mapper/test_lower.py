# SPDX-License-Identifier: Apache-2.0
"""Placing nodes on the accelerator or the host, and fusing them into layers."""

from dataclasses import replace

import numpy as np
import pytest

from tests.mapper.bench import Net, config
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import Conv2d, Dequantize, Graph, HostOp, IntegerOp, Quantize, Tensor
from tilewright_mapper.lower import check_placeable, host_reason, partition, trim_ends
from tilewright_mapper.rounding import with_rounding

CONFIG = config(8, 8, 4)


def with_dequantize(graph: Graph, name: str) -> Graph:
    real = Tensor(name="real", shape=graph.tensor(name).shape, dtype="float32")
    node = Dequantize(name="dequantize", inputs=(name,), outputs=("real",))
    return replace(graph, nodes=(*graph.nodes, node), tensors={**graph.tensors, "real": real}, outputs=("real",))


# --- The ends, and the order.


def test_conversions_at_the_ends_are_the_drivers() -> None:
    net = Net((4, 3, 3))
    y = net.conv("input", 4)
    trimmed = trim_ends(with_dequantize(net.graph(y), y))
    assert (trimmed.inputs, trimmed.outputs) == (("input",), (y,))
    assert [node.op for node in trimmed] == ["Conv2d"]
    assert set(trimmed.tensors) == {"input", y}


def test_an_input_that_is_quantized_with_a_clamp_stays_float() -> None:
    net = Net((4,))
    y = net.conv("input", 4)
    graph = net.graph(y)
    first = graph.nodes[0]
    assert isinstance(first, Quantize)
    graph = replace(graph, nodes=(replace(first, low=0), *graph.nodes[1:]))
    assert trim_ends(graph) == graph


def test_an_input_that_two_nodes_read_stays_float() -> None:
    net = Net((4,))
    net.tensor("second", (4,))
    net.nodes.append(Quantize(name="again", inputs=("float",), outputs=("second",)))
    y = net.add("input", "second")
    assert trim_ends(net.graph(y)).inputs == ("float",)


def test_phases_change_places_as_seldom_as_they_can() -> None:
    """Two branches with a host operator each: both of them in one phase on the host."""
    net = Net((4,))
    left = net.host(net.conv("input", 4), "aten.sin.default")
    right = net.host(net.conv("input", 4), "aten.cos.default")
    y = net.add(net.conv(left, 4), right)
    phases = partition(trim_ends(net.graph(y)), CONFIG)
    assert [(p.on_device, [n.op for n in p.nodes]) for p in phases] == [
        (True, ["Conv2d", "Conv2d"]),
        (False, ["Dequantize", "HostOp", "Quantize"] * 2),
        (True, ["Conv2d", "Add"]),
    ]


def test_reshapes_among_host_operators_stay_on_the_host() -> None:
    net = Net((4, 1, 1))
    y = net.reshape("input", (4,))
    (phase,) = partition(trim_ends(net.graph(y)), CONFIG)
    assert not phase.on_device


# --- Refusals.


def test_strict_names_every_host_operator_and_what_would_help() -> None:
    net = Net((4,))
    y = net.host(net.host(net.conv("input", 4), "aten.sin.default"), "aten.cos.default")
    graph = trim_ends(net.graph(y))
    check_placeable(graph, CONFIG, strict=False)
    with pytest.raises(ModelError) as caught:
        check_placeable(graph, CONFIG, strict=True)
    message = str(caught.value)
    for part in ("aten.sin.default", "aten.cos.default", "strict=True", "it would run on the accelerator if"):
        assert part in message
    assert message.count("\n  - ") == 6


def test_all_that_a_configuration_lacks_is_named_at_once() -> None:
    cfg = replace(CONFIG, post=replace(CONFIG.post, add=False, tables=0, roundings=(Rounding.SINGLE,)))
    net = Net((4,))
    y = net.host(net.table(net.add("input", net.conv("input", 4))), "aten.sin.default")
    graph = trim_ends(net.graph(y))
    check_placeable(graph, cfg, strict=False)
    with pytest.raises(ModelError) as caught:
        check_placeable(graph, cfg, strict=True)
    message = str(caught.value)
    for part in ("set post.add = true", "set post.tables to at least 1", "aten.sin.default"):
        assert part in message


def test_a_rounding_that_the_configuration_lacks_is_refused_strict_or_not() -> None:
    cfg = replace(CONFIG, post=replace(CONFIG.post, roundings=(Rounding.SINGLE,)))
    net = Net((4,))
    graph = with_rounding(net.graph(net.table(net.add(net.conv("input", 4), "input"))), Rounding.TFLITE_DOUBLE)
    for strict in (False, True):
        with pytest.raises(ModelError, match=r"rounding must be one that .* has \(single\), but 2 operators such as "
                                             r"'conv1' need 'tflite_double': add it to post.roundings, or compile"):
            check_placeable(graph, cfg, strict=strict)


def test_numbers_that_no_instruction_can_hold_keep_a_node_on_the_host() -> None:
    net = Net((1, 300, 2))
    y = net.max_pool("input", (256, 1), (1, 1))
    assert host_reason(net.graph(y), net.nodes[-1], CONFIG) == (
        "its kernel must be at most 255 for the accelerator, but is 256")
    net = Net((40000, 4))
    graph = net.graph(net.conv("input", 4))
    reason = "height and width of 'input' must be at most 32767 for the accelerator, but are 40000"
    assert host_reason(graph, net.nodes[-1], CONFIG).startswith(reason)
    with pytest.raises(ModelError, match=reason):
        check_placeable(graph, CONFIG, strict=True)


@pytest.mark.parametrize(("last", "bias", "most"), [(4, 0, 1 << 23), (3, 0, 0), (3, -128, 1 << 23), (3, -127, 0)])
def test_sums_that_leave_the_accumulators_keep_a_node_on_the_host(last: int, bias: int, most: int) -> None:
    """Factors of -128 alone bring the second channel to 2**23 where the last of its weights is 4."""
    narrow = replace(CONFIG, memory=replace(CONFIG.memory, accumulator_bits=24))
    net = Net((517, 1, 1))
    net.tensor("input", (517, 1, 1), zero=0)
    net.conv("input", 2)
    node = net.nodes[-1]
    assert isinstance(node, Conv2d)
    weight = np.zeros((2, 517, 1, 1), np.int8)
    weight[1], weight[1, 516] = 127, last
    net.nodes[-1] = replace(node, weight=weight, bias=np.array([1 << 20, bias], np.int32))
    graph = net.graph(node.outputs[0])
    assert host_reason(graph, net.nodes[-1], CONFIG) == ""
    reason = host_reason(graph, net.nodes[-1], narrow)
    expected = (f"its sums reach {most}, which takes more than the 24 bits of the accumulators of configuration "
                "'test8x8'; set memory.accumulator_bits = 32")
    assert reason == (expected if most else "")
    if most:
        with pytest.raises(ModelError, match=f"strict=True forbids: its sums reach {most}"):
            check_placeable(graph, narrow, strict=True)


def reasons(net: Net, cfg: AcceleratorConfig = CONFIG) -> dict[str, str]:
    """Why nodes run on the host, by name."""
    graph = net.graph()
    return {node.name: reason for node in graph.nodes[1:] if (reason := host_reason(graph, node, cfg))}


def test_reasons_name_what_would_help() -> None:
    net = Net((4, 6, 6))
    net.multiply("input", "input")
    net.raw_pool("input", (3, 3), (1, 1), (1, 1, 1, 1), divisor=0)
    net.constant((4, 1, 1))
    net.nodes.append(IntegerOp(name="softmax4", inputs=("input",), outputs=(net.tensor("s", (4, 6, 6)),),
                               target="softmax"))
    moved = net.tensor("moved", (4, 6, 6), scale=net.tensors["input"].scale, zero=net.tensors["input"].zero_point)
    net.nodes.append(HostOp(name="flip5", inputs=("input",), outputs=(moved,), target="aten.flip.default",
                            args=({"tensor": "input"}, (3,))))
    net.conv("input", 4)
    net.nodes[-1] = replace(net.nodes[-1], rounding=Rounding.FLOAT_HALF_EVEN)  # type: ignore[call-arg]
    without = replace(CONFIG, post=replace(CONFIG.post, multiply=False, multiplier_bits=8))
    found = reasons(net, without)
    for name, part in {
        "multiply1": "set post.multiply = true", "raw2": "divides by 9 exactly",
        "constant3": "it is a constant", "softmax4": "no engine computes softmax",
        "flip5": "no engine moves bytes as aten.flip.default", "conv6": "compile with rounding='single'",
    }.items():
        assert part in found.pop(name)
    assert not found
    assert "multiply1" not in reasons(net)


def test_fits_that_a_narrow_multiplier_does_not_have() -> None:
    net = Net((4, 7, 7))
    net.conv("input", 4)
    net.nodes[-1] = replace(net.nodes[-1], rounding=Rounding.FLOAT64_HALF_AWAY)  # type: ignore[call-arg]
    net.raw_pool("input", (7, 7), (1, 1))
    assert not reasons(net)
    narrow = reasons(net, replace(CONFIG, post=replace(CONFIG.post, multiplier_bits=9)))
    assert "no integer multiplier of the accelerator equals its rule 'float64_half_away'" in narrow["conv1"]
    assert "divides by 49 exactly; enlarge post.multiplier_bits" in narrow["raw2"]


def test_constants_are_no_offence_to_strict_and_come_first() -> None:
    net = Net((4, 6, 6))
    y = net.add(net.conv("input", 4), net.constant((4, 1, 1)))
    graph = trim_ends(net.graph(y))
    check_placeable(graph, CONFIG, strict=True)
    assert [(p.on_device, [n.op for n in p.nodes]) for p in partition(graph, CONFIG)] == [
        (False, ["ConstantTensor"]), (True, ["Conv2d", "Add"])]


def test_channels_are_joined_at_whole_words_only() -> None:
    for channels, reason in ((8, ""), (6, "it joins channels that are no multiple of the array's 8 rows")):
        net = Net((channels, 5, 5))
        net.concat(1, "input", "input")
        net.concat(3, "input", "input")
        assert reasons(net) == ({"concat1": reason} if reason else {})
    # The last piece may have any number.
    net = Net((8, 5, 5))
    net.concat(1, "input", net.like(net.conv("input", 3), "input"))
    assert not reasons(net)


def test_averages_in_too_many_places_stay_on_the_host() -> None:
    net = Net((4, 12, 12))
    net.raw_pool("input", (9, 9), (1, 1), (4, 4, 4, 4), divisor=0)
    assert "divide by other numbers in 81 places, more than the 49" in reasons(net)["raw1"]
    narrow = replace(CONFIG, post=replace(CONFIG.post, multiplier_bits=8))
    net.nodes.pop()
    net.raw_pool("input", (7, 7), (1, 1), (1, 1, 1, 1), divisor=0)
    assert "divides by 49 exactly" in reasons(net, narrow)["raw1"]
