# SPDX-License-Identifier: Apache-2.0
"""One channel for all: copied exactly, on the accelerator."""

from dataclasses import replace

import numpy as np
import pytest

from tests.mapper.bench import Net, config
from tests.mapper.test_pipeline import check
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import ConstantTensor, Conv2d
from tilewright_mapper.passes.broadcasts import spread_channels
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.rounding import with_rounding
from tilewright_mapper.spec import verify


@pytest.mark.parametrize("rounding", [Rounding.SINGLE, Rounding.TFLITE_DOUBLE])
@pytest.mark.parametrize("cfg", [config(4, 4, 2), config(4, 4, 4, multiplier_bits=17)], ids=["wide", "narrow"])
def test_a_map_for_all_channels(cfg: AcceleratorConfig, rounding: Rounding) -> None:
    net = Net((9, 5, 4))
    attention = net.conv("input", 1)
    graph = with_rounding(net.graph(net.multiply("input", attention), net.subtract(attention, "input")), rounding)
    found = spread_channels(graph)
    verify(found)
    assert [node.op for node in found][1:] == ["Conv2d", "Conv2d", "Multiply", "Conv2d", "Subtract"]
    x = net.image()[None]
    before, after = (reference_run(g, x, bits=cfg.post.multiplier_bits) for g in (graph, found))
    for name in graph.outputs:
        np.testing.assert_array_equal(after[name], before[name])
    program = check(net, found, cfg, rounding)
    assert all(layer.on != "host" for layer in program.layers)


def test_constants_are_copied_at_once() -> None:
    net = Net((9, 5, 4))
    graph = net.graph(net.add(net.constant((1,)), "input"))
    found = spread_channels(graph)
    verify(found)
    (constant,) = [node for node in found if isinstance(node, ConstantTensor) and node.values.size > 1]
    assert constant.values.shape == (9, 1, 1)
    x = net.image()[None]
    np.testing.assert_array_equal(*(reference_run(g, x)[g.outputs[0]] for g in (graph, found)))


def test_a_copy_is_exact_by_a_rule_of_floating_point_too() -> None:
    """Such a graph may get a rule of the hardware later."""
    net = Net((9, 5, 4))
    graph = net.graph(net.multiply("input", net.conv("input", 1)))
    *before, last = graph.nodes
    graph = replace(graph, nodes=(*before, replace(last, rounding=Rounding.FLOAT_HALF_EVEN)))  # type: ignore[call-arg]
    found = spread_channels(graph)
    copy = found.nodes[-2]
    assert isinstance(copy, Conv2d)
    x = net.image()[None]
    values = reference_run(found, x)
    np.testing.assert_array_equal(values[copy.output], np.repeat(values[copy.input], 9, axis=1))
    np.testing.assert_array_equal(values[graph.outputs[0]], reference_run(graph, x)[graph.outputs[0]])
