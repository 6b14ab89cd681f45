# SPDX-License-Identifier: Apache-2.0
"""Pieces of tensors, weight tiles and parameter words, against their definitions element by element."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tilewright_hdl.activation_layout import pack
from tilewright_mapper.graph import Conv2d
from tilewright_mapper.layout import (
    Block,
    Piece,
    Rect,
    Region,
    blocks,
    column_pieces,
    pack_parameters,
    pack_weights,
    transfers,
    wrap,
)
from tilewright_mapper.lower_layers import LaneParameters, Operand

CONFIG = config(4, 8, 4, bus=64)


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Operand, Piece]:
    operand = Operand("x", draw(st.integers(1, 14)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    tiles = -(-operand.channels // CONFIG.array.rows)
    y, x = draw(st.integers(0, operand.height - 1)), draw(st.integers(0, operand.width - 1))
    rect = Rect(y, x, draw(st.integers(1, operand.height - y)), draw(st.integers(1, operand.width - x)))
    first = draw(st.integers(0, tiles - 1))
    return operand, Piece(rect, first, draw(st.integers(1, tiles - first)))


def moved(operand: Operand, region: Region, piece: Piece) -> dict[int, int]:
    """Word on chip: byte in main memory, of all words that the transfers move."""
    result = {}
    for t in transfers(CONFIG, operand, 64, region, piece):
        for row, word in product(range(t.rows), range(t.words)):
            address = t.address + row * t.stride + word
            assert address not in result, "a word is moved twice"
            result[address] = t.dram_address + row * t.dram_stride + word * 8
    return result


@given(pieces())
def test_transfers_move_each_word_of_a_piece_once(case: tuple[Operand, Piece]) -> None:
    operand, piece = case
    tiles = -(-operand.channels // CONFIG.array.rows)
    whole = Region(100, operand.width * tiles, tiles)
    for region in (whole, Region.of(100, piece)):
        rect = piece.rect
        expected = {
            region.word(y, x, t): 64 + ((y * operand.width + x) * tiles + t) * 8
            for y in range(rect.y, rect.y + rect.height)
            for x in range(rect.x, rect.x + rect.width)
            for t in range(piece.first, piece.first + piece.tiles)
        }
        assert moved(operand, region, piece) == expected


def test_a_whole_tensor_is_one_transfer() -> None:
    operand = Operand("x", 12, 5, 7)
    piece = Piece(Rect(0, 0, 5, 7), 0, 3)
    (transfer,) = transfers(CONFIG, operand, 0, Region.of(0, piece), piece)
    assert (transfer.words, transfer.rows) == (5 * 7 * 3, 1)


def test_full_channels_of_part_of_the_columns_are_one_strided_transfer() -> None:
    operand = Operand("x", 12, 5, 7)
    piece = Piece(Rect(1, 2, 3, 4), 0, 3)
    (transfer,) = transfers(CONFIG, operand, 0, Region.of(0, piece), piece)
    assert (transfer.words, transfer.rows, transfer.stride, transfer.dram_stride) == (12, 3, 12, 7 * 3 * 8)


def test_transfers_longer_than_their_fields_are_split() -> None:
    operand = Operand("x", 4, 300, 300)
    piece = Piece(Rect(0, 0, 300, 300), 0, 1)
    words = [(t.words, t.rows) for t in transfers(CONFIG, operand, 0, Region.of(0, piece), piece)]
    assert words == [(32768, 2), (90000 - 65536, 1)]
    operand = Operand("x", 8, 300, 300)
    piece = Piece(Rect(0, 0, 300, 300), 1, 1)
    rows = [t.rows for t in transfers(CONFIG, operand, 0, Region.of(0, piece), piece)]
    assert rows == [65535, 90000 - 65535]


def test_region_counts_words_before_its_start_modulo_the_address_space() -> None:
    assert wrap(CONFIG, Region(0, 10, 2).word(-1, 0)) == (1 << 20) - 10


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 5), st.integers(1, 100))
def test_blocks_are_a_partition_within_the_limit(kh: int, kw: int, first: int, count: int, limit: int) -> None:
    found = blocks((kh, kw), (first, count), limit)
    assert all(block.passes <= limit for block in found)
    covered = [
        place for (ky, ny), (kx, nx), (t, nt) in found
        for place in product(range(ky, ky + ny), range(kx, kx + nx), range(t, t + nt))
    ]
    assert sorted(covered) == sorted(product(range(kh), range(kw), range(first, first + count)))


def conv(outputs: int, inputs: int, kernel: tuple[int, int], groups: int = 1) -> Conv2d:
    net = Net((inputs, 8, 8))
    net.conv("input", outputs, kernel, groups=groups)
    node = net.nodes[-1]
    assert isinstance(node, Conv2d)
    return node


@pytest.mark.parametrize(
    ("outputs", "inputs", "groups", "expected"),
    [
        (20, 10, 1, [(0, 3, (0, 3))]),
        (16, 16, 16, [(0, 1, (0, 2)), (1, 1, (2, 2))]),
        (32, 4, 4, [(0, 4, (0, 1))]),
        (12, 6, 2, [(0, 2, (0, 2))]),
    ],
)
def test_column_tiles_read_only_their_groups(
    outputs: int, inputs: int, groups: int, expected: list[tuple[int, int, tuple[int, int]]]
) -> None:
    assert column_pieces(CONFIG, conv(outputs, inputs, (1, 1), groups)) == expected


@pytest.mark.parametrize(("outputs", "inputs", "groups"), [(20, 10, 1), (10, 10, 10), (12, 6, 2), (9, 3, 3)])
def test_packed_weights_are_the_weights_in_the_order_of_passes(outputs: int, inputs: int, groups: int) -> None:
    node = conv(outputs, inputs, (2, 3), groups)
    rows, columns = CONFIG.array.rows, CONFIG.array.columns
    for first, count, tiles in column_pieces(CONFIG, node):
        for block in blocks(node.kernel, tiles, 4):
            packed = pack_weights(CONFIG, node, first, count, block)
            assert packed.shape == (count * block.passes * rows, columns)
            words = iter(packed)
            order = product(range(first, first + count), *(range(a, a + n) for a, n in block), range(rows))
            for n, ky, kx, t, r in order:
                word = next(words)
                for column in range(columns):
                    assert word[column] == weight_at(node, n * columns + column, t * rows + r, ky, kx)


def weight_at(node: Conv2d, output: int, channel: int, ky: int, kx: int) -> int:
    outputs, inputs, _, _ = node.weight.shape
    group = output * node.groups // outputs
    within = channel - group * inputs
    if output >= outputs or not 0 <= within < inputs:
        return 0
    return int(node.weight[output, within, ky, kx])


def test_one_block_of_a_dense_convolution_is_one_run_of_words() -> None:
    node = conv(8, 4, (1, 1))
    packed = pack_weights(CONFIG, node, 0, 1, Block((0, 1), (0, 1), (0, 1)))
    np.testing.assert_array_equal(packed, node.weight[:, :, 0, 0].T)


def test_parameter_words() -> None:
    parameters = LaneParameters(np.array([-1, 2, 3, 4, 5]), np.array([10, 20, 30, 40, 50]), np.array([2, 3, 4, 5, 6]))
    words = pack_parameters(CONFIG, parameters, 0, 2)
    assert words.shape == (2, CONFIG.parameter_word_bytes)
    first, second = words
    np.testing.assert_array_equal(first[:16].view("<i4"), [-1, 2, 3, 4])
    np.testing.assert_array_equal(first[16:32].view("<u4"), [10, 20, 30, 40])
    np.testing.assert_array_equal(first[32:], [2, 3, 4, 5])
    # Lanes without a channel come out as zero.
    np.testing.assert_array_equal(second[:16].view("<i4"), [5, 0, 0, 0])
    np.testing.assert_array_equal(second[16:32].view("<u4"), [50, 0, 0, 0])


def test_pieces_of_a_packed_tensor_are_its_bytes() -> None:
    """The layout here and that of whole tensors in main memory agree."""
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, (6, 3, 5)).astype(np.int8)
    memory = np.frombuffer(pack(CONFIG, values), np.int8).reshape(-1, 8)[:, :4]
    operand = Operand("x", 6, 3, 5)
    piece = Piece(Rect(1, 2, 2, 3), 1, 1)
    region = Region.of(0, piece)
    for address, byte in moved(operand, region, piece).items():
        y, x = divmod(address, 3)
        np.testing.assert_array_equal(memory[(byte - 64) // 8, :2], values[4:, 1 + y, 2 + x])
