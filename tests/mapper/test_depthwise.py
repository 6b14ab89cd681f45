# SPDX-License-Identifier: Apache-2.0
"""Depthwise layers, alone and among others, against the golden reference on the instruction-set simulator."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tests.mapper.test_pipeline import check
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Exec, Load, Memory, Store
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Graph, image_shape, spatial_shape

ROOMY = config(8, 8, 4)
CONFIGS = (
    ROOMY,
    # A word in several column tiles; the last of them, with 10 rows, reaches beyond it. Lanes do not fill an entry.
    config(8, 4, 2, entries=32),
    config(10, 4, 2, entries=32),
    # Columns beyond a word, by a part of one and by whole ones.
    config(6, 8, 2, entries=32),
    config(4, 12, 4),
    # Next to nothing fits on chip: all streams, and larger kernels come row by row.
    config(8, 4, 4, activation_words=256, weight_words=64, entries=16, groups=8, bus=32),
    config(12, 8, 4, activation_words=256, weight_words=32, entries=16, groups=16, bus=128, banks=2),
)
TINY = CONFIGS[5]
CHANNELS, HEIGHT, WIDTH = 13, 9, 8


def execs(program: Program) -> list[Exec]:
    return [i for step in program.steps if isinstance(step, RunStep) for i in step.instructions if isinstance(i, Exec)]


def depthwise(net: Net, x: str, kernel: tuple[int, int], **options: Any) -> str:
    channels = image_shape(net.shape(x))[0]
    return net.conv(x, channels, kernel, groups=channels, **options)


KERNELS = [*((k, k) for k in range(1, 8)), (1, 7), (7, 1), (2, 5), (1, 3)]


@pytest.mark.parametrize("number", range(len(KERNELS)), ids=lambda n: "x".join(map(str, KERNELS[n])))
def test_every_kernel(number: int) -> None:
    kernel = KERNELS[number]
    for stride in (1, 2, 3):
        cfg = CONFIGS[(number + stride) % len(CONFIGS)]
        net = Net((CHANNELS, HEIGHT, WIDTH), seed=number)
        padding = tuple(int(net.rng.integers(0, kernel[i % 2])) for i in range(4))
        y = depthwise(net, "input", kernel, stride=(stride, stride), padding=padding)
        found = execs(check(net, net.graph(y), cfg))
        if stride == 1 and 1 < kernel[1] <= cfg.array.rows >= cfg.array.columns:
            assert all(e.depthwise for e in found), cfg.name
            assert {e.kernel_width for e in found} == {kernel[1]}


def test_holes_are_taps_of_zero() -> None:
    net = Net((CHANNELS, HEIGHT, WIDTH))
    y = depthwise(net, "input", (2, 3), dilation=(3, 2), padding=(3, 4, 0, 1))
    found = execs(check(net, net.graph(y), ROOMY))
    assert {(e.depthwise, e.kernel_width, e.dilation_y) for e in found} == {(1, 5, 3)}


def test_wide_weights() -> None:
    net = Net((CHANNELS, HEIGHT, WIDTH))
    y = depthwise(net, "input", (3, 3), padding=(1, 1, 1, 1), wide=True)
    found = execs(check(net, net.graph(y), ROOMY))
    assert {(e.depthwise, e.accumulate) for e in found} == {(1, 0), (1, 1)}


def test_kernels_too_large_for_the_weights_come_row_by_row() -> None:
    net = Net((CHANNELS, HEIGHT, WIDTH))
    found = execs(check(net, net.graph(depthwise(net, "input", (5, 7), padding=(2, 3, 2, 3))), TINY))
    assert {(e.depthwise, e.accumulate) for e in found} == {(1, 0), (1, 1)}


def test_a_row_cut_in_parts_shares_no_padding() -> None:
    """Of three tiles of a row only those at its ends reach beyond it, each on one side."""
    net = Net((8, 3, 40))
    cfg = config(8, 8, 4, entries=16)
    found = execs(check(net, net.graph(depthwise(net, "input", (3, 3), padding=(1, 1, 1, 1))), cfg))
    assert len(found) > 3
    assert {(e.depthwise, e.overlap) for e in found} == {(1, 0)}
    cfg = config(8, 8, 4, entries=64)
    found = execs(check(net, net.graph(depthwise(net, "input", (3, 3), padding=(1, 1, 1, 1))), cfg))
    assert {(e.depthwise, e.overlap) for e in found} == {(1, 1)}


@pytest.mark.parametrize("cfg", [ROOMY, CONFIGS[1], CONFIGS[3]], ids=lambda c: c.name)
def test_nothing_leaves_the_chip_before_the_pointwise_layer(cfg: AcceleratorConfig) -> None:
    net = Net((CHANNELS, 6, 7))
    x = "input"
    for _ in range(2):
        x = net.conv(depthwise(net, x, (3, 3), padding=(1, 1, 1, 1), low=0), CHANNELS, low=0)
    program = check(net, net.graph(x), cfg)
    (step,) = program.steps
    assert isinstance(step, RunStep)
    last = len(program.layers) - 1
    assert last == 3
    for ins, layer in zip(step.instructions, step.layer_of, strict=True):
        if isinstance(ins, Store):
            assert layer == last
        if isinstance(ins, Load) and ins.memory == Memory.ACTIVATION:
            assert layer == 0


def test_a_tile_that_streams_brings_its_own_words() -> None:
    """Each word comes once for each tile that reads it: with the halo, but no other channels."""
    net = Net((48, 24, 6))
    cfg = config(8, 8, 8, activation_words=512, entries=32)
    program = check(net, net.graph(depthwise(net, "input", (3, 3), padding=(1, 1, 1, 1))), cfg)
    (step,) = program.steps
    assert isinstance(step, RunStep)
    loads = [i for i in step.instructions if isinstance(i, Load) and i.memory == Memory.ACTIVATION]
    needed = sum((min(24, e.first_y + e.output_height + 2) - max(0, e.first_y)) * 6 * e.column_tiles
                 for e in execs(program))
    assert 48 // 8 * 24 * 6 < sum(i.rows * i.words for i in loads) <= needed


@st.composite
def networks(draw: st.DrawFn) -> tuple[Net, Graph]:
    """A depthwise layer, and perhaps one behind it."""
    rank = draw(st.sampled_from((2, 3, 3, 3)))
    size = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    channels = draw(st.integers(1, 26))
    net = Net((channels, *size) if rank == 3 else (size[1], channels), draw(st.integers(0, 1000)))
    axes = (1, 7) if rank == 2 else (7, 7)
    kernel = tuple(draw(st.integers(1, n)) for n in axes)
    stride = tuple(draw(st.integers(1, min(3, n))) for n in axes)
    dilation = tuple(draw(st.integers(1, 3)) if k > 1 else 1 for k in kernel)
    padding = tuple(draw(st.integers(0, (kernel[i % 2] - 1) * dilation[i % 2])) for i in range(4))
    assume(min(spatial_shape(image_shape(net.shape("input"))[1:], kernel, stride, padding, dilation)) >= 1)
    x = depthwise(net, "input", kernel, stride=stride, padding=padding, dilation=dilation, wide=draw(st.booleans()),
                  low=draw(st.sampled_from((-128, -20))))
    _, height, width = image_shape(net.shape(x))
    match draw(st.sampled_from(("alone", "pointwise", "depthwise", "pool", "table", "add", "join"))):
        case "pointwise":
            x = net.conv(x, draw(st.integers(1, 20)))
        case "depthwise":
            x = depthwise(net, x, (1, 3) if rank == 2 else (3, 3), padding=(0, 1, 0, 1) if rank == 2 else (1, 1, 1, 1))
        case "pool":
            pool = draw(st.sampled_from((net.max_pool, net.avg_pool)))
            window = min(2, height), min(draw(st.integers(2, 3)), width)
            x = pool(x, window, (window[0], min(2, window[1])))
        case "table":
            x = net.table(x)
        case "add":
            x = net.add(x, net.table(x)) if net.shape(x) != net.shape("input") else net.add("input", x)
        case "join":
            x = net.concat(2, x, net.like(net.conv("input", channels, kernel, stride=stride, padding=padding,
                                                   dilation=dilation, groups=channels), x)) if rank == 3 else x
    return net, net.graph(x)


@settings(max_examples=30)
@given(networks(), st.sampled_from(CONFIGS))
def test_random_layers(case: tuple[Net, Graph], cfg: AcceleratorConfig) -> None:
    try:
        check(*case, cfg)
    except ModelError as error:
        # The smallest memories cannot hold what one pixel of a large kernel reads.
        assert "does not fit" in str(error)
        assert cfg.activation_words < ROOMY.activation_words
