# SPDX-License-Identifier: Apache-2.0
"""Single layers and short chains of every shape: PyTorch's integers, the simulator and the hardware agree.

They agree in every bit of every output that is kept, and in every cycle of every instruction.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net
from tests.mapper.test_pipeline import averages, broadcast, concat, paddings, rounded, roundings
from tests.tilewright.agreement import CONFIGS, NANO4, PAIRED, TINY, Devices, agree
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Load, Memory
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Conv2d, Graph, Linear, image_shape, spatial_shape
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pipeline import compile_graph

Case = Callable[[Net], list[str]]
"""Builds layers on the input of a network, and names the outputs."""

every_config = pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)


def check(devices: Devices, net: Net, graph: Graph, cfg: AcceleratorConfig, rounding: Rounding | int) -> Program:
    """Compile and compare, on two random images and one of nothing but extremes."""
    graph = rounded(canonicalize(graph), rounding)
    program = compile_graph(graph, cfg)
    extremes = np.where(net.image() < 0, -128, 127).astype(np.int8)
    agree(devices, graph, program, np.stack([net.image(), extremes, net.image()]))
    return program


# --- Random layers.


LAYERS = (
    *("conv", "conv", "wide", "grouped", "depthwise", "linear", "max", "average", "raw", "global"),
    *("table", "requantize", "pad", "add", "subtract", "multiply", "broadcast", "concat"),
)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Of an image: a pixel, a small one, one with many pixels, a line; or a vector, or tokens."""
    return draw(st.one_of(
        st.tuples(st.integers(1, 24), st.just(1), st.just(1)),
        st.tuples(st.integers(1, 24), st.integers(1, 7), st.integers(1, 7)),
        st.tuples(st.integers(1, 6), st.integers(8, 16), st.integers(8, 20)),
        st.tuples(st.integers(1, 5), st.integers(1, 2), st.integers(20, 45)),
        st.tuples(st.integers(1, 40)),
        st.tuples(st.integers(1, 12), st.integers(1, 20)),
    ))


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Kernel, stride, padding and dilation, with no regard to the image but that one window fits into its padding."""
    _, height, width = image_shape(shape)
    axes = {1: (1, 1), 2: (1, 5), 3: (5, 5)}[len(shape)]
    kernel = tuple(draw(st.integers(1, n)) for n in axes)
    stride = tuple(draw(st.integers(1, n)) for n in axes)
    dilation = tuple(draw(st.integers(1, 3)) if k > 1 else 1 for k in kernel)
    padding = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    assume(min(spatial_shape((height, width), *window.values())) >= 1)
    return window


@st.composite
def layers(draw: st.DrawFn, longest: int) -> tuple[Net, Graph]:
    """Up to ``longest`` layers, each fed by one of the two before it; the last is kept, and perhaps another."""
    net = Net(draw(shapes()), draw(st.integers(0, 1000)))
    live = ["input"]
    for _ in range(draw(st.integers(1, longest))):
        x = draw(st.sampled_from(live[-2:]))
        live.append(_layer(draw, net, x, live))
    kept = dict.fromkeys([live[-1], *draw(st.lists(st.sampled_from(live[1:]), max_size=1))])
    return net, net.graph(*kept)


def _layer(draw: st.DrawFn, net: Net, x: str, live: list[str]) -> str:
    shape = net.shape(x)
    channels, height, width = image_shape(shape)
    match kind := draw(st.sampled_from(LAYERS)):
        case "add" | "subtract" | "multiply":
            operands = draw(st.sampled_from([t for t in live if net.shape(t) == shape])), x
            low = draw(st.sampled_from((-128, -20)))
            return getattr(net, kind)(*draw(st.permutations(operands)), low=low)
        case "broadcast":
            return broadcast(draw, net, x)
        case "concat":
            return concat(draw, net, x)
        case "pad":
            assume(len(shape) == 3)
            return net.pad(x, draw(paddings()), draw(st.sampled_from((None, -128, 3))))
        case "table":
            return net.table(x)
        case "requantize":
            return net.requantize(x)
        case "linear":
            assume(len(shape) < 3)
            return _linear(net, x, draw(st.integers(1, 24)))
        case "global":
            assume(len(shape) == 3)
            pool = net.avg_pool(x, (height, width), (1, 1))
            return net.reshape(pool, (channels,)) if draw(st.booleans()) else pool
    window = draw(windows(shape))
    kernel = window.pop("kernel")
    if kind == "max":
        return net.max_pool(x, kernel, **window)
    if kind == "average":
        assume(window.pop("dilation") == (1, 1))
        return net.avg_pool(x, kernel, **window)
    if kind == "raw":
        assume(window.pop("dilation") == (1, 1))
        return net.raw_pool(x, kernel, **window, **draw(averages()))
    groups = {
        "conv": 1,
        "wide": 1,
        "depthwise": channels,
        "grouped": draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0])),
    }[kind]
    outputs = draw(st.integers(1, 24)) if groups == 1 else groups * draw(st.integers(1, 2))
    low = draw(st.sampled_from((-128, -20)))
    return net.conv(x, outputs, kernel, groups=groups, low=low, wide=kind == "wide", **window)


def _linear(net: Net, x: str, outputs: int) -> str:
    """A linear layer as the importer makes it, from the numbers of the convolution that it becomes."""
    y = net.conv(x, outputs)
    conv = net.nodes.pop()
    net.nodes.append(Linear(
        name=conv.name, inputs=conv.inputs, outputs=conv.outputs, weight=conv.weight[:, :, 0, 0],
        bias=conv.bias, weight_scale=conv.weight_scale,
    ))
    return y


def _check_or_refuse(
    devices: Devices, case: tuple[Net, Graph], cfg: AcceleratorConfig, rounding: Rounding | int
) -> None:
    assume(rounding in cfg.post.roundings or cfg.post.roundings == HARDWARE_ROUNDINGS)
    try:
        check(devices, *case, cfg, rounding)
    except ModelError as error:
        # One pixel of a wide kernel reads more than the smallest memories hold.
        assert "does not fit" in str(error)
        assert cfg is not NANO4


@every_config
@settings(max_examples=60)
@given(layers(1), roundings())
def test_random_layers(
    cfg: AcceleratorConfig, devices: Devices, case: tuple[Net, Graph], rounding: Rounding | int
) -> None:
    _check_or_refuse(devices, case, cfg, rounding)


@every_config
@settings(max_examples=30)
@given(layers(4), roundings())
def test_random_chains(
    cfg: AcceleratorConfig, devices: Devices, case: tuple[Net, Graph], rounding: Rounding | int
) -> None:
    _check_or_refuse(devices, case, cfg, rounding)


@settings(max_examples=20)
@given(layers(2), roundings())
def test_columns_in_pairs(devices: Devices, case: tuple[Net, Graph], rounding: Rounding | int) -> None:
    """Nor can these columns filter channels of their own."""
    _check_or_refuse(devices, case, PAIRED, rounding)


# --- One case for each oddity.


def _kernel_beyond_the_image(net: Net) -> list[str]:
    return [net.conv("input", 3, (5, 5), padding=(2, 2, 2, 2)), net.max_pool("input", (4, 5), (1, 2), (2, 3, 1, 2))]


def _nothing_but_padding_around_one_pixel(net: Net) -> list[str]:
    return [net.conv("input", 7, (3, 3), padding=(1, 1, 1, 1)), net.avg_pool("input", (3, 3), (1, 1), (1, 1, 1, 1))]


def _stride_past_the_edge(net: Net) -> list[str]:
    return [net.conv("input", 5, (1, 2), stride=(9, 9)), net.max_pool("input", (2, 2), (4, 8), (0, 1, 0, 0))]


def _stride_that_skips_pixels(net: Net) -> list[str]:
    return [net.conv("input", 5, stride=(3, 2)), net.avg_pool("input", (1, 1), (2, 3))]


def _dilation(net: Net) -> list[str]:
    return [net.conv("input", 9, (3, 2), dilation=(2, 5), padding=(2, 0, 2, 5))]


def _depthwise(net: Net) -> list[str]:
    return [net.conv("input", 11, (3, 3), padding=(1, 1, 1, 1), stride=(2, 2), groups=11)]


def _depthwise_with_a_multiplier(net: Net) -> list[str]:
    return [net.conv("input", 15, (3, 2), groups=5)]


def _groups(net: Net) -> list[str]:
    return [net.conv("input", 9, (2, 2), groups=3)]


def _more_channels_than_the_array(net: Net) -> list[str]:
    return [net.conv("input", 19, (2, 2))]


def _residual_in_the_convolution(net: Net) -> list[str]:
    x = net.conv("input", 9, (3, 3), padding=(1, 1, 1, 1), low=0)
    return [net.add(net.conv(x, 9, (3, 3), padding=(1, 1, 1, 1)), x, low=-10)]


def _residual_of_itself(net: Net) -> list[str]:
    return [net.add("input", "input")]


def _pool_in_the_convolution(net: Net) -> list[str]:
    x = net.conv("input", 9, (3, 3), padding=(1, 1, 1, 1))
    return [net.max_pool(x, (3, 3), (2, 2), (1, 1, 1, 1)), x]


def _pools_of_convolutions_in_tiles(net: Net) -> list[str]:
    """Tiles that share rows and columns, which each of them computes; the last ones end in padding, or before it."""
    x = net.table(net.conv("input", 9, (3, 3), padding=(1, 1, 1, 1)))
    return [net.max_pool(x, (3, 3), (2, 2), (1, 1, 1, 1)),
            net.avg_pool(net.conv("input", 5), (3, 4), (1, 2), (1, 0, 2, 3)),
            net.max_pool(net.conv("input", 5), (2, 2), (1, 1), (0, 1, 0, 1), (2, 3))]


def _table_then_pool(net: Net) -> list[str]:
    return [net.avg_pool(net.table(net.conv("input", 6)), (2, 2), (2, 2))]


def _whole_image_pools(net: Net) -> list[str]:
    _, height, width = net.shape("input")
    return [net.avg_pool("input", (height, width), (1, 1)), net.max_pool("input", (height, width), (1, 1))]


def _difference_behind_a_convolution(net: Net) -> list[str]:
    """Only what is subtracted from may be the convolution's result; the other is subtracted in a layer of its own."""
    x = net.conv("input", 5, (3, 3), padding=(1, 1, 1, 1))
    return [net.subtract(net.conv(x, 5), x), net.subtract(x, net.conv(x, 5))]


