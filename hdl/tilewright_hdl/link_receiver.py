# SPDX-License-Identifier: Apache-2.0
"""From bytes on the line to requests in a buffer."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .link_format import CRC_BYTES, CRC_RESIDUE, END, FRAME_BYTES, HEADER_BYTES, RECEIVE_BYTES
from .memory import Memory
from .serial_crc import SerialCrc

__all__ = ["LinkReceiver"]


class LinkReceiver(wiring.Component):
    """Check frames and keep the good ones, see :mod:`~.link_format`.

    A frame is written to the buffer as it comes, behind the place of its length; only with its end, and if its CRC is
    right, is the length written and the frame there for the reader. A damaged frame, one of wrong length, or one that
    begins while half of the buffer is in use leaves no trace; after power is on, all before the first end is such.

    Latency
    -------
    The first byte is offered three cycles after the end of the frame; then one every two cycles.

    Members
    -------
    valid : ``In(1)``
        Pulse: ``data`` came from the line. At most every tenth cycle.
    data : ``In(8)``
    o : ``Out(stream.Signature(8))``
        Frame by frame: the number of its bytes and one more, then its bytes, CRC included.
    """

    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({"valid": In(1), "data": In(8), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        m.submodules.buffer = buffer = Memory(RECEIVE_BYTES, 8)
        address = range(RECEIVE_BYTES)
        begin, end = Signal(address), Signal(address)
        self._read(m, buffer, begin)

        used = Signal(address)
        # Of the frame, with the place of its length.
        length = Signal(address, init=1, reset_less=True)
        fresh = Signal(init=1)
        bad = Signal()
        # Bytes until the next one that stands for a zero.
        distance = Signal(8, reset_less=True)
        put = Signal()
        good = Signal()
        half = exact_log2(RECEIVE_BYTES) - 1
        m.d.comb += [
            used.eq(begin - self._reader),
            end.eq(begin + length),
            good.eq(~fresh & ~bad & (length > HEADER_BYTES + CRC_BYTES) & (crc.state == CRC_RESIDUE)),
            buffer.write.data.eq(Mux(distance == 0, 0, self.data)),
            buffer.write.address.eq(end),
            buffer.write.mask.eq(1),
            crc.i.payload.eq(buffer.write.data),
            crc.i.valid.eq(put),
        ]
        with m.If(self.valid & (self.data == END)):
            m.d.comb += [
                buffer.write.valid.eq(good), buffer.write.address.eq(begin), buffer.write.data.eq(length),
                crc.clear.eq(1),
            ]
            m.d.sync += [length.eq(1), fresh.eq(1), bad.eq(0)]
            with m.If(good):
                m.d.sync += begin.eq(end)
        with m.Elif(self.valid):
            m.d.sync += [fresh.eq(0), distance.eq(Mux(fresh | (distance == 0), self.data, distance) - 1)]
            m.d.comb += [put.eq(~fresh & ~bad), buffer.write.valid.eq(put)]
            with m.If(put):
                m.d.sync += length.eq(length + 1)
            # With the byte behind the longest frame, `length` is out of its range; with fewer than half in use, there
            # is room for a whole frame.
            with m.If((length > FRAME_BYTES) | (fresh & used[half])):
                m.d.sync += bad.eq(1)
        return m

    def _read(self, m: Module, buffer: Memory, committed: Signal) -> None:
        self._reader = reader = Signal(committed.shape())
        there = Signal()
        m.d.comb += [
            buffer.read.valid.eq(1),
            buffer.read.address.eq(reader),
            self.o.payload.eq(buffer.read.data),
            self.o.valid.eq(there),
        ]
        with m.If(there & self.o.ready):
            m.d.sync += [reader.eq(reader + 1), there.eq(0)]
        with m.Else():
            m.d.sync += there.eq(reader != committed)
