# SPDX-License-Identifier: Apache-2.0
"""Tiles cover a layer, fit the memories, and the search finds good ones."""

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_mapper.lower import trim_ends
from tilewright_mapper.lower_fuse import alias_roots, lower_phase
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.tiling import BUFFERS, Geometry, Tiling, candidates, smallest_tiling
from tilewright_mapper.tiling_search import rough_cycles, search

CONFIG = config(8, 4, 4, entries=32, groups=8)


def layer(net: Net, output: str, cfg: AcceleratorConfig = CONFIG) -> DeviceLayer:
    graph = trim_ends(net.graph(output))
    (found,) = lower_phase(graph, graph.nodes, cfg, kept=(output,), roots=alias_roots(graph, graph.nodes))
    return found


def conv_layer(channels: int = 20, size: tuple[int, int] = (9, 7), kernel: int = 3, pool: int = 1) -> DeviceLayer:
    net = Net((12, *size))
    pad = kernel // 2
    y = net.conv("input", channels, (kernel, kernel), padding=(pad, pad, pad, pad))
    return layer(net, net.max_pool(y, (pool, pool), (pool, pool)) if pool > 1 else y)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_tiles_cover_each_output_once(channels: int, h: int, w: int, height: int, width: int, outer: bool) -> None:
    geometry = Geometry(CONFIG, conv_layer(channels, (h, w)))
    tiling = Tiling(height, width, 8, 8, channels_outer=outer)
    covered: Counter[tuple[int, int, int]] = Counter()
    groups = columns = 0
    for tile in geometry.tiles(tiling):
        first, count = tile.chunk.words
        rect = tile.rect
        covered.update(product(range(rect.y, rect.y + rect.height), range(rect.x, rect.x + rect.width),
                               range(first, first + count)))
        if rect.y == rect.x == 0:
            groups += tile.chunk.groups[1]
            columns += tile.chunk.columns[1]
    assert covered == Counter(product(range(h), range(w), range(-(-channels // 8))))
    assert (groups, columns) == (-(-channels // 4), -(-channels // 4))


def test_tiles_begin_at_whole_words_and_whole_column_tiles() -> None:
    for rows, columns, step in ((8, 4, 8), (4, 8, 8), (12, 8, 24)):
        cfg = config(rows, columns, 4)
        net = Net((4,))
        assert Geometry(cfg, layer(net, net.conv("input", 4), cfg)).step == step


def test_pieces_of_the_source_have_their_halo() -> None:
    geometry = Geometry(CONFIG, conv_layer(8, (9, 7)))
    sources = [geometry.source_piece(tile).rect for tile in geometry.tiles(Tiling(4, 7, 8, 8))]
    assert [(r.y, r.height, r.width) for r in sources] == [(0, 5, 7), (3, 6, 7), (7, 2, 7)]


def test_a_pool_widens_the_middle() -> None:
    geometry = Geometry(CONFIG, conv_layer(8, (8, 4), pool=2))
    tiles = list(geometry.tiles(Tiling(2, 2, 8, 8)))
    assert [geometry.middle(tile.rect) for tile in tiles] == [(0, 0, 4, 4), (4, 0, 4, 4)]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.integers(0, 200))
def test_candidates_fit(channels: int, h: int, w: int, kernel: int, words: int) -> None:
    found = conv_layer(channels, (h, w), kernel)
    geometry = Geometry(CONFIG, found)
    for streamed in (frozenset(), frozenset({"input"}), frozenset({"input", found.output.root})):
        tilings = candidates(geometry, streamed, words)
        if not streamed:
            assert tilings
        for tiling in tilings:
            for tile in geometry.tiles(tiling):
                assert tile.chunk.columns[1] * geometry.middle(tile.rect).pixels <= CONFIG.memory.accumulator_entries
                assert tile.chunk.groups[1] <= CONFIG.memory.parameter_groups
            buffers = geometry.buffer_words(tiling, streamed)
            assert tiling.buffers * sum(buffers.values()) <= words
            for tile in geometry.tiles(tiling):
                if "source" in buffers:
                    assert geometry.source_piece(tile).words <= buffers["source"]
                if "output" in buffers:
                    assert geometry.output_piece(tile, tiling.channels_outer).words <= buffers["output"]


def test_the_largest_tiles_come_first() -> None:
    tilings = candidates(Geometry(CONFIG, conv_layer()), frozenset(), 0)
    sizes = [t.height * t.width for t in tilings]
    assert sizes == sorted(sizes, reverse=True)


def test_an_image_row_longer_than_the_accumulators_is_cut() -> None:
    geometry = Geometry(CONFIG, conv_layer(8, (3, 50), 1))
    assert all(t.width < 50 for t in candidates(geometry, frozenset(), 0))


def overlapping(size: tuple[int, int], cfg: AcceleratorConfig) -> DeviceLayer:
    """A convolution with the pool behind the first convolution of ResNet."""
    net = Net((12, *size))
    y = net.conv("input", 64, (3, 3), padding=(1, 1, 1, 1))
    return layer(net, net.max_pool(y, (3, 3), (2, 2), (1, 1, 1, 1)), cfg)


def test_tiles_of_windows_that_overlap_are_nearly_square() -> None:
    """Whole rows of 112 pixels compute 11 % twice, thirds and quarters of them half of that."""
    geometry = Geometry(PRESETS["edge16"], overlapping((112, 112), PRESETS["edge16"]))
    tilings = candidates(geometry, frozenset(), 0)

    def computed(tiling: Tiling) -> float:
        return sum(geometry.middle(rect).pixels for rect in geometry.rects(tiling)) / 112**2

    assert 1.11 < min(computed(t) for t in tilings if t.width == 56) < 1.12
    assert {t.width for t in tilings} == {56, 28, 19, 14, 7, 4}
    best = min(tilings, key=lambda t: rough_cycles(geometry, t, frozenset()))
    assert computed(best) < 1.06


def test_without_overlap_tiles_are_whole_rows() -> None:
    assert {t.width for t in candidates(Geometry(CONFIG, conv_layer(8, (8, 8), pool=2)), frozenset(), 0)} == {4}


def test_no_candidate_where_not_even_the_smallest_tile_fits() -> None:
    found = conv_layer()
    geometry = Geometry(CONFIG, found)
    streamed = frozenset({"input"})
    words = geometry.buffer_words(smallest_tiling(geometry), streamed)["source"]
    assert {t.buffers for t in candidates(geometry, streamed, BUFFERS * words)} == {BUFFERS}
    assert {t.buffers for t in candidates(geometry, streamed, words)} == {1}
    assert candidates(geometry, streamed, words - 1) == []
    assert search(CONFIG, found, streamed, words - 1) is None


def test_weight_words_of_convolutions_with_groups() -> None:
    net = Net((16, 5, 5))
    geometry = Geometry(CONFIG, layer(net, net.conv("input", 16, (3, 3), groups=8)))
    # Each of four column tiles reads the one word of channels that it belongs to.
    assert geometry.total_weight_words == 4 * 9 * 8
    net = Net((16, 5, 5))
    geometry = Geometry(CONFIG, layer(net, net.conv("input", 16, (3, 3), groups=16)))
    # Columns filter channels: each has nine taps.
    assert geometry.total_weight_words == 4 * 9


@pytest.mark.parametrize(("rows", "columns", "most"), [(8, 4, 48), (8, 8, 48), (10, 4, 10), (4, 8, 4)])
def test_a_depthwise_tile_is_one_word_where_its_column_tiles_reach_beyond_it(rows: int, columns: int, most: int
                                                                             ) -> None:
    cfg = config(rows, columns, 2, entries=1024)
    net = Net((41, 8, 8))
    geometry = Geometry(cfg, layer(net, net.conv("input", 41, (3, 3), padding=(1, 1, 1, 1), groups=41), cfg))
    assert geometry.own_words
    found = candidates(geometry, frozenset({"input"}), 1000)
    assert max(tiling.channels for tiling in found) == most
    for tiling in found:
        room = geometry.buffer_words(tiling, frozenset({"input"}))["source"]
        assert room == max(geometry.source_piece(tile).words for tile in geometry.tiles(tiling))


@pytest.mark.parametrize("streamed", [frozenset(), frozenset({"input"})])
def test_the_search_is_no_worse_than_the_first_fit(streamed: frozenset[str]) -> None:
    choice = search(CONFIG, conv_layer(20, (16, 16)), streamed, 400)
    assert choice is not None
    assert choice.cycles <= choice.first_fit_cycles * 1.01
    assert choice.first_fit.height >= choice.tiling.height


def test_a_large_convolution_comes_close_to_the_bound() -> None:
    """64 channels, 3 x 3, on 56 x 56, operands on chip: passes of at least as many vectors as the array has rows."""
    cfg = PRESETS["edge16"]
    cfg = replace(cfg, memory=replace(cfg.memory, activation_bytes=512 << 10))
    net = Net((64, 56, 56))
    choice = search(cfg, layer(net, net.conv("input", 64, (3, 3), padding=(1, 1, 1, 1)), cfg), frozenset(), 0)
    assert choice is not None
    assert 56 * 56 * 9 * 4 * 4 / choice.cycles > 0.985


@pytest.mark.parametrize(("size", "channels", "stride", "most"), [
    ((25, 5), 64, 1, 1.40), ((48, 48), 16, 1, 1.10), ((48, 48), 16, 2, 2.21), ((6, 6), 128, 1, 1.45),
])
def test_a_depthwise_convolution_has_a_filter_in_each_column(
    size: tuple[int, int], channels: int, stride: int, most: float
) -> None:
    """3x3 on edge16, everything but transfers included: 48 products a cycle, but for the ends of rows and for pixels
    that a stride passes over."""
    cfg, net = PRESETS["edge16"], Net((channels, *size))
    y = net.conv("input", channels, (3, 3), stride=(stride, stride), padding=(1, 1, 1, 1), groups=channels)
    found = layer(net, y, cfg)
    choice = search(cfg, found, frozenset(), 0)
    assert choice is not None
    assert 1 < choice.cycles / (found.macs / 48) < most


def test_short_bursts_make_a_tiling_look_worse() -> None:
    net = Net((32, 16, 16))
    found = layer(net, net.max_pool("input", (3, 3), (2, 2)))
    geometry = Geometry(CONFIG, found)
    streamed = frozenset({"input"})
    whole, part = Tiling(2, 7, 32, 8), Tiling(2, 7, 8, 8)
    assert rough_cycles(geometry, part, streamed) > rough_cycles(geometry, whole, streamed)
