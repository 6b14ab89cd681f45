# SPDX-License-Identifier: Apache-2.0
"""The front of LOAD and STORE where one burst of one instruction is under way at a time."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.utils import exact_log2

from .bus_timing import single_transfers
from .config import AcceleratorConfig
from .transfer_front import TransferFront, first_beat, row_beats

__all__ = ["SingleFront", "front_class"]


class SingleFront(TransferFront):
    """:class:`~.transfer_front.TransferFront` for ``in_flight`` and ``bus.outstanding`` at 1, at the same cycles.

    The fields stay where they are until the instruction is done, and the counters are those of the burst that is
    under way: ``burst.p`` stays as it is until the burst has ended.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.config.bus
        fields = self.instruction.p
        low = exact_log2(bus.burst_beats)

        begin, ended, under_way, outstanding = Signal(), Signal(), Signal(), Signal()
        taken, issue = Signal(), Signal()
        # Of the burst: its first beat and that of its row; beats of the row from there on, and rows up to this one.
        address = Signal(bus.address_bits - exact_log2(bus.data_bytes), reset_less=True)
        row = Signal.like(address)
        beats = row_beats(self.config, self.beats, fields, windows=self.windows)
        left = Signal(len(beats), reset_less=True)
        rows = Signal.like(fields.rows)
        # What is left of the row behind the next multiple of the longest burst; none, or less, if the row ends first.
        rest = Signal(signed(max(len(left), low + 1) + 1))
        row_ends, row_begins = Signal(), Signal()
        origin = Signal.like(address)
        m.d.comb += [
            self.instruction.ready.eq(self.words.ready & ~self.stop),
            taken.eq(self.instruction.valid & self.instruction.ready),
            self.words.valid.eq(taken),
            *(self.words.p[name].eq(fields[name]) for name in self.words.p.shape().members),
            # One adder: a sign in place of the upper bits makes it ``- bus.burst_beats``.
            rest.eq(left + Cat(address[:low], Const(1)).as_signed()),
            row_ends.eq(rest[-1] | ~rest.any()),
            row_begins.eq(begin | row_ends),
            origin.eq(Mux(begin, first_beat(self, fields), row + fields.dram_stride[exact_log2(bus.data_bytes):])),
            issue.eq((begin | (ended & ~self.burst.p.last)) & ~self.stop),
            self.burst.p.address.eq(Cat(Const(0, exact_log2(bus.data_bytes)), address)),
            self.burst.p.length.eq(Mux(row_ends, (left - 1)[:low], ~address[:low])),
            self.burst.p.last.eq(row_ends & (rows == fields.rows)),
            self.under_way.eq(under_way & ~self.stop),
            self.busy.eq(outstanding | self.under_way),
        ]
        m.d.sync += [
            begin.eq(taken),
            ended.eq(self.burst_ends),
            under_way.eq(taken | (under_way & ~self.done)),
            outstanding.eq(issue | (outstanding & ~self.burst_ends)),
            self.fresh.eq(issue),
        ]
        with m.If(self.burst.ready):
            m.d.sync += self.burst.valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                self.burst.valid.eq(1),
                address.eq(Mux(row_begins, origin, Cat(Const(0, low), address[low:] + 1))),
                left.eq(Mux(row_begins, beats, rest)),
            ]
            with m.If(row_begins):
                m.d.sync += row.eq(origin)
            with m.If(begin):
                m.d.sync += rows.eq(1)
            with m.Elif(row_ends):
                m.d.sync += rows.eq(rows + 1)
        return m


def front_class(config: AcceleratorConfig) -> type[TransferFront]:
    """The front that a configuration has a use for."""
    return SingleFront if single_transfers(config) else TransferFront
