# SPDX-License-Identifier: Apache-2.0
"""From rows of beats in main memory to AXI bursts."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import AcceleratorConfig

__all__ = ["AnnouncedLayout", "BurstSplitter"]

_ROWS_BITS = 16


class AnnouncedLayout(data.StructLayout):
    """A burst: ``address`` in bytes, ``length`` in beats less one; ``last``: the last burst of its rows."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"address": config.bus.address_bits, "length": 8, "last": 1})


class BurstSplitter(wiring.Component):
    """Cut ``rows`` rows of ``beats`` beats into bursts, in order.

    A burst ends at the end of a row, or at a multiple of ``config.bus.burst_beats`` beats; so it never crosses 4 KiB.
    :func:`tilewright_hdl.bus_timing.bursts` is its model.

    Latency
    -------
    The first burst is offered 2 cycles after the transfer of its rows, and then one burst a cycle. The next rows can be
    transferred in the cycle in which the last burst is offered for the first time. ``enable`` low delays a burst.

    Parameters
    ----------
    config : AcceleratorConfig
    beats_bits : int
        Width of ``beats``.

    Members
    -------
    i : ``In(stream.Signature(StructLayout({"address", "beats", "rows", "stride"})))``
        ``address`` of the first row and ``stride`` from row to row, both in beats; ``beats`` and ``rows`` at least 1.
    o : ``Out(stream.Signature(AnnouncedLayout(config)))``
    enable : ``In(1)``
        Whether a new burst may be offered in the next cycle. A burst that is offered stays so.
    issue : ``Out(1)``
        A new burst is offered in the next cycle.
    """

    i: stream.Interface
    o: stream.Interface
    enable: Signal
    issue: Signal

    def __init__(self, config: AcceleratorConfig, *, beats_bits: int):
        self._config = config
        self._beats_bits = beats_bits
        address_bits = config.bus.address_bits - exact_log2(config.bus.data_bytes)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "address": address_bits, "beats": beats_bits, "rows": _ROWS_BITS, "stride": address_bits,
            }))),
            "o": Out(stream.Signature(AnnouncedLayout(config))),
            "enable": In(1),
            "issue": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def beats_bits(self) -> int:
        return self._beats_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.config.bus
        low = exact_log2(bus.burst_beats)

        active = Signal()
        rows = Signal(self.i.p.shape())
        address = Signal.like(rows.address)
        left = Signal(self.beats_bits)

        room = Signal(low + 1)
        length = Signal(low + 1)
        row_ends = Signal()
        next_row = Signal.like(rows.address)
        m.d.comb += [
            room.eq(bus.burst_beats - address[:low]),
            row_ends.eq(left <= room),
            length.eq(Mux(row_ends, left, room)),
            next_row.eq(rows.address + rows.stride),
            self.i.ready.eq(~active),
            self.issue.eq(active & self.enable & (~self.o.valid | self.o.ready)),
        ]

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.issue):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.address.eq(Cat(Const(0, exact_log2(bus.data_bytes)), address)),
                self.o.p.length.eq(length - 1),
                self.o.p.last.eq(row_ends & (rows.rows == 1)),
                address.eq(Cat(Const(0, low), address[low:] + 1)),
                left.eq(left - length),
            ]
            with m.If(row_ends):
                m.d.sync += [
                    active.eq(rows.rows != 1),
                    rows.rows.eq(rows.rows - 1),
                    rows.address.eq(next_row),
                    address.eq(next_row),
                    left.eq(rows.beats),
                ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [active.eq(1), rows.eq(self.i.p), address.eq(self.i.p.address), left.eq(self.i.p.beats)]
        return m
