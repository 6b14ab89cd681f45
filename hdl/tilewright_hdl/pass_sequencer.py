# SPDX-License-Identifier: Apache-2.0
"""Front of the compute engine: from instructions to passes, and the weights of each pass into the array."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for
from .held import fields_of
from .isa import Exec
from .isa_layout import instruction_layout
from .loop_nest import LoopNest
from .ports import MemoryRead
from .timing import LEAST_LOAD

__all__ = ["PassLayout", "PassSequencer", "coordinate"]


def coordinate(config: AcceleratorConfig) -> Shape:
    """Shape of an input row or column. They wrap, so that negative ones are beyond all sizes."""
    return unsigned(config.limits.size_bits + 1)


class PassLayout(data.StructLayout):
    """One pass: all vectors of a tile against one tile of weights.

    Members
    -------
    instruction : ``StructLayout``
        The fields of the instruction that its passes share; see ``FIELDS``. With ``config.in_flight`` at 1 they stand
        there until the instruction is done.
    address, y, x : ``config.limits.address_bits``, ``coordinate(config)``, ``coordinate(config)``
        Word, row and column of the first vector.
    first : 1
        First pass of the instruction.
    opens : 1
        First pass of a tile of output channels.
    last : 1
        Last pass of the instruction.
    bad : 1
        Its weights lie outside of the memory.
    slice : ``range(config.array.slices)``
        Which part of a word the pixels are taken from.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    """

    FIELDS = (
        "index", "bank", "accumulate", "pad_value", "output_height", "output_width", "input_height", "input_width",
        "stride_y", "stride_x", "output_y_step", "output_x_step", "accumulator_address", "depthwise", "kernel_width",
        "overlap",
    )

    def __init__(self, config: AcceleratorConfig):
        layout = instruction_layout(config, Exec)
        super().__init__({
            "instruction": layout.only(self.FIELDS),
            "address": config.limits.address_bits,
            "y": coordinate(config),
            "x": coordinate(config),
            "first": 1,
            "opens": 1,
            "last": 1,
            "bad": 1,
            "slice": range(config.array.slices),
        })


class PassSequencer(wiring.Component):
    """Take instructions apart into passes, and load the weights of each into the array's shadow registers.

    A pass is offered before all of its weights have arrived: whoever takes it in cycle t issues its first vector in
    cycle t + 2 at the earliest, and then they come just in time. The weights of the next pass are read from the cycle
    on in which ``swapped`` tells that the shadow registers are being left; the pass before must have been taken by
    then. The rows behind a tile of fewer words are filled with zeros, unless they hold zeros already.

    For pairs there are no shadow registers, and the weights of a pass are read from the cycle with ``swapped`` on. The
    next pass is offered when its first vector could not be there before the last of them.

    Latency
    -------
    The first weights are read in the cycle after the transfer of the instruction; for pairs, the first pass is offered
    then.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, Exec)))``
    weight : ``Out(MemoryRead(...))``
        Must always be ready. Its data is for the array, in the cycle with ``load``.
    load, load_first : ``Out(1)``
        For the array.
    zero : ``Out(1)``
        Beside ``load``: load a row of zeros, in place of what was read.
    passes : ``Out(stream.Signature(PassLayout(config)))``
    swapped : ``In(1)``
        A pass's first vector was issued in the cycle before, or the last pixel of a pass in the one before that.
    stop : ``In(1)``
        Level: begin nothing new.
    active : ``Out(1)``
        A pass is at hand that has not been taken.
    """

    instruction: Any
    weight: Any
    load: Signal
    load_first: Signal
    zero: Signal
    passes: Any
    swapped: Signal
    stop: Signal
    active: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, Exec))),
            "weight": Out(MemoryRead(bits_for(config.weight_words), 8 * config.array.columns)),
            "load": Out(1),
            "load_first": Out(1),
            "zero": Out(1),
            "passes": Out(stream.Signature(PassLayout(config))),
            "swapped": In(1),
            "stop": In(1),
            "active": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        take = Signal()
        finish = Signal()
        current = fields_of(m, self._config, self.instruction, take)
        nest = self._nest(m, current, take, finish)
        load = self._follow if self._config.array.pairs else self._load
        free = load(m, current, take, finish)
        m.d.comb += [
            self.instruction.ready.eq(~self.active & free & ~self.stop),
            take.eq(self.instruction.valid & self.instruction.ready),
            finish.eq(self.passes.valid & self.passes.ready),
        ]
        with m.If(take):
            m.d.sync += self.active.eq(1)
        with m.Elif(finish & nest.done):
            m.d.sync += self.active.eq(0)

        return m

    def _follow(self, m: Module, current: Any, take: Signal, finish: Signal) -> Value:
        """Add the reads of weights behind the swaps; gives whether the next instruction may come in."""
        rows, offered = self._config.array.rows, self.instruction.p
        row = Signal(range(rows))
        reading = Signal()
        final_row = Signal()
        near_end = Signal()
        # Of the first word to be read, and of the first of the pass that is offered; one bit more, as above.
        address = Signal(len(self.weight.address))
        tile = Signal(len(offered.weight_address) + 1)
        untouched = Signal()
        m.d.comb += [
            reading.eq(self.swapped | (row != 0)),
            final_row.eq(row == rows - 1),
            near_end.eq(row == rows - LEAST_LOAD),
            self.weight.valid.eq(reading),
            self.weight.address.eq(address),
            self.passes.valid.eq(self.active & (~untouched | near_end)),
            self.passes.p.bad.eq(tile > self._config.weight_words - rows),
        ]
        with m.If(reading):
            m.d.sync += row.eq(Mux(final_row, 0, row + 1))
        with m.If(finish):
            m.d.sync += untouched.eq(1)
        with m.Elif(near_end):
            m.d.sync += untouched.eq(0)
        with m.If(take):
            m.d.sync += [address.eq(offered.weight_address), tile.eq(offered.weight_address)]
        with m.Else():
            m.d.sync += [address.eq(address + reading), tile.eq(tile + Mux(finish, rows, 0))]
        return ~untouched & ((row == 0) | final_row)

    def _load(self, m: Module, current: Any, take: Signal, finish: Signal) -> Value:
        """Add the loads of weights ahead of the swaps; gives whether the next instruction may come in."""
        rows = self._config.array.rows
        begin = Signal()
        reading = Signal()
        row = Signal(range(rows))
        at = Signal.like(row)
        final_row = Signal()
        start, zero = self._extent(m, current, begin, at)
        bad = self._weights(m, current, begin, reading & ~zero, final_row, take)

        # The rows of a tile, last one first. The next tile may be begun in the cycle after the last row.
        vacant = Signal(init=1)
        offered = Signal()
        m.d.comb += [
            begin.eq(self.active & ~offered & (row == 0) & (vacant | self.swapped) & ~self.stop),
            at.eq(Mux(begin, start, row)),
            reading.eq(begin | (row != 0)),
            final_row.eq(at == rows - 1),
        ]
        with m.If(reading):
            m.d.sync += row.eq(Mux(final_row, 0, at + 1))
        m.d.sync += [
            vacant.eq((vacant | self.swapped) & ~begin),
            self.load.eq(reading),
            self.load_first.eq(begin),
            self.zero.eq(zero),
        ]

        # Two cycles lie between taking a pass and its first vector, and one between a vector and its weights.
        m.d.comb += self.passes.valid.eq(offered | (reading & (at == rows - LEAST_LOAD)))
        m.d.sync += offered.eq(self.passes.valid & ~finish)

        m.d.comb += self.passes.p.bad.eq(bad)
        # A new instruction may come in with the last row, but not before: that is read for the old one.
        return (row == 0) | final_row

    def _depthwise(self, fields: Any) -> Value:
        """Whether columns filter channels of their own; nothing is built for it where they cannot."""
        depthwise: Value = fields.depthwise if self._config.array.depthwise else Const(0)
        return depthwise

    def _extent(self, m: Module, current: Any, begin: Signal, at: Signal) -> tuple[Value, Value]:
        """Rows that a load passes over at the start, and whether that which it stands at is filled with zeros."""
        rows = self._config.array.rows
        if not self._config.array.depthwise:
            return Const(0), Const(0)
        taps = Signal(range(rows + 1))
        filled = Signal(range(rows + 1), init=rows)
        start = Signal.like(at)
        m.d.comb += taps.eq(Mux(self._depthwise(current), current.kernel_width, rows))
        with m.If(taps >= filled):
            m.d.comb += start.eq(Mux(taps < LEAST_LOAD, rows - LEAST_LOAD, rows - taps))
        with m.If(begin):
            m.d.sync += filled.eq(taps)
        return start, at < rows - taps

    def _nest(self, m: Module, current: Any, take: Signal, finish: Signal) -> LoopNest:
        """Add the loops over the passes of an instruction, and describe the pass that they stand at."""
        offered, depthwise = self.instruction.p, self._depthwise(current)
        layout = offered.shape()
        step, place = unsigned(self._config.limits.address_bits), coordinate(self._config)
        steps = {"ky": step, "kx": step, "channel": unsigned(1)}
        if self._config.array.depthwise:
            steps["tile"] = unsigned(1)
        m.submodules.nest = nest = LoopNest(
            {
                "tile": layout.width("column_tiles"),
                "ky": layout.width("kernel_height"),
                "kx": layout.width("kernel_width"),
                "channel": layout.width("channel_tiles"),
            },
            {
                "address": (step, steps),
                "y": (place, {"ky": unsigned(layout.width("dilation_y"))}),
                "x": (place, {"kx": unsigned(layout.width("dilation_x"))}),
            },
            held=self._config.in_flight == 1,
        )
        description = self.passes.p
        for count, fields in ((nest.first_count, offered), (nest.count, current)):
            m.d.comb += [
                count.tile.eq(fields.column_tiles),
                count.ky.eq(fields.kernel_height),
                count.kx.eq(Mux(self._depthwise(fields), 1, fields.kernel_width)),
                count.channel.eq(fields.channel_tiles),
            ]
        m.d.comb += [
            nest.load.eq(take),
            nest.advance.eq(finish),
            nest.start.address.eq(offered.input_address),
            nest.start.y.eq(offered.first_y),
            nest.start.x.eq(offered.first_x + Mux(self._depthwise(offered), offered.overlap, 0)),
            nest.step.address_ky.eq(current.kernel_y_step),
            nest.step.address_kx.eq(current.kernel_x_step),
            nest.step.address_channel.eq(1),
            nest.step.y_ky.eq(current.dilation_y),
            nest.step.x_kx.eq(current.dilation_x),
            description.address.eq(nest.value.address),
            description.y.eq(nest.value.y),
            description.x.eq(nest.value.x),
            description.opens.eq(nest.first.ky & nest.first.kx & nest.first.channel),
            description.first.eq(description.opens & nest.first.tile),
            description.last.eq(nest.done),
        ]
        for name in description.instruction.shape().members:
            m.d.comb += description.instruction[name].eq(current[name])
        # From pixel to pixel it is a kernel column's step, whatever the stride.
        with m.If(depthwise):
            m.d.comb += description.instruction.output_x_step.eq(current.kernel_x_step)

        if self._config.array.depthwise:
            self._parts(m, nest, depthwise, take, finish)
        return nest

    def _parts(self, m: Module, nest: LoopNest, depthwise: Value, take: Signal, finish: Signal) -> None:
        """Add the count of the tiles of a word, which come before those of the next."""
        part = Signal(range(self._config.array.slices))
        whole = Signal()
        m.d.comb += [
            whole.eq(part == self._config.array.slices - 1),
            self.passes.p.slice.eq(part),
            nest.step.address_tile.eq(depthwise & whole),
        ]
        with m.If(take):
            m.d.sync += part.eq(0)
        with m.Elif(finish & nest.last.ky & nest.last.kx & nest.last.channel):
            m.d.sync += part.eq(Mux(whole, 0, part + 1))

    def _weights(
        self, m: Module, current: Any, begin: Signal, reading: Value, final_row: Signal, take: Signal
    ) -> Signal:
        """Add the reads of the weights; the signal tells whether those of the tile are outside of the memory."""
        def words(fields: Any) -> Value:
            return Mux(self._depthwise(fields), fields.kernel_width, self._config.array.rows)

        # One bit more than an instruction's address has, so that a tile at the end does not wrap to the beginning.
        address = Signal(len(current.weight_address) + 1)
        outside = Signal()
        bad = Signal()
        m.d.comb += [
            outside.eq(address >= self._config.weight_words),
            self.weight.valid.eq(reading & ~outside),
            self.weight.address.eq(address),
        ]
        with m.If(take):
            m.d.sync += address.eq(self.instruction.p.weight_address + words(self.instruction.p) - 1)
        with m.Elif(reading):
            # From the first word of a tile to the last of the next.
            m.d.sync += address.eq(address + Mux(final_row, Cat(1, words(current) - 1), -1))
        # The tile's highest address is the first.
        found = Signal()
        m.d.comb += bad.eq(Mux(begin, outside, found))
        m.d.sync += found.eq(bad)
        return bad
