# SPDX-License-Identifier: Apache-2.0
"""One rounding rule for a whole graph."""

from dataclasses import replace

from tests.mapper.bench import Net, config
from tilewright_hdl.numerics import QuantizeRule, Rounding
from tilewright_mapper.graph import AvgPool2d, Quantize, Rounded
from tilewright_mapper.lower import problems
from tilewright_mapper.rounding import rounding_before, with_rounding


def test_averages_of_stored_integers_keep_their_rule() -> None:
    net = Net((4, 6, 6))
    graph = net.graph(net.raw_pool(net.conv("input", 8), (2, 2), (2, 2), rounding=Rounding.SINGLE))
    (average,) = (node for node in graph if isinstance(node, AvgPool2d))
    for rule in Rounding:
        changed = with_rounding(graph, rule)
        rules = {node.op: node.rounding for node in changed if isinstance(node, Rounded)}
        assert rules == {"Conv2d": rule, "AvgPool2d": average.rounding}
    # Nor do they need a rule of the hardware.
    assert not average.rescales
    both = config(8, 8, 4)
    one = replace(both, post=replace(both.post, roundings=(Rounding.TFLITE_DOUBLE,)))
    assert not problems(with_rounding(graph, Rounding.TFLITE_DOUBLE), one)
    assert len(problems(graph, one)) == 1


def test_the_rule_before_a_border_is_that_of_its_framework() -> None:
    rules = {rule: rounding_before(Quantize(name="q", inputs=("x",), outputs=("y",), rule=rule))
             for rule in QuantizeRule}
    assert rules[QuantizeRule.HALF_EVEN] is Rounding.FLOAT_HALF_EVEN
    assert rules[QuantizeRule.RECIPROCAL] is Rounding.SINGLE