def _product_behind_a_convolution(net: Net) -> list[str]:
    x = net.conv("input", 5, (3, 3), padding=(1, 1, 1, 1))
    return [net.multiply(x, net.table(net.conv(x, 5))), net.multiply("input", "input")]


def _squeeze_and_excitation(net: Net) -> list[str]:
    _, height, width = net.shape("input")
    x = net.conv("input", 9, (3, 3), padding=(1, 1, 1, 1))
    gate = net.table(net.conv(net.conv(net.avg_pool(x, (height, width), (1, 1)), 4), 9))
    return [net.multiply(gate, net.conv(x, 9)), net.multiply(x, gate)]


def _both_operands_repeated(net: Net) -> list[str]:
    _, height, width = net.shape("input")
    rows, columns = net.max_pool("input", (1, width), (1, 1)), net.max_pool("input", (height, 1), (1, 1))
    return [net.subtract(rows, columns), net.add(columns, rows), net.subtract(columns, "input")]


def _constants(net: Net) -> list[str]:
    x = net.conv("input", 6)
    return [net.subtract(net.add(x, net.constant((6, 1, 1))), net.constant(net.shape(x)))]


def _one_channel_for_all(net: Net) -> list[str]:
    x = net.conv("input", 9)
    return [net.multiply(x, net.conv("input", 1)), net.subtract(net.conv("input", 1), x)]


