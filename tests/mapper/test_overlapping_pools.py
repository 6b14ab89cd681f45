# SPDX-License-Identifier: Apache-2.0
"""Pools on the way out of the accumulators, of which the windows overlap: tiles of every shape give the same bits."""

from unittest.mock import patch

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tests.mapper.test_pipeline import check
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Exec, Post, Source
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import spatial_shape
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.tiling import BUFFERS, Geometry, Tiling
from tilewright_mapper.tiling_search import Choice, search

CONFIGS = (
    config(4, 4, 2),
    # All operands stream.
    config(8, 4, 4, activation_words=128, weight_words=64, entries=32, groups=8),
)


def instructions(program: Program) -> list[Exec | Post]:
    return [ins for step in program.steps if isinstance(step, RunStep) for ins in step.instructions
            if isinstance(ins, Exec | Post)]


@st.composite
def pools(draw: st.DrawFn) -> Net:
    """A convolution, perhaps a table, and a pool of any kind."""
    net = Net((draw(st.integers(1, 9)), draw(st.integers(3, 14)), draw(st.integers(3, 14))), draw(st.integers(0, 99)))
    side = draw(st.sampled_from((1, 3)))
    x = net.conv("input", draw(st.integers(1, 9)), (side, side), padding=4 * (side // 2,), low=-90)
    if draw(st.booleans()):
        x = net.table(x)
    kernel, stride = ((draw(st.integers(1, high)), draw(st.integers(1, high))) for high in (4, 3))
    dilation = draw(st.sampled_from(((1, 1), (1, 1), (2, 1), (1, 3))))
    padding = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    assume(min(spatial_shape(net.shape(x)[1:], kernel, stride, padding, dilation)) >= 1)
    if dilation == (1, 1) and draw(st.booleans()):
        net.avg_pool(x, kernel, stride, padding)
    else:
        net.max_pool(x, kernel, stride, padding, dilation)
    return net


@settings(max_examples=100)
@given(pools(), st.sampled_from(CONFIGS), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_tiles_of_any_shape(net: Net, cfg: AcceleratorConfig, height: int, width: int, outer: bool) -> None:
    def chosen(
        _: AcceleratorConfig, layer: DeviceLayer, streamed: frozenset[str], words: int, *, weights_stay: bool
    ) -> Choice | None:
        if layer.conv is None:
            return search(cfg, layer, streamed, words, weights_stay=weights_stay)
        tiling = Tiling(height, width, Geometry(cfg, layer).step, cfg.array.rows, outer, BUFFERS)
        return Choice(tiling, 0, tiling, 0) if Geometry(cfg, layer).fits(tiling, streamed, words) else None

    (y,) = net.nodes[-1].outputs
    try:
        with patch("tilewright_mapper.allocate_run.search", chosen):
            program = check(net, net.graph(y), cfg)
    except ModelError as error:
        assert "does not fit" in str(error)
        assume(False)
    # Else the pool costs less alone.
    assume(len(program.layers) == 1)


def test_tiles_compute_their_borders_twice() -> None:
    """And read no pixel of another tile: what is in the accumulators of a tile is all that its windows need."""
    net = Net((4, 24, 24))
    y = net.max_pool(net.conv("input", 4), (3, 3), (2, 2), (1, 1, 1, 1))
    program = check(net, net.graph(y), CONFIGS[0])
    (layer,) = program.layers
    assert layer.op == "Conv2d+MaxPool2d"
    found = instructions(program)
    executed = sum(i.vectors for i in found if isinstance(i, Exec))
    assert 24 * 24 < executed < 1.6 * 24 * 24
    assert {i.source for i in found if isinstance(i, Post)} == {Source.ACCUMULATOR}


def test_riding_is_faster_than_a_pool_by_itself() -> None:
    net = Net((16, 32, 32))
    y = net.max_pool(net.conv("input", 16, (3, 3), padding=(1, 1, 1, 1)), (3, 3), (2, 2), (1, 1, 1, 1))
    cfg = config(16, 16, 16, entries=256)
    fused = compile_graph(net.graph(y), cfg)
    with patch("tilewright_mapper.lower_fuse.least_cycles", side_effect=[1, 0, 0]):
        apart = compile_graph(net.graph(y), cfg)
    assert (len(fused.layers), len(apart.layers)) == (1, 2)
    assert fused.predicted_cycles < 0.92 * apart.predicted_cycles


def test_what_a_pool_writes_streams_where_it_would_leave_tiles_too_little_room() -> None:
    """With 324 of 512 words taken by the result, tiles of the image would be small, and much of them borders."""
    net = Net((4, 36, 36))
    x = net.max_pool(net.conv("input", 4, (3, 3), padding=(1, 1, 1, 1)), (3, 3), (2, 2), (1, 1, 1, 1))
    graph = net.graph(net.conv(x, 4))
    cfg = config(4, 4, 4, activation_words=512, entries=256)
    with patch("tilewright_mapper.allocate_run.MOST_TWICE", 9.0):
        whole = compile_graph(graph, cfg)
    program = check(net, graph, cfg)
    names = [{block["name"] for block in p.report["steps"][0]["memory_map"]} for p in (whole, program)]
    assert [x in found for found in names] == [True, False]
    assert [layer.op for layer in program.layers] == ["Conv2d+MaxPool2d", "Conv2d"]
    assert program.predicted_cycles < 0.95 * whole.predicted_cycles
    assert program.arena_bytes > whole.arena_bytes, "only what streams has a place in main memory"


def test_a_plan_that_is_no_better_leaves_no_trace() -> None:
    net = Net((4, 24, 24))
    graph = net.graph(net.max_pool(net.conv("input", 4), (3, 3), (2, 2), (1, 1, 1, 1)))
    digests = []
    for most in (9.0, -1.0):
        with patch("tilewright_mapper.allocate_run.MOST_TWICE", most):
            digests.append(compile_graph(graph, CONFIGS[0]).digest)
    assert digests[0] == digests[1]
