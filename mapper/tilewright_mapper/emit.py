# SPDX-License-Identifier: Apache-2.0
"""Emitting: from layers with their tilings and places to instructions, in an order in which they could run one by one.

For each tile: the loads that it takes, EXEC into one accumulator bank, POST out of it, the store. That this overlaps is
due to buffers that come in twos and rings, and to the scheduler, which lets everything start as early as it may.
"""

from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import TABLE_ENTRIES, AcceleratorConfig
from tilewright_hdl.isa import Exec, Instruction, Load, Memory, Post, RoundingCode, Segment, Source

from .allocate import Ring
from .conv_form import ConvForm, ConvPiece
from .emit_operands import InputOperand, OutputOperand, Place
from .layout import Region, line, pack_parameters, wrap
from .lower_layers import DeviceLayer
from .residency import Residency, Use, constant_capacity
from .tiling import BUFFERS, Geometry, Tile, Tiling

__all__ = ["Constants", "Emitted", "Emitter"]


class Constants:
    """The constant segment, while it grows: memory words, each in whole beats.

    Parameters
    ----------
    config : AcceleratorConfig
    sizes_only : bool
        Keep no contents: for programs that are only timed.
    """

    def __init__(self, config: AcceleratorConfig, *, sizes_only: bool = False):
        self._config = config
        self._sizes_only = sizes_only
        self._parts: list[bytes] = []
        self._offsets: dict[Hashable, int] = {}
        self.size = 0

    def place(self, key: Hashable, words: int, bytes_of_word: int, make: Callable[[], npt.NDArray[Any]]) -> int:
        """Byte offset of a constant; ``make`` gives its words, one a row, if they are new."""
        if key in self._offsets:
            return self._offsets[key]
        beat_bytes = self._config.beats(bytes_of_word) * self._config.bus.data_bytes
        offset = self._offsets[key] = self.size
        self.size += words * beat_bytes
        if not self._sizes_only:
            padded = np.zeros((words, beat_bytes), np.uint8)
            padded[:, :bytes_of_word] = np.ascontiguousarray(make()).view(np.uint8).reshape(words, bytes_of_word)
            self._parts.append(padded.tobytes())
        return offset

    def image(self) -> bytes:
        """The whole segment."""
        return b"".join(self._parts)


@dataclass(frozen=True)
class Emitted:
    """An instruction without its tokens.

    Members
    -------
    instruction : Instruction
    layer : int
    constant : bool
        A load of weights, parameters or a table, which do not stay on chip.
    """

    instruction: Instruction
    layer: int
    constant: bool = False


class Emitter:
    """Emits the layers of a run, in order.

    Parameters
    ----------
    config : AcceleratorConfig
    constants : Constants
    residency : Residency, or None
        What stays on chip; None: nothing. Gets the loads of what a layer is the first to use.
    weights_on_chip : bool
        Emit no loads of weights and parameters: to time a layer whose weights stay, or come while the one before
        computes.
    """

    def __init__(self, config: AcceleratorConfig, constants: Constants, *, residency: Residency | None = None,
                 weights_on_chip: bool = False):
        self.config = config
        self.emitted: list[Emitted] = []
        self.uses: list[Use] = []
        """Constants in the order in which instructions read them."""
        self.loaded: dict[str, int] = {}
        """For each tensor that comes from main memory and stays on chip, the pixels that are there."""
        self._residency = residency or Residency()
        self._rings = {}
        for memory, words in constant_capacity(config).items():
            kept = self._residency.share(memory).words
            self._rings[memory] = Ring(words - kept, kept)
        self._constants = constants
        self._weights_on_chip = weights_on_chip
        self._bank = 1
        self._pixels = 0

    def layer(self, number: int, layer: DeviceLayer, tiling: Tiling, places: dict[str, Place]) -> None:
        """Emit a layer; ``places`` by role: ``source``, ``residual``, ``output``."""
        self._pixels = layer.middle.height * layer.middle.width
        _LayerEmitter(self, number, layer, tiling, places).emit()

    def next_bank(self) -> int:
        """Accumulator bank of the next tile."""
        self._bank ^= 1
        return self._bank

    def constant(
        self, number: int, memory: Memory, key: Hashable, words: int, make: Callable[[], npt.NDArray[Any]]
    ) -> int:
        """Address of constants on chip, after the loads that it takes to have them there.

        Parameters
        ----------
        key : hashable
            Equal for equal contents.
        words : int
            Words of ``memory``, except for a table: one.
        make : callable
            Gives the words.
        """
        self.uses.append(Use(memory, key, words, self._pixels))
        ring, setup = self._rings[memory], self._residency.setup
        scale = TABLE_ENTRIES // self.config.bus.data_bytes if memory is Memory.TABLE else 1

        def loads(address: int) -> list[Load]:
            size = memory_sizes(self.config)[memory][1]
            dram = self._constants.place(key, words * scale, size, make)
            return [Load(segment=Segment.CONSTANT, memory=memory, **asdict(t))
                    for t in line(self.config, dram, address * scale, words * scale, size)]

        address = self._residency.share(memory).kept.get(key)
        if address is not None:
            if (memory, key) not in setup:
                setup[memory, key] = loads(address)
        elif (address := ring.find(key)) is None:
            address = ring.put(key, words)
            if not self._weights_on_chip:
                self.emitted += [Emitted(load, number, constant=True) for load in loads(address)]
        return address * scale


