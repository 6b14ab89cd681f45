# SPDX-License-Identifier: Apache-2.0
"""Networks on accelerators whose instructions hold small numbers only."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.mapper.bench import Net, config, run_program
from tilewright_hdl.config import AcceleratorConfig, LimitsConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Load, Post, Store
from tilewright_hdl.legality import broken_rules
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Graph
from tilewright_mapper.layout import Piece, Rect, Region, line, transfers
from tilewright_mapper.lower import host_reason
from tilewright_mapper.lower_layers import Operand
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.reference_run import reference_run

LIMITS = LimitsConfig(address_bits=10, size_bits=6, kernel_bits=2)


def narrow(**settings: Any) -> AcceleratorConfig:
    """Numbers up to 63, positions from -32 to 31, kernels up to 3."""
    return replace(config(4, 4, 1, groups=256, **settings), limits=LIMITS)


TIGHT = narrow(activation_words=256, weight_words=64, entries=16)
PLAIN = narrow(activation_words=512, weight_words=512, bus=32, tables=0, add=False, multiply=False)
PLAIN = replace(PLAIN, array=replace(PLAIN.array, depthwise=False),
                bus=replace(PLAIN.bus, windows=False, address_bits=17))


def equals_reference(graph: Graph, net: Net, cfg: AcceleratorConfig) -> Program:
    program = compile_graph(graph, cfg)
    image = net.image()
    found, _ = run_program(program, {program.inputs[0]: image}, times=2)
    expected = reference_run(graph, image[None], bits=cfg.post.multiplier_bits)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name][0])
    for step in program.steps:
        if isinstance(step, RunStep):
            assert [text for ins in step.instructions for text in broken_rules(cfg, ins)] == []
    return program


@pytest.mark.parametrize(("cfg", "shape"), [(PLAIN, (3, 17, 30)), (PLAIN, (70, 9, 9)), (TIGHT, (20, 5, 9))],
                         ids=["pixels", "channels", "tight"])
def test_images_and_weights_that_are_longer_than_the_fields(cfg: AcceleratorConfig, shape: tuple[int, ...]) -> None:
    """510 words of an image, or 81 pixels of 18 words, and hundreds of words of weights; 63 is the largest number."""
    net = Net(shape, seed=4)
    x = net.conv("input", 14, (3, 3), padding=(1, 1, 1, 1))
    x = net.max_pool(x, (3, 3), (2, 2), padding=(1, 1, 1, 1))
    x = net.conv(x, 70, (1, 1))
    program = equals_reference(net.graph(x), net, cfg)
    moved = [ins for step in program.steps if isinstance(step, RunStep) for ins in step.instructions
             if isinstance(ins, Load | Store)]
    assert cfg is TIGHT or any(ins.words * ins.rows > 63 for ins in moved)


def test_more_groups_of_lanes_than_the_field_holds() -> None:
    net = Net((4, 2, 2), seed=2)
    program = equals_reference(net.graph(net.table(net.conv("input", 130, (1, 1)))), net,
                               narrow(activation_words=512, weight_words=512, entries=256))
    posts = [ins for step in program.steps if isinstance(step, RunStep) for ins in step.instructions
             if isinstance(ins, Post)]
    assert sum(ins.groups for ins in posts) >= 130 and max(ins.groups for ins in posts) <= 63


@pytest.mark.parametrize(("make", "reason"), [
    (lambda net: net.conv("input", 4, (5, 5), padding=(2, 2, 2, 2)),
     "its kernel must be at most 3 for the accelerator, but is 5"),
    (lambda net: net.max_pool("input", (1, 1), (4, 4)), "its stride must be at most 3 for the accelerator, but is 4"),
])
def test_numbers_that_no_instruction_holds_go_to_the_host(make: Any, reason: str) -> None:
    net = Net((4, 9, 9), seed=1)
    graph = net.graph(make(net))
    assert reason in [host_reason(graph, node, TIGHT) for node in graph]


def test_images_that_no_instruction_holds_go_to_the_host() -> None:
    net = Net((4, 2, 32))
    graph = net.graph(net.table("input"))
    assert any("height and width of 'input' must be at most 31 for the accelerator, but are 32"
               in host_reason(graph, node, TIGHT) for node in graph)
    net = Net((256, 1, 1))
    graph = net.graph(net.table("input"))
    assert any("channels of 'input' must be at most 252 for the accelerator, but are 256"
               in host_reason(graph, node, TIGHT) for node in graph)


def test_main_memory_that_no_address_reaches() -> None:
    cfg = replace(TIGHT, bus=replace(TIGHT.bus, address_bits=16))
    net = Net((60, 31, 31))
    with pytest.raises(ModelError, match="must fit 65536 bytes of main memory"):
        compile_graph(net.graph(net.conv("input", 60, (1, 1))), cfg)


def test_each_word_is_moved_once() -> None:
    """Rows of words, rows of pixels and lines: whatever is split is what was asked for."""
    operand = Operand("x", 12, 31, 31)
    for piece in (Piece(Rect(0, 0, 31, 31), 0, 3), Piece(Rect(2, 3, 20, 25), 0, 3), Piece(Rect(0, 0, 31, 31), 1, 2)):
        region, words = Region.of(7, piece), {}
        for t in transfers(TIGHT, operand, 0, region, piece):
            assert t.words <= 63 and t.rows <= 63
            words |= {t.address + r * t.stride + w: t.dram_address + r * t.dram_stride + 8 * w
                      for r in range(t.rows) for w in range(t.words)}
        rect, first, count = piece
        assert words == {
            region.word(y, x, k): ((y * 31 + x) * 3 + k) * 8
            for y in range(rect.y, rect.y + rect.height) for x in range(rect.x, rect.x + rect.width)
            for k in range(first, first + count)
        }
    moved = sorted(t.address + r * t.stride + w for t in line(TIGHT, 0, 5, 1000, 4)
                   for r in range(t.rows) for w in range(t.words))
    assert moved == list(range(5, 1005))
