# SPDX-License-Identifier: Apache-2.0
"""Where bytes lie: pieces of tensors on chip and in main memory, weight tiles, parameter words.

The layout of a whole tensor is ``tilewright_hdl.activation_layout``; here a *piece* of one, a rectangle of pixels with
some of its channel tiles, lies in a *region* of the activation scratchpad.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright_hdl.activation_layout import channel_tiles
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load
from tilewright_hdl.isa_limits import field_ranges
from tilewright_hdl.numerics import MAX_SHIFT

from .graph import Conv2d
from .lower_layers import LaneParameters, Operand

__all__ = [
    "Block",
    "Piece",
    "Rect",
    "Region",
    "Transfer",
    "blocks",
    "column_pieces",
    "line",
    "pack_parameters",
    "pack_weights",
    "transfers",
    "wrap",
]


def wrap(config: AcceleratorConfig, address: int) -> int:
    """Address or step on chip as an instruction holds it, modulo the address space."""
    return address % config.limits.addresses


class Rect(NamedTuple):
    """Rectangle of pixels."""

    y: int
    x: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Piece(NamedTuple):
    """Rectangle of pixels, with the words (channel tiles) ``first`` to ``first + tiles - 1`` of each."""

    rect: Rect
    first: int
    tiles: int

    @property
    def words(self) -> int:
        return self.rect.pixels * self.tiles


@dataclass(frozen=True)
class Region:
    """A piece of a tensor in the activation scratchpad.

    Members
    -------
    address : int
        Word of pixel (y, x), channel tile t.
    pitch_y, pitch_x : int
        Words from row to row and from pixel to pixel.
    y, x, t : int
        What lies first.
    """

    address: int
    pitch_y: int
    pitch_x: int
    y: int = 0
    x: int = 0
    t: int = 0

    def word(self, y: int, x: int, t: int = 0) -> int:
        """Address of a word, which may be one outside of the piece, and negative: see :func:`wrap`."""
        return self.address + (y - self.y) * self.pitch_y + (x - self.x) * self.pitch_x + t - self.t

    @classmethod
    def of(cls, address: int, piece: Piece) -> "Region":
        """Region that holds a piece without gaps."""
        rect, first, tiles = piece
        return cls(address, rect.width * tiles, tiles, rect.y, rect.x, first)


@dataclass(frozen=True)
class Transfer:
    """The numbers of one ``LOAD`` or ``STORE``: words on chip, bytes in main memory."""

    dram_address: int
    address: int
    words: int
    rows: int = 1
    dram_stride: int = 0
    stride: int = 0


def transfers(
    config: AcceleratorConfig, tensor: Operand, dram_address: int, region: Region, piece: Piece
) -> Iterator[Transfer]:
    """Transfers between a whole tensor in main memory, at ``dram_address``, and a piece of it in a region."""
    rect, first, count = piece
    tiles = channel_tiles(config, tensor.channels)
    word_bytes = config.beats(config.array.rows) * config.bus.data_bytes
    row_bytes = tensor.width * tiles * word_bytes
    dram = dram_address + (rect.y * tensor.width + rect.x) * tiles * word_bytes + first * word_bytes
    address = region.word(rect.y, rect.x, first)
    whole_rows = rect.width == tensor.width and region.pitch_y == tensor.width * region.pitch_x
    if count == tiles == region.pitch_x:
        if whole_rows:
            yield from _line(config, dram, address, rect.pixels * tiles, word_bytes)
        elif (words := rect.width * tiles) <= _most(config, "words"):
            yield from _strided(config, Transfer(dram, address, words, rect.height, row_bytes, region.pitch_y))
        else:
            for y in range(rect.height):
                yield from _line(config, dram + y * row_bytes, address + y * region.pitch_y, words, word_bytes)
    else:
        pixel = Transfer(dram, address, count, rect.width, tiles * word_bytes, region.pitch_x)
        if whole_rows:
            yield from _strided(config, replace(pixel, rows=rect.pixels))
        else:
            for y in range(rect.height):
                yield from _strided(config, replace(pixel, dram_address=dram + y * row_bytes,
                                                    address=address + y * region.pitch_y))


def _most(config: AcceleratorConfig, field: str) -> int:
    return field_ranges(config, Load)[field][1]


def _strided(config: AcceleratorConfig, transfer: Transfer) -> Iterator[Transfer]:
    """A transfer in as few parts as the field of rows allows."""
    limit = _most(config, "rows")
    for row in range(0, transfer.rows, limit):
        rows = min(limit, transfer.rows - row)
        yield replace(
            transfer,
            dram_address=transfer.dram_address + row * transfer.dram_stride,
            address=transfer.address + row * transfer.stride,
            rows=rows,
            dram_stride=transfer.dram_stride if rows > 1 else 0,
            stride=transfer.stride if rows > 1 else 0,
        )


def _line(config: AcceleratorConfig, dram: int, address: int, words: int, word_bytes: int) -> Iterator[Transfer]:
    """Consecutive words; where the field of words is too narrow, rows that follow each other, and what is left."""
    most = _most(config, "words")
    # Of a power of two, so that bursts end together with rows.
    row, done = (most + 1) // 2, 0
    if words > most:
        done = words // row * row
        yield from _strided(config, Transfer(dram, address, row, words // row, row * word_bytes, row))
    if words > done:
        yield Transfer(dram + done * word_bytes, address + done, words - done)


def line(config: AcceleratorConfig, dram: int, address: int, words: int, word_bytes: int) -> Iterator[Transfer]:
    """Transfers of consecutive words of ``word_bytes``."""
    return _line(config, dram, address, words, config.beats(word_bytes) * config.bus.data_bytes)


# --- Weights.


class Block(NamedTuple):
    """Part of the reduction of a convolution: kernel rows, kernel columns and channel tiles, each (first, count)."""

    ky: tuple[int, int]
    kx: tuple[int, int]
    t: tuple[int, int]

    @property
    def passes(self) -> int:
        return self.ky[1] * self.kx[1] * self.t[1]


def blocks(kernel: tuple[int, int], tiles: tuple[int, int], limit: int) -> list[Block]:
    """Split a reduction over a kernel and a range of channel tiles (first, count).

    Into blocks of at most ``limit`` passes: whole kernel rows where they fit, else whole pixels of the kernel, else
    parts of the channels.
    """
    (kh, kw), (first, count) = kernel, tiles
    ny = max(1, min(kh, limit // (kw * count)))
    nx = kw if ny * kw * count <= limit else max(1, min(kw, limit // count))
    nt = count if ny * nx * count <= limit else max(1, limit)
    return [
        Block((ky, min(ny, kh - ky)), (kx, min(nx, kw - kx)), (t, min(nt, first + count - t)))
        for ky in range(0, kh, ny)
        for kx in range(0, kw, nx)
        for t in range(first, first + count, nt)
    ]


def column_pieces(config: AcceleratorConfig, conv: Conv2d) -> list[tuple[int, int, tuple[int, int]]]:
    """Runs of column tiles that read the same channel tiles: (first, count, (first channel tile, count)).

    A dense convolution is one run. With groups, a column tile needs only the channels of the groups that its output
    channels belong to.
    """
    rows, columns = config.array.rows, config.array.columns
    outputs, inputs = conv.weight.shape[:2]
    runs: list[tuple[int, int, tuple[int, int]]] = []
    for n in range(-(-outputs // columns)):
        last = min((n + 1) * columns, outputs) - 1
        first_group, last_group = (channel * conv.groups // outputs for channel in (n * columns, last))
        low, high = first_group * inputs // rows, ((last_group + 1) * inputs - 1) // rows
        tiles = (low, high - low + 1)
        if runs and runs[-1][2] == tiles:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, tiles)
        else:
            runs.append((n, 1, tiles))
    return runs


def pack_weights(config: AcceleratorConfig, conv: Conv2d, first: int, count: int, block: Block) -> npt.NDArray[np.int8]:
    """Weight words for column tiles ``first`` to ``first + count - 1`` and a block, in the order in which EXEC reads.

    Returns
    -------
    int8 array of shape (count * block.passes * rows, columns)
        Tiles in order n, ky, kx, t; zero where there is no channel.
    """
    rows, columns = config.array.rows, config.array.columns
    outputs, inputs, _, _ = conv.weight.shape
    (ky, ny), (kx, nx), (t, nt) = block
    dense = np.zeros((count * columns, nt * rows, ny, nx), np.int8)
    kernel = conv.weight[:, :, ky : ky + ny, kx : kx + nx]
    low, high = first * columns, min((first + count) * columns, outputs)
    per_group = outputs // conv.groups
    for group in range(low // per_group, (high - 1) // per_group + 1):
        o0, o1 = max(low, group * per_group), min(high, (group + 1) * per_group)
        i0, i1 = max(t * rows, group * inputs), min((t + nt) * rows, (group + 1) * inputs)
        if i0 < i1:
            dense[o0 - low : o1 - low, i0 - t * rows : i1 - t * rows] = (
                kernel[o0:o1, i0 - group * inputs : i1 - group * inputs])
    tiles = dense.reshape(count, columns, nt, rows, ny, nx).transpose(0, 4, 5, 2, 3, 1)
    return np.ascontiguousarray(tiles).reshape(-1, columns)


# --- Parameters.


def pack_parameters(
    config: AcceleratorConfig, parameters: LaneParameters, first: int, count: int
) -> npt.NDArray[np.uint8]:
    """Parameter words of lane groups ``first`` to ``first + count - 1``.

    Returns
    -------
    uint8 array of shape (count, config.parameter_word_bytes)
        Biases, multipliers, shifts of all lanes; lanes without a channel give zero.
    """
    lanes = config.post.lanes
    span = slice(first * lanes, (first + count) * lanes)

    def padded(values: npt.NDArray[np.int64], fill: int) -> npt.NDArray[np.int64]:
        part = values[span]
        full = np.full(count * lanes, fill, np.int64)
        full[: len(part)] = part
        return full.reshape(count, lanes)

    fields = (
        padded(parameters.bias, 0).astype("<i4"),
        padded(parameters.multiplier, 0).astype("<u4"),
        padded(parameters.shift, MAX_SHIFT).astype("u1"),
    )
    return np.concatenate([np.ascontiguousarray(f).view(np.uint8).reshape(count, -1) for f in fields], axis=1)
