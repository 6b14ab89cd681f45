# SPDX-License-Identifier: Apache-2.0
"""From responses to bytes on the line."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .link_format import CRC_BYTES, END
from .memory import Memory
from .serial_crc import SerialCrc

__all__ = ["LinkTransmitter"]

_HALF_BITS = 8


class LinkTransmitter(wiring.Component):
    """Build a frame while the one before is sent, and keep the last response, see :mod:`~.link_format`.

    The buffer has two halves, one of which always holds the last response; a frame is built in the other one. COBS
    needs the distance to the next zero where a zero would be: it is written there when that zero comes, so each byte
    costs one write and nothing is moved. The zero behind a frame stands in the buffer as well; there sending ends.

    Latency
    -------
    A byte takes nine cycles, the end 40, if the line is free.

    Members
    -------
    free : ``Out(1)``
        A frame can be begun, or the last one repeated.
    start : ``In(1)``
        Pulse, while ``free``: the first byte follows. Once more while ``i.ready``: only the CRC begins anew.
    i : ``In(stream.Signature(8))``
    aside : ``In(1)``
        The byte counts for the CRC, and is not written.
    drain : ``In(1)``
        With ``aside``: the byte does not count; ``crc`` goes on to the next byte of the CRC.
    crc : ``Out(8)``
        Lowest byte of the CRC of the bytes since ``start``, while ``i.ready``.
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
            "free": Out(1), "start": In(1), "i": In(stream.Signature(8)), "aside": In(1), "drain": In(1), "crc": Out(8),
            "finish": In(1), "keep": In(1), "resend": In(1), "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        m.submodules.buffer = buffer = Memory(2 << _HALF_BITS, 8)
        sending, half = self._send(m, buffer)

        kept, keep, again = (Signal(reset_less=True) for _ in range(3))
        place = Signal(_HALF_BITS, reset_less=True)
        distance = Signal(_HALF_BITS, reset_less=True)
        byte = Signal(8)
        put = Signal()
        zero = Signal()
        m.d.comb += [
            self.crc.eq(~crc.state[:8]),
            crc.i.payload.eq(byte),
            zero.eq(byte == 0),
            # A zero is not written; in the place of the one before goes the distance between them.
            buffer.write.mask.eq(1),
            buffer.write.address.eq(Cat(Mux(zero, place - distance, place)[:_HALF_BITS], ~kept)),
            buffer.write.data.eq(Mux(zero, distance, byte)),
            buffer.write.valid.eq(put),
        ]
        with m.If(put):
            m.d.sync += [place.eq(place + 1), distance.eq(Mux(zero, 0, distance) + 1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.free.eq(~(sending & (half != kept)) & crc.i.ready)
                m.d.sync += [place.eq(1), distance.eq(1), again.eq(self.resend)]
                with m.If(self.start):
                    m.d.comb += crc.clear.eq(1)
                    m.next = "BODY"
                with m.Elif(self.resend):
                    m.next = "SEND"
            with m.State("BODY"):
                m.d.comb += [
                    byte.eq(self.i.payload),
                    crc.i.valid.eq(self.i.valid),
                    crc.drain.eq(self.drain),
                    self.i.ready.eq(crc.i.ready),
                    put.eq(self.i.valid & crc.i.ready & ~self.aside),
                ]
                m.d.comb += crc.clear.eq(self.start)
                with m.If(self.finish):
                    m.d.sync += keep.eq(self.keep)
                    m.next = "CRC"
            self._end(m, crc, buffer, Cat(place, ~kept), byte, put)
            with m.State("SEND"), m.If(~sending):
                m.d.sync += [sending.eq(1), half.eq(Mux(again, kept, ~kept))]
                with m.If(keep & ~again):
                    m.d.sync += kept.eq(~kept)
                m.next = "IDLE"
        return m

    def _end(
        self, m: Module, crc: SerialCrc, buffer: Memory, place: Value, byte: Signal, put: Signal
    ) -> None:
        """Put the CRC, the last distance and the end behind what was built."""
        left = Signal(range(CRC_BYTES), init=CRC_BYTES - 1)
        with m.State("CRC"):
            m.d.comb += [byte.eq(self.crc), crc.i.valid.eq(1), crc.drain.eq(1), put.eq(crc.i.ready)]
            with m.If(crc.i.ready):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "DISTANCE"
        with m.State("DISTANCE"):
            # The end is a zero too, and unlike others it is written.
            m.d.comb += [byte.eq(END), buffer.write.valid.eq(1)]
            m.next = "END"
        with m.State("END"):
            m.d.comb += [
                buffer.write.address.eq(place), buffer.write.data.eq(END), buffer.write.valid.eq(1),
            ]
            m.next = "SEND"

    def _send(self, m: Module, buffer: Memory) -> tuple[Signal, Signal]:
        """Sending: whether, and which half."""
        sending, half, there = Signal(), Signal(), Signal()
        place = Signal(_HALF_BITS)
        m.d.comb += [
            buffer.read.valid.eq(1),
            buffer.read.address.eq(Cat(place, half)),
            self.o.payload.eq(buffer.read.data),
            self.o.valid.eq(there),
        ]
        with m.If(there & self.o.ready):
            m.d.sync += [place.eq(place + 1), there.eq(0)]
            with m.If(buffer.read.data == END):
                m.d.sync += [sending.eq(0), place.eq(0)]
        with m.Else():
            m.d.sync += there.eq(sending)
        return sending, half
