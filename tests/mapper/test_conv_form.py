# SPDX-License-Identifier: Apache-2.0
"""The forms of a convolution: which is chosen, how it is cut and packed, and how long it takes."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tests.mapper.test_emit import at, emit
from tests.mapper.test_emit import layers as layers_of
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec, Load, Memory
from tilewright_mapper.conv_form import ConvForm, conv_form
from tilewright_mapper.layout import Piece, Rect, Region
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.schedule import instruction_cycles
from tilewright_mapper.tiling import Tiling

CONFIG = config(8, 4, 4, entries=1024)
SAME = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}


def layer(
    cfg: AcceleratorConfig = CONFIG, channels: int = 16, size: tuple[int, int] = (10, 10), multiplier: int = 1,
    groups: int | None = None, **options: Any,
) -> DeviceLayer:
    net = Net((channels, *size))
    options = SAME | options
    (found,) = layers_of(net, net.conv("input", multiplier * channels, groups=groups or channels, **options), cfg)
    return found


def form(cfg: AcceleratorConfig = CONFIG, **options: Any) -> ConvForm:
    found = conv_form(cfg, layer(cfg, **options))
    assert found is not None
    return found


NO_DEPTHWISE = replace(CONFIG, array=replace(CONFIG.array, depthwise=False))


@pytest.mark.parametrize(("cfg", "options", "depthwise"), [
    (CONFIG, {}, True),
    (CONFIG, {"channels": 3}, True),
    (CONFIG, {"channels": 1}, True),
    (CONFIG, {"kernel": (1, 3)}, True),
    (CONFIG, {"kernel": (3, 8)}, True),
    (CONFIG, {"kernel": (3, 3), "dilation": (4, 3)}, True),
    (CONFIG, {"stride": (2, 2)}, True),
    (CONFIG, {"wide": True}, True),
    (NO_DEPTHWISE, {}, False),
    # Nothing is saved by a kernel of one column, nor where most pixels are passed over.
    (CONFIG, {"kernel": (3, 1)}, False),
    (CONFIG, {"stride": (1, 4)}, False),
    # A channel that meets others.
    (CONFIG, {"multiplier": 2}, False),
    (CONFIG, {"groups": 8}, False),
    (CONFIG, {"groups": 1}, False),
    # More taps than rows.
    (CONFIG, {"kernel": (3, 9)}, False),
    (CONFIG, {"kernel": (3, 3), "dilation": (1, 4)}, False),
    # A kernel row of a word takes 8 tiles of 8 words; so many fit, but no second row.
    (config(16, 2, 2, weight_words=128, entries=1024), {"kernel": (1, 8)}, True),
    (config(16, 2, 2, weight_words=128, entries=1024), {"kernel": (1, 9)}, False),
])
def test_the_form_of_a_layer(cfg: AcceleratorConfig, options: dict[str, Any], depthwise: bool) -> None:
    assert form(cfg, **options).own_words == depthwise


def test_a_layer_without_a_convolution_has_no_form() -> None:
    net = Net((8, 4, 4))
    (pool,) = layers_of(net, net.max_pool("input", (2, 2), (2, 2)), CONFIG)
    assert conv_form(CONFIG, pool) is None


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    """Options of :func:`layer`, for one that may run either way."""
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    size = tuple((k - 1) * d + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True))
    return {
        "channels": draw(st.integers(1, 20)), "size": size, "kernel": kernel, "dilation": dilation,
        "stride": (draw(st.integers(1, 2)), draw(st.integers(1, 3))), "wide": draw(st.booleans()),
        "padding": tuple(draw(st.integers(0, 3)) for _ in range(4)),
    }


CONFIGS = (CONFIG, *(config(*array, weight_words=256, entries=4096) for array in ((10, 4, 2), (8, 8, 4), (6, 8, 2))))


@given(st.sampled_from(CONFIGS), shapes())
def test_time_and_weights_are_those_of_the_instructions(cfg: AcceleratorConfig, options: dict[str, Any]) -> None:
    found = layer(cfg, **options)
    chosen, middle = conv_form(cfg, found), found.middle
    assert chosen is not None
    tiling = Tiling(middle.height, middle.width, chosen.most_channels or 32, cfg.weight_words)
    program = emit(found, tiling, {"source": at(0), "output": at(2000)}, cfg)
    execs = [i for i in program if isinstance(i, Exec)]
    weights = [i for i in program if isinstance(i, Load) and i.memory == Memory.WEIGHT]
    cycles = chosen.cycles(Rect(0, 0, middle.height, middle.width))
    if not options["wide"]:
        assert sum(i.words for i in weights) == chosen.weight_words
        assert sum(instruction_cycles(cfg, i) for i in execs) == cycles
    # The other way would not be faster.
    other = conv_form(replace(cfg, array=replace(cfg.array, depthwise=False)), found)
    assert other is not None
    assert cycles <= other.cycles(Rect(0, 0, middle.height, middle.width))


@given(st.sampled_from(CONFIGS), shapes(), st.integers(1, 100), st.integers(1, 3))
def test_pieces_are_a_partition_within_the_limit(
    cfg: AcceleratorConfig, options: dict[str, Any], limit: int, words: int
) -> None:
    chosen = form(cfg, **options)
    step = chosen.most_channels or words * chosen.step
    channels, passes = options["channels"], []
    for low in range(0, channels, step):
        first, count = chosen.tiles(low, min(low + step, channels))
        begun = set()
        for piece in chosen.pieces(first, count, limit):
            assert first <= piece.tile
            assert piece.tile + piece.tiles <= first + count
            assert chosen.words(piece) <= max(limit, chosen.pass_words)
            assert piece.accumulate == (piece.tile in begun)
            begun.add(piece.tile)
            passes += product(range(piece.tile, piece.tile + piece.tiles), range(*_span(piece.block.ky)))
    if chosen.own_words:
        _, tiles = chosen.tiles(0, channels)
        assert sorted(passes) == list(product(range(tiles), range(options["kernel"][0])))


@given(st.sampled_from(CONFIGS), shapes(), st.integers(1, 100))
def test_packed_taps_are_the_weights_of_their_channels(
    cfg: AcceleratorConfig, options: dict[str, Any], limit: int
) -> None:
    """Word after word: column tile, kernel row, the last tap first."""
    found = layer(cfg, **options)
    chosen = conv_form(cfg, found)
    assert chosen is not None
    if not chosen.own_words:
        return
    rows, columns = cfg.array.rows, cfg.array.columns
    taps = (options["kernel"][1] - 1) * options["dilation"][1] + 1
    for part, conv in enumerate(found.convs):
        for piece in chosen.pieces(*chosen.tiles(0, options["channels"]), limit):
            packed = iter(chosen.pack(part, piece))
            order = product(range(piece.tile, piece.tile + piece.tiles), range(*_span(piece.block.ky)),
                            reversed(range(taps)))
            for n, ky, tap in order:
                word = next(packed)
                for column in range(columns):
                    lane = n % cfg.array.slices * columns + column
                    channel = n // cfg.array.slices * rows + lane
                    kx, hole = divmod(tap, options["dilation"][1])
                    there = lane < rows and channel < options["channels"] and not hole
                    assert word[column] == (conv.weight[channel, 0, ky, kx] if there else 0)
            assert next(packed, None) is None


def _span(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[0], sum(pair)


@given(shapes(), st.data())
def test_rows_share_as_much_padding_as_there_is(options: dict[str, Any], data: st.DataObject) -> None:
    found = layer(**options)
    chosen = conv_form(CONFIG, found)
    assert chosen is not None
    x = data.draw(st.integers(0, found.middle.width - 1))
    middle = Rect(0, x, 2, data.draw(st.integers(1, found.middle.width - x)))
    region = Region.of(100, Piece(Rect(0, 0, found.source.height, found.source.width), 0, 3))
    (piece, *_) = chosen.pieces(0, 1, 1000)
    fields = chosen.fields(piece, middle, region)
    if not chosen.own_words:
        return
    first, taps, overlap = fields["first_x"], fields["kernel_width"], fields["overlap"]
    end = first + (middle.width - 1) * options["stride"][1] + taps

    def shared(columns: int) -> bool:
        """Whether so many columns at either end of a row are padding."""
        return columns < taps and all(i < 0 for i in range(first, first + columns)) and all(
            i >= found.source.width for i in range(end - columns, end))

    assert shared(overlap)
    assert not shared(overlap + 1)
    assert fields["input_address"] == region.word(fields["first_y"], first + overlap)


def test_the_weights_of_a_large_layer_are_cut_at_whole_words() -> None:
    """Each EXEC begins with the first slice of a word, here of two."""
    chosen = form(channels=24)
    assert chosen.weight_words == 6 * 3 * 3
    assert [(p.tile, p.tiles, p.block.t) for p in chosen.pieces(0, 6, 40)] == [(0, 4, (0, 2)), (4, 2, (2, 1))]
    assert [(p.tile, p.block.ky) for p in chosen.pieces(2, 2, 12)] == [(2, (0, 2)), (2, (2, 1))]
    assert form(channels=20).tiles(8, 20) == (2, 3)


def test_column_tiles_are_no_more_than_their_field_holds() -> None:
    cfg = config(4, 4, 4, weight_words=1 << 16, entries=1 << 14)
    chosen = form(cfg, channels=4 * 5000, kernel=(1, 3), padding=(0, 1, 0, 1), size=(1, 3))
    assert [p.tiles for p in chosen.pieces(0, 5000, 1 << 16)] == [4095, 905]


def test_lanes_without_a_channel_are_zero() -> None:
    found = layer(config(6, 8, 2), channels=7)
    chosen = conv_form(config(6, 8, 2), found)
    assert chosen is not None
    (piece,) = chosen.pieces(*chosen.tiles(6, 7), 100)
    np.testing.assert_array_equal(np.flatnonzero(chosen.pack(0, piece).any(0)), [0])
