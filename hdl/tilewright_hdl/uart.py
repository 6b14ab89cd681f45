# SPDX-License-Identifier: Apache-2.0
"""Bytes on a serial line: eight bits, no parity, one stop bit."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .link_format import UartTiming

__all__ = ["UartReceiver", "UartTransmitter"]

SYNCHRONIZER_CYCLES = 2


class UartReceiver(wiring.Component):
    """Bytes from a line. A byte without its stop bit is dropped.

    Each bit is sampled in its middle, counted from the edge of the start bit; with ``c`` cycles a bit the sender may be
    off by (0.5 - 1/c) / 9.5, so by 2 % with 4 cycles and 3.9 % with 8, our own error of up to 0.25 % included.

    Latency
    -------
    ``valid`` comes in the middle of the stop bit, three cycles late.

    Parameters
    ----------
    timing : :class:`~.link_format.UartTiming`

    Members
    -------
    rx : ``In(1)``
        The line, in no relation to the clock.
    bit_valid, bit_value : ``Out(1)``
        Pulse: a bit of a byte, the lowest first.
    valid : ``Out(1)``
        Pulse: ``data`` is there, in this cycle only. Without its stop bit a byte has bits, and no ``valid``.
    data : ``Out(8)``
    """

    def __init__(self, timing: UartTiming):
        self._timing = timing
        super().__init__({
            "rx": In(1, init=1), "bit_valid": Out(1), "bit_value": Out(1), "valid": Out(1), "data": Out(8),
        })

    @property
    def timing(self) -> UartTiming:
        return self._timing

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, increment = self.timing.phase_bits, self.timing.increment
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1, stages=SYNCHRONIZER_CYCLES)
        phase = Signal(bits, reset_less=True)
        tick = Signal()
        busy = Signal()
        # Start, eight bits, and a one in front of them that arrives at the bottom when all are in.
        shift = Signal(10, reset_less=True)
        first = Signal()
        m.d.comb += [
            first.eq(shift == 1 << 9),
            self.bit_value.eq(line),
            self.bit_valid.eq(tick & ~shift[0] & ~first),
            self.data.eq(shift[2:]),
            self.valid.eq(tick & shift[0] & line),
        ]
        with m.If(busy):
            m.d.comb += tick.eq((phase + increment)[bits])
            m.d.sync += phase.eq(phase + increment)
            with m.If(tick):
                m.d.sync += shift.eq(Cat(shift[1:], line))
                # The end, or a start that was only a spike.
                with m.If(shift[0] | (first & line)):
                    m.d.sync += busy.eq(0)
        with m.Else():
            m.d.sync += [phase.eq(1 << (bits - 1)), shift.eq(1 << 9), busy.eq(~line)]
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line, without a gap while there are more.

    Parameters
    ----------
    timing : :class:`~.link_format.UartTiming`

    Members
    -------
    i : ``In(stream.Signature(8))``
    tx : ``Out(1)``
        The line, from a register.
    """

    i: stream.Interface

    def __init__(self, timing: UartTiming):
        self._timing = timing
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    @property
    def timing(self) -> UartTiming:
        return self._timing

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, increment = self.timing.phase_bits, self.timing.increment
        phase = Signal(bits, reset_less=True)
        tick = Signal()
        busy = Signal()
        # What is left of start, eight bits and stop; nothing is left when the stop bit is the lowest.
        shift = Signal(10, reset_less=True)
        last = Signal()
        m.d.comb += [last.eq(~shift[1:].any()), self.i.ready.eq(~busy | (tick & last))]
        m.d.sync += self.tx.eq(~busy | shift[0])
        with m.If(busy):
            m.d.comb += tick.eq((phase + increment)[bits])
            m.d.sync += phase.eq(phase + increment)
        with m.If(self.i.ready):
            m.d.sync += [busy.eq(self.i.valid), shift.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))]
        with m.Elif(tick):
            m.d.sync += shift.eq(shift[1:])
        with m.If(~busy):
            m.d.sync += phase.eq(0)
        return m
