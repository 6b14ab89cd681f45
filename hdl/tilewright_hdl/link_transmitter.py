# SPDX-License-Identifier: Apache-2.0
"""From responses to bytes on the line."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .link_format import CRC_BYTES, DATA_BYTES, END
from .memory import Memory
from .serial_crc import SerialCrc
from .shift_counter import FIRST, stepped, steps

__all__ = ["LinkTransmitter"]

_HALF_BITS = 8
# Sequence and status around the data, then the CRC; what COBS has in front, and the end.
assert 2 + DATA_BYTES + CRC_BYTES + 2 < 1 << _HALF_BITS and END == 0


class LinkTransmitter(wiring.Component):
    """Build a frame while the one before is sent, and keep the last response, see :mod:`~.link_format`.

    The buffer has two halves, one of which always holds the last response; a frame is built in the other one. COBS
    needs the distance to the next zero where a zero would be: it is written there when that zero comes, so each byte
    costs one write and nothing is moved. The zero behind a frame stands in the buffer as well; there sending ends.

    Latency
    -------
    A byte takes nine cycles, the end 47, if the line is free.

    Members
    -------
    free : ``Out(1)``
        A frame can be begun, or the last one repeated.
    start : ``In(1)``
        Pulse, while ``free``: the first byte follows. Once more while ``i.ready``: only the CRC begins anew.
    i : ``In(stream.Signature(1))``
        Whole bytes, the lowest bit first.
    aside : ``In(1)``
        The byte counts for the CRC, and is not written.
    drain : ``In(1)``
        With ``aside``: the bit does not count; ``crc`` goes on to the next one.
    crc : ``Out(1)``
        Lowest bit of the CRC of the bytes since ``start``.
    finish : ``In(1)``
        Pulse, while ``i.ready``: send what was built.
    keep : ``In(1)``
        With ``finish``: it is the last response from now on.
    resend : ``In(1)``
        Pulse, while ``free``: send the last response again.
    o : ``Out(stream.Signature(8))``
        To the line.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "free": Out(1), "start": In(1), "i": In(stream.Signature(1)), "aside": In(1), "drain": In(1), "crc": Out(1),
            "finish": In(1), "keep": In(1), "resend": In(1), "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        m.submodules.buffer = buffer = Memory(2 << _HALF_BITS, 8)
        sending, half = self._send(m, buffer)

        kept, keep, again = (Signal(reset_less=True) for _ in range(3))
        byte = Signal(8, reset_less=True)
        bits = Signal(3)
        # A byte is whole; all that comes is the CRC, or the end behind it.
        full, closing, closed = Signal(), Signal(), Signal()
        left = Signal(range(CRC_BYTES + 1))
        moves, idle = Signal(), Signal()
        # The end is a zero too, and unlike others it is written.
        self._write(m, buffer, ~kept, byte, full, closed, restart=idle, stay=closing & (left == 0))
        m.d.comb += [
            self.crc.eq(~crc.state[0]),
            crc.clear.eq(self.start),
            crc.valid.eq(moves),
            crc.value.eq(self.i.payload),
            crc.drain.eq(self.drain | closing),
        ]
        m.d.sync += full.eq(0)
        with m.If(moves):
            m.d.sync += bits.eq(bits + 1)
            with m.If(~self.aside):
                m.d.sync += byte.eq(Cat(byte[1:], Mux(closing, self.crc & (left != 0), self.i.payload)))
                m.d.sync += full.eq(bits == 7)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), self.free.eq(~(sending & (half != kept)))]
                m.d.sync += again.eq(self.resend)
                with m.If(self.start):
                    m.next = "BODY"
                with m.Elif(self.resend):
                    m.next = "SEND"
            with m.State("BODY"):
                m.d.comb += [self.i.ready.eq(~full), moves.eq(self.i.valid & ~full)]
                m.d.sync += left.eq(CRC_BYTES)
                with m.If(self.finish):
                    m.d.sync += keep.eq(self.keep)
                    m.next = "CLOSING"
            with m.State("CLOSING"):
                m.d.comb += [closing.eq(1), moves.eq(~full)]
                with m.If(full):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 0):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += closed.eq(1)
                m.next = "SEND"
            with m.State("SEND"), m.If(~sending):
                m.d.sync += [sending.eq(1), half.eq(Mux(again, kept, ~kept))]
                with m.If(keep & ~again):
                    m.d.sync += kept.eq(~kept)
                m.next = "IDLE"
        return m

    def _write(self, m: Module, buffer: Memory, half: Value, byte: Signal, full: Signal, closed: Signal, *,
               restart: Signal, stay: Value) -> None:
        """Write what is ``full`` to ``half`` of the buffer, in COBS; ``closed``: the end; ``stay``: it comes next."""
        # Where the next byte goes, and where the last zero would be, so many bytes before.
        place, gap, distance = (Signal(_HALF_BITS, reset_less=True) for _ in range(3))
        zero = Signal()
        m.d.comb += [
            # A zero is not written; in the place of the one before goes the distance between them.
            zero.eq((byte == 0) & ~closed),
            buffer.write.mask.eq(1),
            buffer.write.valid.eq(full | closed),
            buffer.write.address.eq(Cat(Mux(zero, gap, place), half)),
            buffer.write.data.eq(Mux(zero, distance, byte)),
        ]
        with m.If(full):
            m.d.sync += distance.eq(Mux(zero, 0, distance) + 1)
            with m.If(zero):
                m.d.sync += gap.eq(place)
            with m.If(~stay):
                m.d.sync += place.eq(stepped(place))
        with m.If(restart):
            m.d.sync += [place.eq(steps(_HALF_BITS, 1)), gap.eq(FIRST), distance.eq(1)]

    def _send(self, m: Module, buffer: Memory) -> tuple[Signal, Signal]:
        """Sending: whether, and which half."""
        sending, half, there = Signal(), Signal(), Signal()
        place = Signal(_HALF_BITS, init=FIRST)
        m.d.comb += [
            buffer.read.valid.eq(1),
            buffer.read.address.eq(Cat(place, half)),
            self.o.payload.eq(buffer.read.data),
            self.o.valid.eq(there),
        ]
        m.d.sync += there.eq(sending & ~(there & self.o.ready))
        with m.If(there & self.o.ready):
            m.d.sync += place.eq(stepped(place))
            with m.If(buffer.read.data == END):
                m.d.sync += [sending.eq(0), place.eq(FIRST)]
        return sending, half