def _borders(net: Net) -> list[str]:
    x = net.table(net.conv("input", 6))
    y = net.add(net.pad(x, (0, 1, 0, 0)), net.constant((6, 1, 1)))
    return [net.pad(x, (1, 2, 0, 3), -7), net.pad("input", (9, 0, 1, 9)), y]


def _border_around_a_convolution(net: Net) -> list[str]:
    return [net.conv(net.pad("input", (0, 1, 2, 3)), 7, (3, 3), padding=(1, 0, 0, 1), stride=(2, 2))]


def _wide_weights(net: Net) -> list[str]:
    x = net.conv("input", 19, (3, 3), padding=(1, 1, 1, 1), wide=True)
    return [net.conv(x, 19, groups=19, wide=True), net.max_pool(net.conv(x, 5, wide=True), (2, 2), (2, 2))]


def _average_of_stored_integers(net: Net) -> list[str]:
    """As AVERAGE_POOL_2D of TFLite, its rounding apart from that of the convolution."""
    x = net.conv("input", 6)
    return [net.raw_pool(x, (2, 3), (2, 3)), net.raw_pool("input", (3, 3), (1, 1), (1, 1, 1, 1), divisor=0)]


def _joined(net: Net) -> list[str]:
    """Parts written where they belong by a convolution and a pool; a part that is read twice is copied."""
    a = net.conv("input", 24, (3, 3), padding=(1, 1, 1, 1))
    y = net.concat(1, net.like(net.conv("input", 24), a), net.max_pool(a, (3, 3), (1, 1), (1, 1, 1, 1)), a)
    return [net.conv(y, 5), net.concat(3, net.concat(2, y, y), net.concat(2, y, y))]


