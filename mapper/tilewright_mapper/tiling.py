# SPDX-License-Identifier: Apache-2.0
"""Tiles: the parts of a layer that go through the accumulators one at a time, and the candidates for their sizes.

A tile is a rectangle of output pixels and a range of output channels. The array computes it into one accumulator bank
while the post-processor works on the tile before in the other. Operands that are not on chip as a whole *stream*: the
piece that a tile needs is brought into one of two buffers while the tile before computes from the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from tilewright_hdl.activation_layout import channel_tiles
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Post
from tilewright_hdl.isa_limits import field_ranges

from .conv_form import conv_form
from .layout import Piece, Rect
from .lower_layers import DeviceLayer, Operand, Window

__all__ = ["BUFFERS", "Chunk", "Geometry", "Tile", "Tiling", "candidates", "smallest_tiling"]

_PARTS = (1, 2, 3, 4, 8, 16)
"""Divisions of a row among which are good ones for overlapping windows: the closer tiles are to squares, the smaller
their borders, which are computed twice."""

BUFFERS = 2
"""Buffers of a streamed operand: one in use, one on its way. Where there is room for one only, nothing overlaps."""


@dataclass(frozen=True)
class Tiling:
    """How a layer is cut.

    Members
    -------
    height, width : int
        Output pixels of a tile.
    channels : int
        Output channels of a tile.
    weight_words : int
        Most words of weights that one EXEC uses.
    channels_outer : bool
        All rectangles of one channel range, then the next; else all channel ranges of one rectangle first.
    buffers : int
        Of each streamed operand.
    """

    height: int
    width: int
    channels: int
    weight_words: int
    channels_outer: bool = False
    buffers: int = BUFFERS


@dataclass(frozen=True)
class Chunk:
    """A range of output channels: (first, count) in words, in column tiles (with a convolution) and in lane groups."""

    words: tuple[int, int]
    columns: tuple[int, int]
    groups: tuple[int, int]


@dataclass(frozen=True)
class Tile:
    rect: Rect
    chunk: Chunk
    last_of_rect: bool
    """Whether all channels of the rectangle are done with this tile."""


class Geometry:
    """Shapes that follow from a layer and the configuration."""

    def __init__(self, config: AcceleratorConfig, layer: DeviceLayer):
        self.config = config
        self.layer = layer
        self.form = conv_form(config, layer)
        self.step = config.array.rows if self.form is None else self.form.step

    def words(self, operand: Operand) -> int:
        """Words of a pixel."""
        return channel_tiles(self.config, operand.channels)

    def chunks(self, channels: int) -> list[Chunk]:
        """Ranges of ``channels`` output channels, the last one shorter."""
        rows, lanes, form = self.config.array.rows, self.config.post.lanes, self.form
        total = self.layer.output.channels

        def span(low: int, high: int, unit: int) -> tuple[int, int]:
            return low // unit, -(-high // unit) - low // unit

        bounds = [(low, min(low + channels, total)) for low in range(0, total, channels)]
        return [Chunk(span(*b, rows), form.tiles(*b) if form else (0, 0), span(*b, lanes)) for b in bounds]

    def rects(self, tiling: Tiling) -> list[Rect]:
        """Output rectangles, in order."""
        out = self.layer.output
        return [
            Rect(y, x, min(tiling.height, out.height - y), min(tiling.width, out.width - x))
            for y in range(0, out.height, tiling.height)
            for x in range(0, out.width, tiling.width)
        ]

    def tiles(self, tiling: Tiling) -> Iterator[Tile]:
        """Tiles in the order in which they are computed."""
        rects, chunks = self.rects(tiling), self.chunks(tiling.channels)
        if tiling.channels_outer:
            for chunk in chunks:
                for rect in rects:
                    yield Tile(rect, chunk, chunk is chunks[-1])
        else:
            for rect in rects:
                for chunk in chunks:
                    yield Tile(rect, chunk, chunk is chunks[-1])

    def middle(self, rect: Rect) -> Rect:
        """What the post-processor reads for an output rectangle."""
        layer = self.layer
        (y, h), (x, w) = (layer.window.span(axis, rect[axis], rect[axis + 2], size)
                          for axis, size in enumerate((layer.middle.height, layer.middle.width)))
        return Rect(y, x, h, w)

    def input(self, rect: Rect) -> Rect:
        """What a tile reads of its source for an output rectangle."""
        middle, source = self.middle(rect), self.layer.source
        (y, h), (x, w) = (self.layer.conv_window.span(axis, middle[axis], middle[axis + 2], size)
                          for axis, size in enumerate((source.height, source.width)))
        return Rect(y, x, h, w)

    @property
    def own_words(self) -> bool:
        """Whether a tile reads those words of a pixel of the source alone that it also writes."""
        return self.form is None or self.form.own_words

    def source_piece(self, tile: Tile) -> Piece:
        """Piece of the source that a tile reads."""
        rect = self.input(tile.rect)
        if self.own_words:
            return Piece(rect, *tile.chunk.words)
        return Piece(rect, 0, self.words(self.layer.source))

    def output_piece(self, tile: Tile, channels_outer: bool) -> Piece:
        """Piece of the tensor that is written that is on chip at a time around a tile."""
        (y, x, height, width), first, count = self._piece(tile, channels_outer)
        at = self.layer.at
        return Piece(Rect(y + at.y, x + at.x, height, width), first + at.t, count)

    def _piece(self, tile: Tile, channels_outer: bool) -> Piece:
        if channels_outer:
            return Piece(tile.rect, *tile.chunk.words)
        return Piece(tile.rect, 0, self.words(self.layer.output))

    def residual_piece(self, tile: Tile, channels_outer: bool) -> Piece:
        """Piece of the residual that is on chip at a time around a tile."""
        return self._piece(tile, channels_outer)._replace(rect=self.residual(tile.rect))

    def residual(self, rect: Rect) -> Rect:
        """Pixels of the residual for an output rectangle; where it is repeated, all that there are."""
        operand = self.operand("residual")
        (y, h), (x, w) = (Window().span(axis, rect[axis], rect[axis + 2], size)
                          for axis, size in enumerate((operand.height, operand.width)))
        return Rect(y, x, h, w)

    def buffer_words(self, tiling: Tiling, streamed: frozenset[str]) -> dict[str, int]:
        """Words of one buffer for each operand that streams, by role: ``source``, ``residual``, ``output``."""
        layer = self.layer
        chunks = self.chunks(tiling.channels)
        widest = max(chunk.words[1] for chunk in chunks)
        whole = self.words(layer.output)
        _, source = self._extents(tiling)
        tile = min(tiling.height, layer.output.height) * min(tiling.width, layer.output.width)
        sizes = {
            "source": source * (widest if self.own_words else self.words(layer.source)),
            "output": tile * (widest if tiling.channels_outer else whole),
        }
        if layer.residual is not None:
            most = self.residual(Rect(0, 0, tiling.height, tiling.width)).pixels
            sizes["residual"] = most * (sizes["output"] // tile)
        return {role: n for role, n in sizes.items() if self.operand(role).root in streamed}

    def _extents(self, tiling: Tiling) -> tuple[int, int]:
        """Most pixels that a tile has in the middle and in the source."""
        out = self.layer.output
        rows = [Rect(y, 0, min(tiling.height, out.height - y), 1) for y in range(0, out.height, tiling.height)]
        columns = [Rect(0, x, 1, min(tiling.width, out.width - x)) for x in range(0, out.width, tiling.width)]
        middle, source = (max(f(r).height for r in rows) * max(f(c).width for c in columns)
                          for f in (self.middle, self.input))
        return middle, source

    def operand(self, role: str) -> Operand:
        """Whole operand of a role."""
        operand = self.layer.target if role == "output" else getattr(self.layer, role)
        assert isinstance(operand, Operand)
        return operand

    def pixels(self, role: str) -> int:
        """Pixels of a whole operand."""
        operand = self.operand(role)
        return operand.height * operand.width

    def fits(self, tiling: Tiling, streamed: frozenset[str], words: int) -> bool:
        """Whether tiles fit the accumulators and parameters, and buffers fit into ``words`` of activations."""
        config, layer = self.config, self.layer
        if max(chunk.groups[1] for chunk in self.chunks(tiling.channels)) > field_ranges(config, Post)["groups"][1]:
            return False
        if layer.conv is not None:
            chunk = max(self.chunks(tiling.channels), key=lambda c: c.columns[1])
            pixels, _ = self._extents(tiling)
            if chunk.columns[1] * pixels > config.memory.accumulator_entries:
                return False
            if chunk.groups[1] > config.memory.parameter_groups:
                return False
        return tiling.buffers * sum(self.buffer_words(tiling, streamed).values()) <= words

    @property
    def total_weight_words(self) -> int:
        """Weight words of the layer, at most."""
        return 0 if self.form is None else self.form.weight_words

    @property
    def pass_words(self) -> int:
        """Fewest weight words of an EXEC."""
        return 0 if self.form is None else self.form.pass_words


def smallest_tiling(geometry: Geometry) -> Tiling:
    """One output pixel, the fewest channels, one pass, one buffer."""
    return Tiling(1, 1, geometry.step, geometry.pass_words, channels_outer=True, buffers=1)


def candidates(geometry: Geometry, streamed: frozenset[str], words: int) -> list[Tiling]:
    """Tilings that fit, the largest tiles first.

    Parameters
    ----------
    streamed : frozenset of str
        Roots of the operands that are not on chip as a whole.
    words : int
        Activation words for the buffers of those.
    """
    for buffers in (BUFFERS, 1) if streamed else (BUFFERS,):
        found = _candidates(geometry, streamed, words, buffers)
        if found:
            break
    return sorted(found, key=lambda t: (-t.height * t.width, -t.channels, t.channels_outer, -t.weight_words))


def _candidates(geometry: Geometry, streamed: frozenset[str], words: int, buffers: int) -> list[Tiling]:
    layer, config = geometry.layer, geometry.config
    out = layer.output
    found: dict[Tiling, None] = {}
    weights = sorted({max(geometry.pass_words, config.weight_words // part) for part in (4, 2)})
    if layer.conv is None:
        weights = [0]
    for channels in _channel_sizes(geometry):
        orders = (False, True) if channels < out.channels else (False,)
        for outer in orders:
            tiling = Tiling(1, out.width, channels, 0, channels_outer=outer, buffers=buffers)
            for height, width in _shapes(geometry, tiling, streamed, words):
                for limit in weights:
                    if limit >= geometry.total_weight_words and limit != weights[-1]:
                        continue
                    tiling = replace(tiling, height=height, width=width, weight_words=limit)
                    # With one rectangle the orders are one, but this one needs less room.
                    if outer and len(geometry.rects(tiling)) == 1 and replace(tiling, channels_outer=False) in found:
                        continue
                    found[tiling] = None
    return list(found)


def _channel_sizes(geometry: Geometry) -> list[int]:
    """Channels of a tile: all, and halves of them in whole steps."""
    step = geometry.step
    steps = -(-geometry.layer.output.channels // step)
    if geometry.form is not None and geometry.form.most_channels is not None:
        steps = min(steps, geometry.form.most_channels // step)
    sizes = []
    while steps not in sizes:
        sizes.append(steps)
        steps = max(1, -(-steps // 2))
    return [s * step for s in sizes]


def _shapes(
    geometry: Geometry, tiling: Tiling, streamed: frozenset[str], words: int
) -> Iterator[tuple[int, int]]:
    """Heights and widths of tiles like ``tiling`` that fit, the largest and smaller ones.

    Whole rows if one fits, else part of one; where tiles compute their borders twice, parts of rows as well.
    """
    out = geometry.layer.output

    def fits(height: int, width: int) -> bool:
        return geometry.fits(replace(tiling, height=height, width=width), streamed, words)

    twice = geometry.layer.conv is not None and geometry.layer.window.overlaps
    widths = dict.fromkeys(-(-out.width // parts) for parts in (_PARTS if twice else (1,)))
    fitting = [width for width in widths if fits(1, width)]
    for width in fitting:
        largest = _bisect(out.height, partial(fits, width=width))
        yield from ((height, width) for height in _heights(geometry, largest))
    if not fitting and fits(1, 1):
        yield 1, _bisect(out.width, partial(fits, 1))


def _bisect(high: int, fits: Callable[[int], bool]) -> int:
    """Largest number up to ``high`` that fits; 1 does."""
    low = 1
    while low < high:
        half = (low + high + 1) // 2
        if fits(half):
            low = half
        else:
            high = half - 1
    return low


def _heights(geometry: Geometry, height: int) -> list[int]:
    """Heights of tiles: the largest, and even divisions into as many tiles and more."""
    total = geometry.layer.output.height
    parts = -(-total // height)
    return sorted({height, *(-(-total // min(total, parts * k)) for k in (1, 2, 3, 4, 8, 16))}, reverse=True)
