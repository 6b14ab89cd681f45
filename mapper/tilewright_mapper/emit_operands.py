# SPDX-License-Identifier: Apache-2.0
"""Operands of a layer while its tiles are emitted: where a piece lies on chip, and what brings it there."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from tilewright_hdl.activation_layout import channel_tiles
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Instruction, Load, Segment, Store

from .emit_windows import window_loads
from .layout import Piece, Rect, Region, Transfer, line, transfers
from .lower_layers import Operand

__all__ = ["InputOperand", "OutputOperand", "Place"]

Emit = Callable[[Instruction], None]


@dataclass(frozen=True)
class Place:
    """Where an operand lies.

    Members
    -------
    addresses : tuple of int
        Of the whole tensor, or of the buffers that are used in turn.
    dram : int or None
        Byte offset in the arena; ``None`` if it never leaves the chip.
    streams : bool
        Only pieces are on chip, in buffers.
    """

    addresses: tuple[int, ...]
    dram: int | None = None
    streams: bool = False


class _Operand:
    def __init__(self, config: AcceleratorConfig, operand: Operand, place: Place, emit: Emit):
        self._config = config
        self._operand = operand
        self._place = place
        self._emit = emit
        self._held: list[Piece | None] = [None] * len(place.addresses)
        self._turn = 0

    @property
    def whole(self) -> Region:
        """Region of the tensor when all of it is on chip."""
        operand = self._operand
        tiles = channel_tiles(self._config, operand.channels)
        return Region(self._place.addresses[0], operand.width * tiles, tiles)

    def _buffer(self, piece: Piece) -> tuple[Region, bool]:
        """Buffer that holds a piece, or is to hold it next; and whether it holds it already."""
        for address, held in zip(self._place.addresses, self._held, strict=True):
            if held == piece:
                return Region.of(address, piece), True
        turn = self._turn
        self._turn = (turn + 1) % len(self._held)
        self._held[turn] = piece
        return Region.of(self._place.addresses[turn], piece), False


class InputOperand(_Operand):
    """A tensor that tiles read.

    A whole tensor that comes from main memory is loaded bit by bit, when a tile first needs its rows.

    Parameters
    ----------
    loaded : dict of str to int
        For each root that comes from main memory and stays on chip, the pixels that are there already; kept from layer
        to layer.
    """

    def __init__(
        self, config: AcceleratorConfig, operand: Operand, place: Place, emit: Emit, loaded: dict[str, int]
    ):
        super().__init__(config, operand, place, emit)
        self._loaded = loaded

    def need(self, piece: Piece) -> Region:
        """Region in which a piece can be read, after the loads that it takes."""
        if self._place.streams:
            region, held = self._buffer(piece)
            if not held:
                self._load(region, piece)
            return region
        region, operand = self.whole, self._operand
        if operand.root in self._loaded and self._place.dram is not None:
            first, end = self._loaded[operand.root], (piece.rect.y + piece.rect.height) * operand.width
            if first < end and operand.packing:
                rows = Rect(first // operand.width, 0, (end - first) // operand.width, operand.width)
                self._load(region, Piece(rows, 0, region.pitch_x))
            elif first < end:
                word_bytes = self._config.array.rows
                offset = first * region.pitch_x * self._config.beats(word_bytes) * self._config.bus.data_bytes
                for t in line(self._config, self._place.dram + offset, region.address + first * region.pitch_x,
                              (end - first) * region.pitch_x, word_bytes):
                    self._emit_load(t)
            self._loaded[operand.root] = max(first, end)
        return region

    def _load(self, region: Region, piece: Piece) -> None:
        assert self._place.dram is not None
        if self._operand.packing:
            for load in window_loads(self._config, self._operand.packing, self._place.dram, region, piece.rect):
                self._emit(load)
            return
        for t in transfers(self._config, self._operand, self._place.dram, region, piece):
            self._emit_load(t)

    def _emit_load(self, t: Transfer) -> None:
        self._emit(Load(segment=Segment.ARENA, **asdict(t)))


class OutputOperand(_Operand):
    """A tensor that tiles write."""

    def room(self, piece: Piece) -> Region:
        """Region into which a piece can be written."""
        return self._buffer(piece)[0] if self._place.streams else self.whole

    def done(self, region: Region, piece: Piece) -> None:
        """All of a piece has been written: store it if main memory wants it."""
        if self._place.dram is None:
            return
        for t in transfers(self._config, self._operand, self._place.dram, region, piece):
            self._emit(Store(segment=Segment.ARENA, **asdict(t)))
