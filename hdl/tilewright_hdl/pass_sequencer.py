# SPDX-License-Identifier: Apache-2.0
"""Front of the compute engine: from instructions to passes, and the weights of each pass into the array."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for
from .isa import ADDRESS_BITS, Exec, field_specs
from .isa_layout import instruction_layout
from .loop_nest import LoopNest
from .ports import MemoryRead

__all__ = ["COORDINATE", "PassLayout", "PassSequencer"]

_SPECS = {spec.name: spec for spec in field_specs(Exec)}


def _coordinate_bits() -> int:
    """Width of the farthest input row (or column) that an instruction can reach."""
    farthest = _SPECS["first_y"].high
    for count, step in (("output_height", "stride_y"), ("kernel_height", "dilation_y")):
        farthest += (_SPECS[count].high - 1) * _SPECS[step].high
    return 1 + farthest.bit_length()


COORDINATE = signed(_coordinate_bits())
"""Shape of an input row or column, padding included."""


class PassLayout(data.StructLayout):
    """One pass: all vectors of a tile against one tile of weights.

    Members
    -------
    instruction : ``StructLayout``
        The fields of the instruction that its passes share; see ``FIELDS``.
    address, y, x : 20, ``COORDINATE``, ``COORDINATE``
        Word, row and column of the first vector.
    first : 1
        First pass of the instruction.
    opens : 1
        First pass of a tile of output channels.
    last : 1
        Last pass of the instruction.
    bad : 1
        Its weights lie outside of the memory.
    """

    FIELDS = (
        "index", "bank", "accumulate", "pad_value", "output_height", "output_width", "input_height", "input_width",
        "stride_y", "stride_x", "output_y_step", "output_x_step", "accumulator_address",
    )

    def __init__(self) -> None:
        layout = instruction_layout(Exec)
        super().__init__({
            "instruction": data.StructLayout({name: layout[name].shape for name in self.FIELDS}),
            "address": ADDRESS_BITS,
            "y": COORDINATE,
            "x": COORDINATE,
            "first": 1,
            "opens": 1,
            "last": 1,
            "bad": 1,
        })


class PassSequencer(wiring.Component):
    """Take instructions apart into passes, and load the weights of each into the array's shadow registers.

    A pass is offered before all of its weights have arrived: whoever takes it in cycle t issues its first vector in
    cycle t + 2 at the earliest, and then they come just in time. The weights of the next pass are read from the cycle
    on in which ``swapped`` tells that the shadow registers are being left; the pass before must have been taken by
    then.

    Latency
    -------
    The first weights are read in the cycle after the transfer of the instruction.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(Exec)))``
    weight : ``Out(MemoryRead(...))``
        Must always be ready. Its data is for the array, in the cycle with ``load``.
    load, load_first : ``Out(1)``
        For the array.
    passes : ``Out(stream.Signature(PassLayout()))``
    swapped : ``In(1)``
        In the cycle before, the first vector of a pass was issued.
    stop : ``In(1)``
        Level: begin nothing new.
    active : ``Out(1)``
        A pass is at hand that has not been taken.
    """

    instruction: Any
    weight: Any
    load: Signal
    load_first: Signal
    passes: Any
    swapped: Signal
    stop: Signal
    active: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Exec))),
            "weight": Out(MemoryRead(bits_for(config.weight_words), 8 * config.array.columns)),
            "load": Out(1),
            "load_first": Out(1),
            "passes": Out(stream.Signature(PassLayout())),
            "swapped": In(1),
            "stop": In(1),
            "active": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        current = Signal(instruction_layout(Exec), reset_less=True)
        begin = Signal()
        reading = Signal()
        row = Signal(range(self._config.array.rows))
        final_row = Signal()
        take = Signal()
        finish = Signal()
        nest = self._nest(m, current, take)
        bad = self._weights(m, begin, reading, final_row, take)

        # The rows of a tile, last one first. The next tile may be begun in the cycle after the last row.
        vacant = Signal(init=1)
        m.d.comb += [
            begin.eq(self.active & ~self.passes.valid & (row == 0) & (vacant | self.swapped) & ~self.stop),
            reading.eq(begin | (row != 0)),
            final_row.eq(row == self._config.array.rows - 1),
        ]
        with m.If(reading):
            m.d.sync += row.eq(Mux(final_row, 0, row + 1))
        m.d.sync += [
            vacant.eq((vacant | self.swapped) & ~begin),
            self.load.eq(reading),
            self.load_first.eq(begin),
        ]

        # Two cycles lie between taking a pass and its first vector, and one between a vector and its weights.
        with m.If(reading & (row == self._config.array.rows - 4)):
            m.d.sync += self.passes.valid.eq(1)
        with m.Elif(finish):
            m.d.sync += self.passes.valid.eq(0)

        # A new instruction may come in with the last row, but not before: that is read for the old one.
        m.d.comb += [
            self.instruction.ready.eq(~self.active & ((row == 0) | final_row) & ~self.stop),
            take.eq(self.instruction.valid & self.instruction.ready),
            finish.eq(self.passes.valid & self.passes.ready),
            nest.advance.eq(finish),
            self.passes.p.bad.eq(bad),
        ]
        with m.If(take):
            m.d.sync += [current.eq(self.instruction.p), self.active.eq(1)]
        with m.Elif(finish & nest.done):
            m.d.sync += self.active.eq(0)

        return m

    def _nest(self, m: Module, current: Any, take: Signal) -> LoopNest:
        """Add the loops over the passes of an instruction, and describe the pass that they stand at."""
        step = unsigned(ADDRESS_BITS)
        m.submodules.nest = nest = LoopNest(
            {
                "tile": _SPECS["column_tiles"].bits,
                "ky": _SPECS["kernel_height"].bits,
                "kx": _SPECS["kernel_width"].bits,
                "channel": _SPECS["channel_tiles"].bits,
            },
            {
                "address": (unsigned(ADDRESS_BITS), {"ky": step, "kx": step, "channel": unsigned(1)}),
                "y": (COORDINATE, {"ky": unsigned(_SPECS["dilation_y"].bits)}),
                "x": (COORDINATE, {"kx": unsigned(_SPECS["dilation_x"].bits)}),
            },
        )
        description = self.passes.p
        m.d.comb += [
            nest.load.eq(take),
            nest.start.address.eq(self.instruction.p.input_address),
            nest.start.y.eq(self.instruction.p.first_y),
            nest.start.x.eq(self.instruction.p.first_x),
            nest.count.tile.eq(current.column_tiles),
            nest.count.ky.eq(current.kernel_height),
            nest.count.kx.eq(current.kernel_width),
            nest.count.channel.eq(current.channel_tiles),
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
        for name in PassLayout.FIELDS:
            m.d.comb += description.instruction[name].eq(current[name])
        return nest

    def _weights(self, m: Module, begin: Signal, reading: Signal, final_row: Signal, take: Signal) -> Signal:
        """Add the reads of the weights; the signal tells whether those of the tile are outside of the memory."""
        rows = self._config.array.rows
        # One bit more than an instruction's address has, so that a tile at the end does not wrap to the beginning.
        address = Signal(ADDRESS_BITS + 1)
        outside = Signal()
        bad = Signal()
        m.d.comb += [
            outside.eq(address >= self._config.weight_words),
            self.weight.valid.eq(reading & ~outside),
            self.weight.address.eq(address),
        ]
        with m.If(take):
            m.d.sync += address.eq(self.instruction.p.weight_address + (rows - 1))
        with m.Elif(reading):
            # From the first word of a tile to the last of the next.
            m.d.sync += address.eq(address + Mux(final_row, 2 * rows - 1, -1))
        with m.If(begin):
            # The tile's highest address is the first.
            m.d.sync += bad.eq(outside)
        return bad