class _LayerEmitter:
    """Emits one layer."""

    def __init__(self, run: Emitter, number: int, layer: DeviceLayer, tiling: Tiling, places: dict[str, Place]):
        self._run, self._config = run, run.config
        self._number, self._layer, self._tiling = number, layer, tiling
        self._geometry = Geometry(run.config, layer)
        self._source = self._input("source", places)
        self._residual = None if layer.residual is None else self._input("residual", places)
        self._output = OutputOperand(run.config, layer.target, places["output"], self._emit)
        self._counted: dict[tuple[int, ConvPiece], bool] = {}
        # Parameters of the whole layer at once, if they leave room for those of a neighbour.
        groups = -(-layer.output.channels // run.config.post.lanes)
        self._whole_parameters = groups if BUFFERS * groups <= run.config.memory.parameter_groups else None

    def _input(self, role: str, places: dict[str, Place]) -> InputOperand:
        operand = self._geometry.operand(role)
        return InputOperand(self._config, operand, places[role], self._emit, self._run.loaded)

    def _emit(self, instruction: Instruction) -> None:
        self._run.emitted.append(Emitted(instruction, self._number))

    def emit(self) -> None:
        layer, outer = self._layer, self._tiling.channels_outer
        for tile in self._geometry.tiles(self._tiling):
            bank = self._run.next_bank() if layer.conv is not None else 0
            source = self._source.need(self._geometry.source_piece(tile))
            piece = self._geometry.output_piece(tile, outer)
            if self._geometry.form is None:
                fields = self._activation_source(tile, source)
            else:
                self._convolve(self._geometry.form, tile, source, bank)
                fields = self._accumulator_source(tile, bank)
            if self._residual is not None:
                needed = self._geometry.residual_piece(tile, outer)
                fields |= self._residual_steps(tile, self._residual.need(needed))
            if layer.table is not None:
                fields["table_index"] = self._table(layer.table)
            output = self._output.room(piece)
            self._post(tile, fields | self._output_steps(tile, output))
            if outer or tile.last_of_rect:
                self._output.done(output, piece)

    def _convolve(self, form: ConvForm, tile: Tile, source: Region, bank: int) -> None:
        """EXEC instructions of a tile, each with the weights that it uses."""
        middle = self._geometry.middle(tile.rect)
        first, count = tile.chunk.columns
        for piece in form.pieces(first, count, self._tiling.weight_words):
            for part in range(len(self._layer.convs)):
                if part and not self._counts(form, part, piece):
                    continue
                weights = self._run.constant(self._number, Memory.WEIGHT, (self._layer.name, piece, part),
                                             form.words(piece), partial(form.pack, part, piece))
                self._emit(Exec(
                    **form.fields(piece, middle, source),
                    pad_value=self._layer.pad_value, accumulate=int(piece.accumulate or part > 0), bank=bank,
                    weight_address=weights, column_tiles=piece.tiles,
                    accumulator_address=(piece.tile - first) * middle.pixels,
                ))

    def _counts(self, form: ConvForm, part: int, piece: ConvPiece) -> bool:
        """Whether a part of wide weights has any but zeros for what an EXEC computes."""
        key = part, piece
        if key not in self._counted:
            self._counted[key] = bool(form.pack(part, piece).any())
        return self._counted[key]

    def _accumulator_source(self, tile: Tile, bank: int) -> dict[str, int]:
        """Fields of POST that say where it finds a tile in the accumulators, and its parameters."""
        form, middle, window = self._geometry.form, self._geometry.middle(tile.rect), self._layer.window
        assert form is not None
        pitch_y, pitch_x = form.accumulator_pitches(middle)
        y, x = window.start(0, tile.rect.y), window.start(1, tile.rect.x)
        return {
            "source": Source.ACCUMULATOR,
            "bank": bank,
            "source_address": wrap(self._config, (y - middle.y) * pitch_y + (x - middle.x) * pitch_x),
            "source_tile_step": middle.pixels,
            **self._source_steps(pitch_y, pitch_x),
            "parameter_address": self._parameter_address(tile),
        }

    def _activation_source(self, tile: Tile, source: Region) -> dict[str, int]:
        """Fields of POST that say where it finds a tile in the activations."""
        layer, window = self._layer, self._layer.window
        y, x = window.start(0, tile.rect.y), window.start(1, tile.rect.x)
        y, pitch_y = _repeated(y, source.pitch_y, layer.source.height, layer.middle.height)
        x, pitch_x = _repeated(x, source.pitch_x, layer.source.width, layer.middle.width)
        return {
            "source": Source.ACTIVATION,
            "source_address": wrap(self._config, source.word(y, x, tile.chunk.words[0])),
            "source_tile_step": 1,
            **self._source_steps(pitch_y, pitch_x),
        }

    def _residual_steps(self, tile: Tile, region: Region) -> dict[str, int]:
        """Fields of POST that say where it finds the residual of a tile."""
        operand, output = self._geometry.operand("residual"), self._layer.output
        y, pitch_y = _repeated(tile.rect.y, region.pitch_y, operand.height, output.height)
        x, pitch_x = _repeated(tile.rect.x, region.pitch_x, operand.width, output.width)
        return {"residual_address": region.word(y, x, tile.chunk.words[0]),
                "residual_y_step": pitch_y, "residual_x_step": pitch_x}

    def _output_steps(self, tile: Tile, region: Region) -> dict[str, int]:
        """Fields of POST that say where it writes a tile."""
        at, rect = self._layer.at, tile.rect
        return {"output_address": region.word(rect.y + at.y, rect.x + at.x, tile.chunk.words[0] + at.t),
                "output_y_step": region.pitch_y, "output_x_step": region.pitch_x}

    def _parameter_address(self, tile: Tile) -> int:
        first, count = tile.chunk.groups
        parameters = self._layer.parameters
        assert parameters is not None
        low, words = (first, count) if self._whole_parameters is None else (0, self._whole_parameters)
        address = self._run.constant(self._number, Memory.PARAMETER, (self._layer.name, low, words), words,
                                     partial(pack_parameters, self._config, parameters, low, words))
        return address + first - low

    def _table(self, table: bytes) -> int:
        words = TABLE_ENTRIES // self._config.bus.data_bytes
        address = self._run.constant(self._number, Memory.TABLE, table, 1, partial(np.frombuffer, table, np.uint8))
        return address // words

    def _post(self, tile: Tile, fields: dict[str, int]) -> None:
        # A layer for which all rules are the same takes one that there is.
        rounding = RoundingCode[self._config.post.roundings[0].name]
        if self._config.post.pools:
            fields |= self._window(tile)
        self._emit(Post(
            **{"rounding": rounding, **self._layer.post}, **fields,
            output_height=tile.rect.height, output_width=tile.rect.width, groups=tile.chunk.groups[1],
        ))

    def _window(self, tile: Tile) -> dict[str, int]:
        """Fields of POST that place its windows in the source."""
        window, rect, middle = self._layer.window, tile.rect, self._layer.middle
        return {
            "source_height": middle.height, "source_width": middle.width,
            "first_y": window.start(0, rect.y), "first_x": window.start(1, rect.x),
            "window_height": window.kernel[0], "window_width": window.kernel[1],
            "stride_y": window.stride[0], "stride_x": window.stride[1],
            "dilation_y": window.dilation[0], "dilation_x": window.dilation[1],
        }

    def _source_steps(self, pitch_y: int, pitch_x: int) -> dict[str, int]:
        """Steps of POST's source over rows and pixels of given pitches."""
        window = self._layer.window
        steps = {
            "source_y_step": wrap(self._config, window.stride[0] * pitch_y),
            "source_x_step": wrap(self._config, window.stride[1] * pitch_x),
        }
        if self._config.post.pools:
            steps["window_y_step"] = wrap(self._config, window.dilation[0] * pitch_y)
            steps["window_x_step"] = wrap(self._config, window.dilation[1] * pitch_x)
        return steps


def _repeated(first: int, pitch: int, size: int, wanted: int) -> tuple[int, int]:
    """First position along an axis, and step, of an operand of some size; of one that is repeated 0."""
    return (first, pitch) if size == wanted else (0, 0)