def _a_row_longer_than_the_accumulators(net: Net) -> list[str]:
    return [net.conv("input", 4, (1, 3), padding=(0, 1, 0, 1))]


def _tokens(net: Net) -> list[str]:
    return [net.table(_linear(net, "input", 21))]


def _vector(net: Net) -> list[str]:
    return [_linear(net, _linear(net, "input", 9), 13)]


CASES = (
    (_kernel_beyond_the_image, (2, 3, 2)),
    (_nothing_but_padding_around_one_pixel, (5, 1, 1)),
    (_stride_past_the_edge, (3, 7, 6)),
    (_stride_that_skips_pixels, (3, 8, 9)),
    (_dilation, (5, 6, 7)),
    (_depthwise, (11, 7, 8)),
    (_depthwise_with_a_multiplier, (5, 5, 4)),
    (_groups, (6, 4, 4)),
    (_more_channels_than_the_array, (23, 3, 3)),
    (_residual_in_the_convolution, (3, 9, 8)),
    (_residual_of_itself, (7, 3, 3)),
    (_pool_in_the_convolution, (3, 9, 8)),
    (_pools_of_convolutions_in_tiles, (3, 11, 17)),
    (_table_then_pool, (3, 8, 8)),
    (_whole_image_pools, (5, 7, 9)),
    (_difference_behind_a_convolution, (3, 6, 7)),
    (_product_behind_a_convolution, (3, 6, 7)),
    (_squeeze_and_excitation, (3, 6, 7)),
    (_both_operands_repeated, (7, 6, 5)),
    (_constants, (3, 5, 4)),
    (_one_channel_for_all, (3, 5, 6)),
    (_borders, (3, 5, 6)),
    (_border_around_a_convolution, (5, 5, 6)),
    (_wide_weights, (7, 6, 5)),
    (_average_of_stored_integers, (3, 8, 9)),
    (_joined, (3, 5, 6)),
    (_a_row_longer_than_the_accumulators, (3, 2, 300)),
    (_tokens, (9, 5)),
    (_vector, (30,)),
)


@every_config
@pytest.mark.parametrize(("build", "shape"), CASES, ids=[build.__name__.strip("_") for build, _ in CASES])
def test_odd_layers(cfg: AcceleratorConfig, devices: Devices, build: Case, shape: tuple[int, ...]) -> None:
    net = Net(shape)
    graph = net.graph(*build(net))
    for rounding in cfg.post.roundings:
        check(devices, net, graph, cfg, rounding)


def test_tensors_larger_than_the_chip_stream(devices: Devices) -> None:
    """Neither the input nor the weights fit as a whole: bands and tiles come, go, and come again."""
    net = Net((12, 12, 12))
    graph = canonicalize(net.graph(net.conv("input", 10, (3, 3))))
    program = compile_graph(graph, TINY)
    (step,) = program.steps
    assert isinstance(step, RunStep)
    loaded = {Memory.ACTIVATION: 0, Memory.WEIGHT: 0}
    for instruction in step.instructions:
        if isinstance(instruction, Load) and instruction.memory in loaded:
            loaded[Memory(instruction.memory)] += instruction.words * instruction.rows
    image, weights = 2 * 12 * 12, 3 * 2 * 9 * 6
    assert loaded[Memory.ACTIVATION] > image > TINY.activation_words
    assert loaded[Memory.WEIGHT] > weights > TINY.weight_words
    agree(devices, graph, program, np.stack([net.image(), net.image()]))


def test_one_wrong_number_is_noticed(devices: Devices) -> None:
    """The comparison above is one: a program with another bias of one channel does not agree."""
    net = Net((3, 4, 4))
    graph = canonicalize(net.graph(net.conv("input", 5)))
    *before, conv = graph.nodes
    assert isinstance(conv, Conv2d)
    other = replace(graph, nodes=(*before, replace(conv, bias=conv.bias + np.array([0, 0, 0, 0, 900], np.int32))))
    with pytest.raises(AssertionError, match="iss: output"):
        agree(devices, graph, compile_graph(other, NANO4), net.image()[None])
